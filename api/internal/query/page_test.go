package query

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/passmuster/muster/verify"
)

// A page ends where it has all that was asked for, and where it has become too long.
func TestAPageIsBounded(t *testing.T) {
	var ids []verify.RegistrationID
	for i := range 1000 {
		id, err := verify.ParseRegistrationID(fmt.Sprintf("d-%04d", i))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	most := 0
	listing := func(length int) Listing[verify.RegistrationID] {
		text := strings.Repeat("x", length)
		return Listing[verify.RegistrationID]{
			Read: func(_ context.Context, after verify.RegistrationID, limit int) ([]verify.RegistrationID, error) {
				most = max(most, limit)
				begin := 0
				if !after.IsZero() {
					begin = 1 + slices.Index(ids, after)
				}
				return ids[begin:min(begin+limit, len(ids))], nil
			},
			ID: func(id verify.RegistrationID) verify.RegistrationID { return id },
			View: func(id verify.RegistrationID) (any, error) {
				return map[string]string{"id": id.String(), "text": text}, nil
			},
		}
	}
	for name, tt := range map[string]struct {
		length, size int
		pages        []int // items, of the first pages
	}{
		"as many as were asked for":       {1, 600, []int{600, 400}},
		"all":                             {1, 1000, []int{1000}},
		"fewer, when they are long":       {100_000, 1000, slices.Concat(slices.Repeat([]int{21}, 47), []int{13})},
		"one, when one is all that fits":  {maxText, 1000, []int{1, 1, 1}},
		"fewer still, when few are asked": {100_000, 2, []int{2, 2, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			var pages []int
			for after := (verify.RegistrationID{}); len(pages) == 0 || !after.IsZero() && len(pages) < len(tt.pages); {
				p, err := collect(t.Context(), Query{size: tt.size}, listing(tt.length), after)
				if err != nil {
					t.Fatal(err)
				}
				pages, after = append(pages, len(p.items)), p.last
			}
			if !slices.Equal(pages, tt.pages) {
				t.Errorf("pages of %v, want %v", pages, tt.pages)
			}
		})
	}
	if most > maxBatch {
		t.Errorf("%d rows were read at once", most)
	}
}
