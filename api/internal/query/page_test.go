package query

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/fault"
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

// A query that names its rows reads no others, however many there are.
func TestRowsThatAreNamedAreReadAlone(t *testing.T) {
	var read []string
	listing := Listing[string]{
		Read: func(context.Context, verify.RegistrationID, int) ([]string, error) {
			read = append(read, "all")
			return nil, nil
		},
		One: func(_ context.Context, id verify.RegistrationID) (string, error) {
			read = append(read, id.String())
			if id.String() == "gone" {
				return "", fault.New(fault.NotFound, "", "")
			}
			return id.String(), nil
		},
		Key:  "deviceId",
		ID:   func(s string) verify.RegistrationID { return must(verify.ParseRegistrationID(s)) },
		View: func(s string) (any, error) { return map[string]string{"deviceId": s, "status": "enabled"}, nil },
	}
	for text, want := range map[string]struct {
		size        int
		read, found string
	}{
		"deviceId = 'B'": {9, "b", "b"},
		"deviceId IN ['c', 'a', 'B', 'b', 'gone', 'no id', 7]": {9, "a b c gone", "a b c"},
		"deviceId IN ['c', 'a', 'b']":                          {2, "a b c c", "a b|c"},
		"deviceId IN ['a', 'b'] AND status = 'disabled'":       {9, "a b", ""},
		"status = 'enabled' AND (deviceId = 'a')":              {9, "a", "a"},
		"deviceId = 'a' AND deviceId = 'b'":                    {9, "a", ""},
		"deviceId = 'a' OR status = 'enabled'":                 {9, "all", ""},
		"deviceId != 'a'":                                      {9, "all", ""},
		"tags.deviceId = 'a'":                                  {9, "all", ""},
		"status = 'enabled'":                                   {9, "all", ""},
	} {
		q := Query{size: want.size, where: must(parse("SELECT * WHERE " + text)).where}
		read = nil
		var pages []string
		for after := (verify.RegistrationID{}); len(pages) == 0 || !after.IsZero(); {
			p := must(collect(t.Context(), q, listing, after))
			var ids []string
			for _, item := range p.items {
				ids = append(ids, fieldsOf(item)["deviceId"].(string))
			}
			pages, after = append(pages, strings.Join(ids, " ")), p.last
		}
		if got := strings.Join(pages, "|"); got != want.found || strings.Join(read, " ") != want.read {
			t.Errorf("%s: read %q, found %q", text, read, got)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
