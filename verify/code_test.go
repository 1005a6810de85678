package verify_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify"
)

func TestCodesAreReadAsPeopleTypeThem(t *testing.T) {
	text, hash, err := verify.NewCode(bytes.NewReader([]byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}))
	if err != nil || text != "mec_008j4ct4ank7f24snaxwsqfezw" || hash != sha256.Sum256([]byte(text)) {
		t.Fatalf("%s, %x, %v", text, hash, err)
	}
	for typed, good := range map[string]bool{
		text:                                   true,
		strings.ToUpper(text):                  true,
		" " + text + "\n":                      true,
		"mec_oo8j-4ct4-ank7-f24s-naxw-sqfe-zw": true,
		text[:len(text)-1]:                     false,
		text + "0":                             false,
		text[4:]:                               false,
		"":                                     false,
		"mec_":                                 false,
		"mec_008j4ct4ank7f24snaxwsqfez!":       false,
		"mec_u08j4ct4ank7f24snaxwsqfezw":       false,
		text + strings.Repeat("-", 99):         false,
	} {
		if got, is := verify.ParseCode(typed); is != good || is && got != hash {
			t.Errorf("%q: %v, %x", typed, is, got)
		}
	}
	if other, _, _ := verify.NewCode(rand.Reader); other == text {
		t.Error("two codes are the same")
	}
	if _, _, err := verify.NewCode(bytes.NewReader(nil)); err == nil {
		t.Error("a code was made of nothing")
	}
}

func TestWhoACodeSpeaksFor(t *testing.T) {
	now := testkit.Now()
	id := func(s string) verify.RegistrationID {
		x, err := verify.ParseRegistrationID(s)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	hash := verify.CodeHash{1}
	kept := verify.KeptCode{Hash: hash, ID: id("dev-1"), Expires: now.Add(time.Second)}
	spent := kept
	spent.UsedAt = now.Add(-time.Minute)
	tests := map[string]struct {
		ev   verify.CodeEvidence
		kept verify.KeptCode
		at   time.Time
		rule string
	}{
		"its device":                         {verify.CodeEvidence{ID: id("dev-1"), Code: hash}, kept, now, ""},
		"its device, spelled otherwise":      {verify.CodeEvidence{ID: id("DEV-1"), Code: hash}, kept, now, ""},
		"its device, at the end":             {verify.CodeEvidence{ID: id("dev-1"), Code: hash}, kept, now.Add(time.Second), "code-expired"},
		"its device, just before":            {verify.CodeEvidence{ID: id("dev-1"), Code: hash}, kept, now.Add(time.Second - 1), ""},
		"another device":                     {verify.CodeEvidence{ID: id("dev-2"), Code: hash}, kept, now, "code-for-other-device"},
		"nobody":                             {verify.CodeEvidence{Code: hash}, verify.KeptCode{Hash: hash, Expires: now.Add(time.Hour)}, now, "code-for-other-device"},
		"its device by another code":         {verify.CodeEvidence{ID: id("dev-1"), Code: verify.CodeHash{2}}, kept, now, "code-unknown"},
		"nothing on record":                  {verify.CodeEvidence{ID: id("dev-1")}, verify.KeptCode{ID: id("dev-1"), Expires: now.Add(time.Hour)}, now, "code-unknown"},
		"its device, spent":                  {verify.CodeEvidence{ID: id("dev-1"), Code: hash}, spent, now, "code-spent"},
		"the request it was spent on":        {verify.CodeEvidence{ID: id("dev-1"), Code: hash, Repeats: spent.UsedAt}, spent, now, ""},
		"that request, the code expired":     {verify.CodeEvidence{ID: id("dev-1"), Code: hash, Repeats: spent.UsedAt}, spent, now.Add(time.Minute), ""},
		"another request of that device's":   {verify.CodeEvidence{ID: id("dev-1"), Code: hash, Repeats: spent.UsedAt.Add(1)}, spent, now, "code-spent"},
		"a repeated request with a new code": {verify.CodeEvidence{ID: id("dev-1"), Code: hash, Repeats: now.Add(-time.Hour)}, kept, now, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := verify.Code(tt.ev, tt.kept, tt.at)
			if fault.RuleOf(err) != tt.rule || (err == nil) == got.IsZero() {
				t.Fatalf("%v, %v", got, err)
			}
			if err != nil {
				if !fault.Is(err, fault.Unauthenticated) {
					t.Errorf("the refusal is %v", fault.KindOf(err))
				}
				return
			}
			if got.ID() != tt.kept.ID || got.Mechanism() != verify.MechanismCode || got.Path() != nil {
				t.Errorf("%s by %s", got.ID(), got.Mechanism())
			}
		})
	}
}

func FuzzParseCode(f *testing.F) {
	f.Add("mec_008j4ct4ank7f24snaxwsqfezw")
	f.Add("MEC_OIL0-")
	f.Add("mec_")
	f.Fuzz(func(t *testing.T, typed string) {
		hash, is := verify.ParseCode(typed)
		if is == hash.IsZero() {
			t.Errorf("%q: %v, %x", typed, is, hash)
		}
	})
}
