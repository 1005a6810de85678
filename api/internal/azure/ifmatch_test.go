package azure

import (
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

func TestEntityTagsInEverySpelling(t *testing.T) {
	version, anything := provisioning.Precondition{Version: 5}, provisioning.Precondition{Any: true}
	for spelled, want := range map[string]provisioning.Precondition{
		`"5"`: version, `5`: version, `W/"5"`: version, `W/5`: version, ` "5" `: version, `"*"`: anything, `*`: anything,
		``: {}, ` `: {}, `""`: {Version: never}, `W/""`: {Version: never}, `W/`: {Version: never}, `"`: {Version: never}, `x`: {Version: never}, `-5`: {Version: never}, `0`: {Version: never},
		`99999999999999999999`: {Version: never}, `""5""`: {Version: never},
	} {
		if got, err := ParseIfMatch(spelled); err != nil || got != want {
			t.Errorf("If-Match %s is %+v (%v), want %+v", spelled, got, err, want)
		}
	}
	if _, err := ParseIfMatch(`"5", "6"`); !fault.Is(err, fault.Malformed) {
		t.Errorf("a list of ETags gave %v", err)
	}
}
