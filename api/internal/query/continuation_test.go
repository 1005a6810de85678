package query

import (
	"path/filepath"
	"testing"

	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
)

// A reader of continuations takes what strangers write, and believes its own alone.
func FuzzContinuation(f *testing.F) {
	kek, err := seal.CreateKEK(filepath.Join(f.TempDir(), "kek.pem"), nil)
	if err != nil {
		f.Fatal(err)
	}
	e := provisioning.New(provisioning.Config{IDScope: "0ne00000001", Box: seal.NewBox(kek), Now: testkit.Now})
	const list = "enrollments|SELECT *"
	good := e.Cursor(list, "press-1")
	for _, seed := range []string{"", good, e.Cursor("enrollments|*", "press-1"), e.Cursor(list, "not an id"), good[1:], good + "A", good + "="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := begin(e, list, text)
		if err == nil && !id.IsZero() && text != good {
			t.Errorf("%q continues behind %s", text, id)
		}
	})
}
