package ctlog_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/ctlog"
	"github.com/passmuster/muster/internal/audit"
)

func TestNothingIsFoundWhereNothingWasChanged(t *testing.T) {
	w := newWorld(t)
	for _, n := range []int{0, 1, 1, 254, 1, 700, 3000} {
		w.issue(n)
		w.step()
		r := w.verify(nil)
		if len(r.Findings) > 0 || r.Leaves != uint64(w.issued) || r.Certificates != w.issued || r.Behind != 0 {
			t.Fatalf("%d certificates: %+v", w.issued, r)
		}
	}
	w.issue(7)
	if r := w.verify(nil); r.Found != 0 || r.Behind != 7 || !r.Oldest.Equal(w.now) {
		t.Fatalf("seven rows wait: %+v", r)
	}
}

func TestWhatWasChangedIsFound(t *testing.T) {
	const rows = 600
	kinds := func(k ...ctlog.Kind) []ctlog.Kind { return k }
	tests := map[string]struct {
		tamper func(*world)
		want   []ctlog.Kind
		says   string
	}{
		"a certificate off the record, put into the inventory by hand": {
			func(w *world) {
				w.update(func(tx ca.Tx) error { return tx.InsertCertificate(w.certificate(90001)) })
			}, kinds(ctlog.CertificateNotLogged), "no leaf tells of its issuing",
		},
		"a certificate taken out of the inventory": {
			func(w *world) { w.byHand("DELETE FROM certificates WHERE registration_id = 'dev-5'") },
			kinds(ctlog.CertificateMissing), "",
		},
		"a certificate and its row taken out": {
			func(w *world) {
				w.byHand("DELETE FROM certificates WHERE registration_id = 'dev-5'")
				w.byHand("DELETE FROM ledger WHERE subject = 'registration:dev-5'")
			}, kinds(ctlog.CertificateMissing, ctlog.RowMissing), "certificate.issued of registration:dev-5",
		},
		"a certificate exchanged for another": {
			func(w *world) {
				w.byHand("UPDATE certificates SET der = x'00' WHERE registration_id = 'dev-5'")
			}, kinds(ctlog.CertificateChanged), "",
		},
		"a row that says something else": {
			func(w *world) { w.byHand("UPDATE ledger SET actor = 'operator:nobody' WHERE seq = 17") },
			kinds(ctlog.RowChanged), "by operator:nobody",
		},
		"a row with other facts": {
			func(w *world) { w.byHand("UPDATE ledger SET body = x'7b7d' WHERE seq = 17") },
			kinds(ctlog.RowChanged), "with other facts",
		},
		"the first row taken out": {
			func(w *world) { w.byHand("DELETE FROM ledger WHERE seq = 1") },
			kinds(ctlog.RowMissing), "registration:dev-0",
		},
		"the last rows taken out": {
			func(w *world) { w.byHand("DELETE FROM ledger WHERE seq > 590") },
			kinds(ctlog.RowMissing), "registration:dev-599",
		},
		"a row put among old ones": {
			func(w *world) {
				w.byHand("INSERT INTO ledger (seq, at, actor, action, subject, body) VALUES (-3, 1, 'operator:x', 'hub.linked', 'hub:y', x'7b7d')")
			}, kinds(ctlog.RowNotLogged), "hub.linked of hub:y",
		},
		"a leaf's file edited": {
			func(w *world) {
				w.edit("tile/entries/001", func(b []byte) []byte { return bytes.Replace(b, []byte("dev-300"), []byte("dev-3OO"), 1) })
			}, kinds(ctlog.LeafChanged), "leaf 300",
		},
		"a tile edited": {
			func(w *world) {
				w.edit("tile/0/001", func(b []byte) []byte { b[32*44] ^= 1; return b })
			}, kinds(ctlog.LeafChanged, ctlog.TreeDiffers), "leaf 300",
		},
		"a checkpoint without the log's signature": {
			func(w *world) {
				w.edit("checkpoint", func(b []byte) []byte { b[len(b)-5] ^= 1; return b })
			}, kinds(ctlog.BadSignature), "checkpoint",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.issue(rows)
			w.step()
			tt.tamper(w)
			r := w.verify(nil)
			got := map[ctlog.Kind]bool{}
			said := ""
			for _, f := range r.Findings {
				got[f.Kind] = true
				said += f.Object + ": " + f.Detail + "\n"
			}
			for _, k := range tt.want {
				if !got[k] {
					t.Errorf("%s was not found", k)
				}
				delete(got, k)
			}
			if len(got) > 0 || !strings.Contains(said, tt.says) {
				t.Errorf("found also %v; said:\n%s", got, said)
			}
		})
	}
}

func TestAKeptCheckpointExposesARewrittenLog(t *testing.T) {
	// The operator has the database, the folder and the key: what he makes anew is whole in
	// itself, and only who kept a checkpoint can tell.
	tests := map[string]struct {
		rewrite func(*world)
		want    ctlog.Kind // "" for none
	}{
		"not at all": {func(w *world) { w.issue(5) }, ""},
		"without a row": {func(w *world) {
			w.byHand("DELETE FROM ledger WHERE seq = 17")
			w.byHand("DELETE FROM certificates WHERE position = 17")
		}, ctlog.RolledBack},
		"with another row": {func(w *world) {
			w.byHand("UPDATE ledger SET actor = 'operator:nobody' WHERE seq = 17")
		}, ctlog.Forked},
		"with another row, and longer": {func(w *world) {
			w.byHand("UPDATE ledger SET actor = 'operator:nobody' WHERE seq = 17")
			w.issue(300)
		}, ctlog.Forked},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.issue(300)
			w.step()
			kept := must(w.log().Checkpoint())
			tt.rewrite(w)
			w.check(os.RemoveAll(w.dir))
			w.seq = w.sequencer()
			w.step()
			if r := w.verify(nil); r.Found != 0 {
				t.Fatalf("without a kept checkpoint: %+v", r.Findings)
			}
			r := w.verify(&kept)
			if tt.want == "" && r.Found == 0 {
				return
			}
			if r.Found != 1 || r.Findings[0].Kind != tt.want {
				t.Fatalf("found %+v", r.Findings)
			}
		})
	}
}

func TestALogOfNothingIsWhole(t *testing.T) {
	w := newWorld(t)
	w.step()
	c := must(w.log().Checkpoint())
	if c.Size != 0 || w.verify(&c).Found != 0 {
		t.Fatalf("%+v %+v", c, w.verify(&c))
	}
	w.issue(3)
	w.step()
	if r := w.verify(&c); r.Found != 0 || r.Leaves != 3 {
		t.Fatalf("%+v", r)
	}
}

func TestALongBodyStandsByItsHash(t *testing.T) {
	w := newWorld(t)
	long := audit.Event{At: w.now, Actor: "operator:o", Action: audit.TwinUpdated, Subject: "twin:x", Body: []byte(`"` + strings.Repeat("x", 100_000) + `"`)}
	w.update(func(tx ca.Tx) error { return tx.Append(long) })
	w.step()
	if r := w.verify(nil); r.Found != 0 || r.Leaves != 1 {
		t.Fatalf("%+v", r)
	}
	if n := len(must(os.ReadFile(filepath.Join(w.dir, "tile", "entries", "000.p", "1")))); n > 200 {
		t.Fatalf("a bundle of %d bytes", n)
	}
	w.byHand("UPDATE ledger SET body = x'7b7d'")
	if r := w.verify(nil); r.Found != 1 || !strings.Contains(r.Findings[0].Detail, "other facts") {
		t.Fatalf("%+v", r)
	}
}
