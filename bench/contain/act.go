package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/passmuster/muster/test/instance"
	"github.com/passmuster/muster/verify"
)

// disallowed is one act: how long its preview and it took, and when it was answered.
type disallowed struct {
	id           string
	devices      int
	preview, act time.Duration
	at           time.Time
}

// disallow previews and acts.
func disallow(ctx context.Context, s *instance.Instance, what instance.Object) (d disallowed, err error) {
	var preview struct {
		Preview string
		Devices int
	}
	began := time.Now()
	if err := s.Call(ctx, http.MethodPost, "/disallowances/preview", what, &preview); err != nil {
		return d, err
	}
	d.preview, d.devices = time.Since(began), preview.Devices
	what["preview"] = preview.Preview
	var made struct{ ID string }
	began = time.Now()
	err = s.Call(ctx, http.MethodPost, "/disallowances", what, &made)
	d.at = time.Now()
	d.act, d.id = d.at.Sub(began), made.ID
	return d, err
}

// receipts waits until a disallowance is done.
func receipts(ctx context.Context, s *instance.Instance, d disallowed) (time.Duration, error) {
	for {
		var is struct {
			State   string
			Devices int
		}
		if err := s.Call(ctx, http.MethodGet, "/disallowances/"+d.id, nil, &is); err != nil {
			return 0, err
		}
		took := time.Since(d.at)
		switch {
		case is.State == "done" && is.Devices != d.devices:
			return took, fmt.Errorf("there are %d receipts of %d", is.Devices, d.devices)
		case is.State == "done":
			return took, nil
		case took > 5*time.Minute:
			return took, errors.New("the receipts do not come in")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// acts is how many certificates are disallowed one after the other, for a p99 of the act.
const acts = 40

// oneByOne disallows certificates of a CA's that were issued and never seen, and returns the p99
// of the act alone, which with so few is the longest.
func oneByOne(ctx context.Context, s *instance.Instance, base string) (time.Duration, error) {
	var took []time.Duration
	for n := range acts {
		stray, err := newDevice(base, fmt.Sprintf("stray-%02d", n))
		if err != nil {
			return 0, err
		}
		d, err := disallow(ctx, s, instance.Object{"certificate": pemOf(stray.tls.Certificate[0])})
		if err != nil {
			return 0, err
		}
		took = append(took, d.act)
	}
	return slices.Max(took), nil
}

// revokedAtOnce disallows a leaf of ours, and returns how long after the act's answer the responder
// said so: at the first question, or it is an error.
func revokedAtOnce(ctx context.Context, acted, asked *instance.Instance, d device) (time.Duration, error) {
	leaf, issuer, err := d.leaf(asked)
	if err != nil {
		return 0, err
	}
	if is, err := status(ctx, asked, leaf, issuer); err != nil || is != ocsp.Good {
		return 0, fmt.Errorf("before the act the responder says %d: %w", is, err)
	}
	done, err := disallow(ctx, acted, instance.Object{"thumbprint": verify.ThumbprintOf(leaf.Raw).String()})
	if err != nil {
		return 0, err
	}
	is, err := status(ctx, asked, leaf, issuer)
	if err != nil || is != ocsp.Revoked {
		return 0, fmt.Errorf("the first answer after the act is %d: %w", is, err)
	}
	return time.Since(done.at), nil
}

// leaf is a certificate of ours, and who signed it.
func (d device) leaf(s *instance.Instance) (leaf, issuer *x509.Certificate, err error) {
	body := fmt.Sprintf(`{"registrationId":%q,"csr":%q}`, d.name, base64.StdEncoding.EncodeToString(d.csr))
	code, raw, err := ask(d.client(s, false), http.MethodPut, s.Devices+"/"+s.IDScope+"/registrations/"+d.name+"/register?api-version=2025-07-01-preview", "application/json", body)
	if err != nil || code >= 300 {
		return nil, nil, cmp.Or(err, fmt.Errorf("status %d: %s", code, raw))
	}
	var answer struct {
		RegistrationState struct{ IssuedCertificateChain [][]byte }
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, nil, err
	}
	chain := answer.RegistrationState.IssuedCertificateChain
	if len(chain) < 2 {
		return nil, nil, fmt.Errorf("there is no chain in %s", raw)
	}
	leaf, err = x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, nil, err
	}
	issuer, err = x509.ParseCertificate(chain[1])
	return leaf, issuer, err
}

func caOf(base string) (instance.Object, error) {
	raw, err := os.ReadFile(base + ".crt")
	return instance.Object{"certificate": string(raw)}, err
}
