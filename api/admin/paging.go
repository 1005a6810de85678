package admin

import (
	"strconv"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// Paging are the parameters of a list.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"At most so many items."`
	Cursor string `query:"cursor" maxLength:"512" doc:"The next of the page before."`
}

// page is one page of a list. Next is empty at the end.
type page[T any] struct {
	Items []T    `json:"items" nullable:"false"`
	Next  string `json:"next,omitempty" doc:"The cursor of the next page; absent at the end."`
}

type listed[T any] struct{ Body page[T] }

// cursor is the key of the last item of a page. It is opaque to callers, and good for
// the list it came from alone, in this id scope.
func cursor(e *provisioning.Engine, list, key string) string {
	return e.Cursor("admin "+list, key)
}

// after is the key behind which the page begins, "" at the start.
func (p Paging) after(e *provisioning.Engine, list string) (string, error) {
	if p.Cursor == "" {
		return "", nil
	}
	key, err := e.AfterCursor("admin "+list, p.Cursor)
	if err != nil {
		return "", badCursor()
	}
	return key, nil
}

// afterID is after for lists ordered by registration id, zero at the start.
func (p Paging) afterID(e *provisioning.Engine, list string) (id verify.RegistrationID, err error) {
	key, err := p.after(e, list)
	if key == "" || err != nil {
		return id, err
	}
	if id, err = verify.ParseRegistrationID(key); err != nil {
		return id, badCursor()
	}
	return id, nil
}

// before is after for lists ordered by falling number, 0 at the start.
func (p Paging) before(e *provisioning.Engine, list string) (int64, error) {
	key, err := p.after(e, list)
	if key == "" || err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(key, 10, 64)
	if err != nil || n < 1 {
		return 0, badCursor()
	}
	return n, nil
}

func badCursor() error {
	return fault.New(fault.Malformed, "cursor", "this is not a cursor of this list: take the next of its last page")
}

// pageOf makes a page of rows, one more of which were asked for than it holds: the
// surplus one says that there is another page.
func pageOf[R, T any](e *provisioning.Engine, rows []R, limit int, list string, key func(R) string, view func(R) (T, error)) (*listed[T], error) {
	out := &listed[T]{}
	if len(rows) > limit {
		rows = rows[:limit]
		out.Body.Next = cursor(e, list, key(rows[limit-1]))
	}
	out.Body.Items = make([]T, 0, len(rows))
	for _, r := range rows {
		item, err := view(r)
		if err != nil {
			return nil, err
		}
		out.Body.Items = append(out.Body.Items, item)
	}
	return out, nil
}

// pageOfAll pages a short list that is read whole; rows are in order of their keys.
func pageOfAll[R, T any](e *provisioning.Engine, rows []R, p Paging, list string, key func(R) string, view func(R) (T, error)) (*listed[T], error) {
	after, err := p.after(e, list)
	if err != nil {
		return nil, err
	}
	for len(rows) > 0 && key(rows[0]) <= after {
		rows = rows[1:]
	}
	return pageOf(e, rows, p.Limit, list, key, view)
}
