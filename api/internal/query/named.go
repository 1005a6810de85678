package query

import (
	"context"
	"slices"
	"strings"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// read is how the rows are read that a query may keep: those that its WHERE names by their
// ids, where it does, and else all.
func (l Listing[R]) read(q Query) func(ctx context.Context, after verify.RegistrationID, limit int) ([]R, error) {
	ids, named := named(q.where, l.Key)
	if !named || l.One == nil {
		return l.Read
	}
	return func(ctx context.Context, after verify.RegistrationID, limit int) (rows []R, err error) {
		for _, id := range ids {
			if id.String() <= after.String() || len(rows) == limit {
				continue
			}
			row, err := l.One(ctx, id)
			switch {
			case err == nil:
				rows = append(rows, row)
			case !fault.Is(err, fault.NotFound):
				return nil, err
			}
		}
		return rows, nil
	}
}

// named are the ids, in order, of all that a condition can hold for; false: any may be.
func named(where condition, key string) ([]verify.RegistrationID, bool) {
	switch c := where.(type) {
	case all:
		for _, part := range c {
			if ids, ok := named(part, key); ok {
				return ids, true
			}
		}
	case comparison:
		if c.unequal || !slices.Equal(c.field, []string{key}) {
			return nil, false
		}
		var ids []verify.RegistrationID
		for _, v := range c.values {
			text, _ := v.(string)
			if id, err := verify.ParseRegistrationID(text); err == nil { // others are nobody's
				ids = append(ids, id)
			}
		}
		slices.SortFunc(ids, func(a, b verify.RegistrationID) int { return strings.Compare(a.String(), b.String()) })
		return slices.Compact(ids), true
	}
	return nil, false
}
