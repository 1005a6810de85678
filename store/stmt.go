package store

import (
	"strconv"
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

// Stmt is a statement both engines understand, and what its refusals mean.
type Stmt struct {
	Text     string // parameters are ?
	Numbered string // parameters are $1, $2, …

	// Kept statements are prepared once on each connection. Others, whose text depends
	// on a filter, are not.
	Kept bool
	// Alone marks a read that is usually all a View does: where a transaction costs round
	// trips it is begun only if more follows.
	Alone bool

	// Apart marks a read that is whole in itself: nothing that follows in its View rests on
	// it, so it needs no snapshot with the rest, and a View of nothing else no transaction.
	Apart bool
	// Trust marks a write of what facts are made of: its transaction moves the epoch.
	Trust bool

	Unique  *fault.Error // a unique index refused the row
	Foreign *fault.Error // what the row refers to does not exist, or is still referred to
	Missed  *fault.Error // no row was touched; nil: that is fine
}

func statement(text string) *Stmt { return &Stmt{Text: text, Numbered: number(text), Kept: true} }

func (s *Stmt) trust() *Stmt                 { s.Trust = true; return s }
func (s *Stmt) apart() *Stmt                 { s.Apart = true; return s }
func (s *Stmt) alone() *Stmt                 { s.Alone = true; return s }
func (s *Stmt) unique(f *fault.Error) *Stmt  { s.Unique = f; return s }
func (s *Stmt) foreign(f *fault.Error) *Stmt { s.Foreign = f; return s }
func (s *Stmt) missed(f *fault.Error) *Stmt  { s.Missed = f; return s }

// number replaces each ? by $1, $2, … The texts of this package hold no ? in literals.
func number(text string) string {
	var b strings.Builder
	n := 0
	for part := range strings.SplitSeq(text, "?") {
		if n > 0 {
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
		}
		b.WriteString(part)
		n++
	}
	return b.String()
}

// marks is n parameters in a list.
func marks(n int) string {
	return strings.TrimSuffix(strings.Repeat("?, ", n), ", ")
}

// insert is the INSERT of a table's columns.
func insert(table string, c columns) string {
	return "INSERT INTO " + table + " (" + c.list("") + ") VALUES (" + marks(len(c)) + ")"
}

// set is the list of assignments of an UPDATE, but for the columns left out.
func set(c columns, but ...string) string {
	var b strings.Builder
next:
	for _, col := range c {
		for _, name := range but {
			if col.name == name {
				continue next
			}
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(col.name + " = ?")
	}
	return b.String()
}
