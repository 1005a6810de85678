package query

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

const (
	maxBody     = 128 << 10 // of the Azure-shaped doors (INV-R1)
	defaultPage = 100
	maxPage     = 1000
	// maxScan is how many rows one answer looks at for a WHERE. A query that finds little
	// gets short pages, with a continuation, and holds the database for no longer.
	maxScan = 5000
	// maxText is when a page is full, whatever its size: rows may have 128 KiB each. They are
	// read maxBatch at a time (INV-R6).
	maxText  = 2 << 20
	maxBatch = 128

	sizeHeader         = "x-ms-max-item-count"
	continuationHeader = "x-ms-continuation"
	typeHeader         = "x-ms-item-type"
)

// Query is one page asked for (§4.5).
type Query struct {
	text  string
	where condition
	size  int
	after string // continuation; "" is the beginning
}

// Read reads the body and the headers of a query. source is what may stand after FROM,
// "" anything; absent is the query of a request that has none, "" when it must have one.
// A query that cannot be answered is Malformed ("query", "page-size").
func Read(r *http.Request, source, absent string) (Query, error) {
	body := struct{ Query *string }{}
	text, err := wire.ReadBody(r, maxBody, wire.MediaTypeJSON)
	if err != nil {
		return Query{}, err
	}
	if text != nil || absent == "" {
		if err := wire.DecodeJSON(text, &body); err != nil {
			return Query{}, err
		}
	}
	q := Query{text: absent, size: defaultPage, after: r.Header.Get(continuationHeader)}
	if body.Query != nil {
		q.text = *body.Query
	}
	parsed, err := parse(q.text)
	if err != nil {
		return q, err
	}
	if source != "" && parsed.from != "" && !strings.EqualFold(parsed.from, source) {
		return q, badQuery("these are called " + source)
	}
	q.where = parsed.where
	if size := r.Header.Get(sizeHeader); size != "" {
		n, err := strconv.Atoi(size)
		if err != nil || n < 1 || n > maxPage {
			return q, fault.New(fault.Malformed, "page-size", "%s is a number from 1 to %d.", sizeHeader, maxPage)
		}
		q.size = n
	}
	return q, nil
}

// Listing is something that is read in the order of its ids.
type Listing[R any] struct {
	Name string // what a continuation is good for, beside its query
	Item string // x-ms-item-type
	Read func(ctx context.Context, after verify.RegistrationID, limit int) ([]R, error)
	ID   func(R) verify.RegistrationID
	View func(R) (any, error) // as it is answered, which is what a WHERE is about
	// One reads the row of an id, which is called Key in a WHERE; nil where no WHERE is short-cut by it.
	One func(ctx context.Context, id verify.RegistrationID) (R, error)
	Key string
}

// Page is one answer: its headers, and the JSON array that is its body.
type Page struct {
	Header http.Header
	Body   []byte
}

// Answer makes the page that is asked for.
func Answer[R any](ctx context.Context, e *provisioning.Engine, q Query, l Listing[R]) (Page, error) {
	list := l.Name + "|" + q.text
	after, err := begin(e, list, q.after)
	if err != nil {
		return Page{}, err
	}
	found, err := collect(ctx, q, l, after)
	if err != nil {
		return Page{}, err
	}
	header := http.Header{}
	header.Set(typeHeader, l.Item)
	header.Set(sizeHeader, strconv.Itoa(q.size))
	if !found.last.IsZero() {
		header.Set(continuationHeader, e.Cursor(list, found.last.String()))
	}
	return Page{header, append(append([]byte{'['}, bytes.Join(found.items, []byte{','})...), ']')}, nil
}

// begin is the id behind which a page begins; the zero id at the beginning.
func begin(e *provisioning.Engine, list, continuation string) (verify.RegistrationID, error) {
	if continuation == "" {
		return verify.RegistrationID{}, nil
	}
	last, err := e.AfterCursor(list, continuation)
	if err != nil {
		return verify.RegistrationID{}, err
	}
	return verify.ParseRegistrationID(last)
}

// found is JSON objects, and the id of the last row looked at if there are more behind it.
type found struct {
	items [][]byte
	last  verify.RegistrationID
}

// collect reads rows until the page is full, the rows are at their end, or enough of them
// were looked at.
func collect[R any](ctx context.Context, q Query, l Listing[R], after verify.RegistrationID) (found, error) {
	var p found
	read := l.read(q)
	looked, length := 0, 0
	for batch := 0; ; {
		batch = q.batch(len(p.items), batch)
		rows, err := read(ctx, after, batch)
		if err != nil {
			return p, err
		}
		for _, row := range rows {
			if len(p.items) == q.size || length >= maxText || looked == maxScan {
				p.last = after
				return p, nil
			}
			view, err := l.View(row)
			if err != nil {
				return p, err
			}
			item, err := json.Marshal(view)
			if err != nil {
				return p, err
			}
			if q.keeps(item) {
				p.items = append(p.items, item)
				length += len(item)
			}
			after = l.ID(row)
			looked++
		}
		if len(rows) < batch {
			return p, nil
		}
	}
}

// batch is how many rows to read next: one more than are wanted, which tells whether there
// is another page, and of a query that passes over rows ever more.
func (q Query) batch(found, last int) int {
	n := q.size - found + 1
	if q.where != nil {
		n = max(n, 2*last)
	}
	return min(n, maxBatch)
}

// keeps says whether an item, as it is answered, is among what the query asks for.
func (q Query) keeps(item []byte) bool {
	if q.where == nil {
		return true
	}
	return q.where.holds(fieldsOf(item))
}

// fieldsOf keeps numbers as they are written: JSON has some that no float64 is, and somebody
// may have stored one.
func fieldsOf(item []byte) (fields map[string]any) {
	decoder := json.NewDecoder(bytes.NewReader(item))
	decoder.UseNumber()
	if err := decoder.Decode(&fields); err != nil {
		panic("internal error: what was encoded does not decode: " + err.Error())
	}
	return fields
}
