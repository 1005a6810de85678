package ctlog

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	ct "github.com/google/certificate-transparency-go"
	"github.com/google/certificate-transparency-go/client"
	"github.com/google/certificate-transparency-go/jsonclient"
	"github.com/google/certificate-transparency-go/tls"
	ctx509util "github.com/google/certificate-transparency-go/x509util"

	"github.com/passmuster/muster/internal/fault"
)

// Submitter gets the SCTs that are embedded into certificates. It implements ca.SCTSource.
type Submitter struct {
	logs     []target
	required bool
}

// target is one log that is asked.
type target struct {
	name string
	add  func(ctx context.Context, chain [][]byte) (ct.SignedCertificateTimestamp, error)
}

// patience is how long a log may take: a device waits for it.
const patience = 5 * time.Second

// NewSubmitter asks own (nil for none) and external logs. When required, a log that does
// not answer fails the issuance; otherwise the certificate goes without its SCT.
func NewSubmitter(own *CT, required bool, external ...External) (*Submitter, error) {
	s := &Submitter{required: required}
	if own != nil {
		s.logs = append(s.logs, target{own.key.origin, own.precert})
	}
	for _, e := range external {
		t, err := e.target()
		if err != nil {
			return nil, err
		}
		s.logs = append(s.logs, t)
	}
	return s, nil
}

func (l *CT) precert(ctx context.Context, chain [][]byte) (sct ct.SignedCertificateTimestamp, err error) {
	text, err := l.Add(ctx, chain, true)
	if err != nil {
		return sct, err
	}
	var answer ct.AddChainResponse
	if err := json.Unmarshal(text, &answer); err != nil {
		return sct, err
	}
	got, err := answer.ToSignedCertificateTimestamp()
	if err != nil {
		return sct, err
	}
	return *got, nil
}

// External is a log elsewhere: any that speaks RFC 6962's add-pre-chain.
type External struct {
	URL       string // what stands before /ct/v1/add-pre-chain
	PublicKey []byte // SubjectPublicKeyInfo, DER: an SCT that it did not sign counts for nothing
	Client    *http.Client
}

func (e External) target() (target, error) {
	if _, err := x509.ParsePKIXPublicKey(e.PublicKey); err != nil {
		return target{}, fault.New(fault.Malformed, "log-key", "The public key of the log %s cannot be read.", e.URL).Because(err)
	}
	c, err := client.New(e.URL, e.Client, jsonclient.Options{PublicKeyDER: e.PublicKey, Logger: silent{}})
	if err != nil {
		return target{}, fault.New(fault.Malformed, "log-url", "%q is not the address of a log.", e.URL).Because(err)
	}
	id := sha256.Sum256(e.PublicKey)
	return target{e.URL, func(ctx context.Context, chain [][]byte) (ct.SignedCertificateTimestamp, error) {
		submitted := make([]ct.ASN1Cert, len(chain))
		for i, der := range chain {
			submitted[i] = ct.ASN1Cert{Data: der}
		}
		// The client checks the signature.
		sct, err := c.AddPreChain(ctx, submitted)
		if err != nil {
			return ct.SignedCertificateTimestamp{}, err
		}
		if sct.LogID.KeyID != id {
			return ct.SignedCertificateTimestamp{}, fmt.Errorf("the SCT is another log's")
		}
		return *sct, nil
	}}, nil
}

// silent keeps a client from logging retries: what came of them is in the error.
type silent struct{}

func (silent) Printf(string, ...any) {}

// AddPreChain submits a precertificate to every log at once. The answer is a
// SignedCertificateTimestampList (RFC 6962 §3.3), nil for none. Unavailable, rule
// "sct-unavailable".
func (s *Submitter) AddPreChain(ctx context.Context, chain [][]byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	scts := make([]ct.SignedCertificateTimestamp, len(s.logs))
	errs := make([]error, len(s.logs))
	var asking sync.WaitGroup
	for i, t := range s.logs {
		asking.Go(func() { scts[i], errs[i] = t.add(ctx, chain) })
	}
	asking.Wait()
	var got []*ct.SignedCertificateTimestamp
	for i, err := range errs {
		switch {
		case err == nil:
			got = append(got, &scts[i])
		case s.required:
			return nil, fault.New(fault.Unavailable, "sct-unavailable", "A log of certificates did not give its timestamp; try again later.").
				About("log " + s.logs[i].name).Because(err)
		}
	}
	if len(got) == 0 {
		return nil, nil
	}
	list, err := ctx509util.MarshalSCTsIntoSCTList(got)
	if err != nil {
		return nil, err
	}
	return tls.Marshal(*list)
}
