package store

import "strings"

// where collects the conditions of a list. Lists go by key, never by offset, so that
// rows inserted meanwhile neither repeat nor hide others.
type where struct {
	terms []string
	args  []any
}

func (w *where) add(term string, args ...any) {
	w.terms = append(w.terms, term)
	w.args = append(w.args, args...)
}

// prefix keeps to keys that begin with p. Keys are ASCII, so the range ends before p
// followed by the highest byte a key could not hold.
func (w *where) prefix(key, p string) {
	if p != "" {
		w.add(key+" >= ? AND "+key+" < ?", p, p+"\x7f")
	}
}

// list is a SELECT of these rows in an order, at most limit of them.
func (w *where) list(selection, order string, limit int) (*Stmt, []any) {
	return w.text(selection, " ORDER BY "+order+" LIMIT ?"), append(w.args, atMost(limit))
}

// grouped is a SELECT that sums these rows up by a column, in its order.
func (w *where) grouped(selection, by string) (*Stmt, []any) {
	return w.text(selection, " GROUP BY "+by+" ORDER BY "+by), w.args
}

func (w *where) text(selection, rest string) *Stmt {
	if len(w.terms) > 0 {
		selection += " WHERE " + strings.Join(w.terms, " AND ")
	}
	s := statement(selection + rest)
	s.Kept = false
	return s
}

// maxPage bounds a page whose caller named no limit, or too large a one.
const maxPage = 1000

func atMost(limit int) int64 {
	if limit <= 0 || limit > maxPage {
		return maxPage
	}
	return int64(limit)
}
