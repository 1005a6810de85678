package admin

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
	"github.com/passmuster/muster/verify/tpm"
)

// listedEK is an endorsement key on the list of a group.
type listedEK struct {
	SHA256         string     `json:"sha256,omitempty" doc:"Of the endorsement key as a certificate has it (SubjectPublicKeyInfo, DER), in hex."`
	EndorsementKey string     `json:"endorsementKey,omitempty" writeOnly:"true" doc:"Or the key itself: TPM2B_PUBLIC with its length, in base64."`
	RegistrationID string     `json:"registrationId,omitempty" doc:"The one that its TPM registers as; whichever is free, without."`
	Since          *time.Time `json:"sinceDateTimeUtc,omitempty" readOnly:"true"`
}

type (
	ekList struct {
		EntryID
		Paging
	}
	ekChange struct {
		EntryID
		Body struct {
			Add    []listedEK `json:"add,omitempty" nullable:"false" maxItems:"1000" doc:"One that is listed already is written anew."`
			Remove []string   `json:"remove,omitempty" nullable:"false" maxItems:"1000" doc:"SHA-256 of the keys to take off; one that is not listed is passed over."`
		}
	}
	ekChanged struct {
		Added   int64 `json:"added"`
		Removed int64 `json:"removed"`
		Listed  int64 `json:"listed" doc:"How many are on the list now."`
	}
)

func (d *door) addEndorsementKeys(r entries[group]) {
	at := r.path + "/{id}/endorsementKeys"
	add(d, route{"list-endorsement-keys", http.MethodGet, at, policies.ScopeRead, "groups", "List the endorsement keys whose TPMs a group admits", false},
		func(ctx context.Context, in *ekList) (*listed[listedEK], error) { return d.listKeys(ctx, r, in) })
	add(d, route{"change-endorsement-keys", http.MethodPost, at, policies.ScopeEnroll, "groups", "Put endorsement keys on a group's list, or take them off: together at most 1000", false},
		func(ctx context.Context, in *ekChange) (*found[ekChanged], error) {
			o, err := r.owner(in.ID)
			if err != nil {
				return nil, err
			}
			keys, gone, err := in.read()
			if err != nil {
				return nil, err
			}
			c, err := d.Engine.ChangeListedKeys(ctx, actor(ctx), o.ID, keys, gone)
			if err != nil {
				return nil, err
			}
			return &found[ekChanged]{Body: ekChanged(c)}, nil
		})
}

func (d *door) listKeys(ctx context.Context, r entries[group], in *ekList) (*listed[listedEK], error) {
	o, err := r.owner(in.ID)
	if err != nil {
		return nil, err
	}
	list := "endorsement keys of " + o.ID.String()
	text, err := in.after(d.Engine, list)
	if err != nil {
		return nil, err
	}
	var after verify.Thumbprint
	if text != "" {
		if after, err = verify.ParseThumbprint(text); err != nil {
			return nil, badCursor()
		}
	}
	rows, err := d.Engine.ListedKeys(ctx, o.ID, verify.KeyHash(after), in.Limit+1)
	if err != nil {
		return nil, err
	}
	return pageOf(d.Engine, rows, in.Limit, list,
		func(k provisioning.ListedKey) string { return k.Key.String() },
		func(k provisioning.ListedKey) (listedEK, error) {
			return listedEK{SHA256: k.Key.String(), RegistrationID: k.ID.String(), Since: instant(k.Since)}, nil
		})
}

func (c *ekChange) read() (add []provisioning.ListedKey, remove []verify.KeyHash, err error) {
	for i, k := range c.Body.Add {
		read, err := k.read()
		if err != nil {
			return nil, nil, at(err, fmt.Sprintf("/add/%d", i))
		}
		add = append(add, read)
	}
	for i, text := range c.Body.Remove {
		digest, err := verify.ParseThumbprint(text)
		if err != nil {
			return nil, nil, at(err, fmt.Sprintf("/remove/%d", i))
		}
		remove = append(remove, verify.KeyHash(digest))
	}
	return add, remove, nil
}

func (k listedEK) read() (out provisioning.ListedKey, err error) {
	if k.RegistrationID != "" {
		if out.ID, err = verify.ParseRegistrationID(k.RegistrationID); err != nil {
			return out, err
		}
	}
	if (k.SHA256 == "") == (k.EndorsementKey == "") {
		return out, fault.New(fault.Malformed, tpm.RuleEndorsementKey, "say one of sha256 and endorsementKey")
	}
	if k.SHA256 != "" {
		digest, err := verify.ParseThumbprint(k.SHA256)
		out.Key = verify.KeyHash(digest)
		return out, err
	}
	raw, err := base64.StdEncoding.DecodeString(k.EndorsementKey)
	if err != nil {
		return out, fault.New(fault.Malformed, tpm.RuleEndorsementKey, "an endorsement key is written in base64").Because(err)
	}
	ek, err := tpm.ParseEndorsementKey(raw)
	out.Key = verify.KeyHashOf(ek.SPKI())
	return out, err
}
