package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

const (
	// maxCalls bounds how many requests are with upstreams at a time.
	maxCalls = 64
	// givenUp is how long a call that nobody waits for any more counts among them.
	givenUp = 5 * time.Minute
	// upstreamSkew is how far an upstream's clock may be off.
	upstreamSkew = 5 * time.Minute
)

// calls is the requests that are with upstreams.
type calls chan struct{}

// enter takes a place; ok is false when there is none. The place is left once, whoever
// asks first.
func (c calls) enter() (leave func(), ok bool) {
	select {
	case c <- struct{}{}:
		return sync.OnceFunc(func() { <-c }), true
	default:
		return nil, false
	}
}

// issueElsewhere has a certificate signed by the issuer's upstream: the intent first, then
// the question, then, before anything is built on it, what came back is on record. The
// template is what a key of ours would sign; what came back holds no more than that.
func (a *Authority) issueElsewhere(ctx context.Context, by *issuer, csr *x509.CertificateRequest, template *x509.Certificate, draft Certificate) (Unrecorded, error) {
	about := "issuer " + string(by.ID)
	upstream := a.config.Upstreams[by.Upstream]
	if upstream == nil {
		return Unrecorded{}, fault.New(fault.Unavailable, "upstream-missing", "The CA that signs for this issuer is not configured.").About(about)
	}
	leave, ok := a.calls.enter()
	if !ok {
		return Unrecorded{}, fault.New(fault.Unavailable, "upstream-busy", "Too many requests are waiting for the CA that signs here.").About(about).Later(a.config.UpstreamTimeout).Accepted()
	}
	began := a.now().UTC()
	intent := Intent{ID: newIntentID(), Issuer: by.ID, RegistrationID: draft.RegistrationID, CSR: csr.Raw, Created: began, State: IntentOpen}
	if policies.HasChallenge(csr.Raw) {
		intent.CSR = nil
	}
	if err := a.store.Update(ctx, func(tx Tx) error { return tx.InsertIntent(intent) }); err != nil {
		leave()
		return Unrecorded{}, err
	}
	// From here on the request is finished even if the device has gone: there may be a certificate.
	ctx = context.WithoutCancel(ctx)
	made, err := a.ask(ctx, upstream, leave, intent, UpstreamRequest{
		ID: intent.ID, Template: asked(template), CSR: csr, Lifetime: template.NotAfter.Sub(began).Truncate(time.Second),
	})
	if err != nil {
		return Unrecorded{}, err
	}
	if wrong := a.checkAnswer(made, csr, template, by, began); wrong != nil {
		return Unrecorded{}, errors.Join(fault.New(fault.Unavailable, "upstream-certificate", "The CA that signs for this issuer signed something else.").
			About(about).Because(wrong), a.reject(ctx, by, intent, made, wrong))
	}
	intent.Serial, intent.Certificate = SerialOf(made.SerialNumber), made.Raw
	if err := a.answered(ctx, intent); err != nil {
		return Unrecorded{}, errors.Join(err, a.orphan(ctx, intent.ID, intent.Serial, made.Raw, "the answer could not be put on record"))
	}
	draft.Issuer, draft.Serial, draft.Thumbprint, draft.DER = by.ID, intent.Serial, verify.ThumbprintOf(made.Raw), made.Raw
	draft.KeyHash, draft.NotBefore, draft.NotAfter = verify.KeyHashOf(made.RawSubjectPublicKeyInfo), made.NotBefore, made.NotAfter
	return Unrecorded{draft, intent.ID}, nil
}

// asked is the template as an upstream gets it. Its status is published by itself.
func asked(template *x509.Certificate) *x509.Certificate {
	t := *template
	t.CRLDistributionPoints, t.IssuingCertificateURL, t.OCSPServer = nil, nil, nil
	return &t
}

// ask puts the question and waits for its answer, as long as the configuration says. An
// error has settled the intent, as far as that could be put on record.
func (a *Authority) ask(ctx context.Context, upstream Upstream, leave func(), intent Intent, r UpstreamRequest) (*x509.Certificate, error) {
	type answer struct {
		certificate *x509.Certificate
		err         error
	}
	answers := make(chan answer, 1)
	limited, cancel := context.WithTimeout(ctx, a.config.UpstreamTimeout)
	go func() {
		defer cancel()
		defer leave()
		made, err := upstream.Sign(limited, r)
		answers <- answer{made, err}
	}()
	patience := time.NewTimer(a.config.UpstreamTimeout)
	defer patience.Stop()
	var got answer
	select {
	case got = <-answers:
	case <-patience.C:
		// The place is given back some time even if the answer never comes.
		forget := time.AfterFunc(givenUp, leave)
		go func() {
			got := <-answers
			forget.Stop()
			// An error here leaves the orphan as it is listed: nothing more is known of it.
			_ = a.late(ctx, intent, got.certificate, got.err)
		}()
		why := "no answer within " + a.config.UpstreamTimeout.String() + ": it is not known whether there is a certificate"
		return nil, errors.Join(unanswered(intent), a.orphan(ctx, intent.ID, "", nil, why))
	}
	switch {
	case errors.Is(got.err, ErrNotSigned):
		refused := fault.New(fault.Unavailable, "upstream-refused", "The CA that signs for this issuer did not sign.").About("issuer " + string(intent.Issuer))
		return nil, errors.Join(refused.Because(got.err), a.refuse(ctx, intent, got.err.Error()))
	case got.err != nil:
		return nil, errors.Join(unanswered(intent).Because(got.err),
			a.orphan(ctx, intent.ID, "", nil, "it is not known whether there is a certificate: "+got.err.Error()))
	}
	return got.certificate, nil
}

func unanswered(i Intent) *fault.Error {
	return fault.New(fault.Unavailable, "upstream-unanswered", "The CA that signs for this issuer gave no answer.").About("issuer " + string(i.Issuer))
}

// late deals with an answer that came after its request had ended.
func (a *Authority) late(ctx context.Context, intent Intent, made *x509.Certificate, err error) error {
	ctx, cancel := tidying(ctx)
	defer cancel()
	switch {
	case err == nil:
		return a.orphan(ctx, intent.ID, SerialOf(made.SerialNumber), made.Raw, "the certificate came too late")
	case errors.Is(err, ErrNotSigned):
		return a.refuse(ctx, intent, err.Error())
	}
	return nil
}

// reject makes a certificate that is not what was asked for an orphan, and has it revoked
// at once; if that fails the sweep goes on with it.
func (a *Authority) reject(ctx context.Context, by *issuer, intent Intent, made *x509.Certificate, wrong error) error {
	serial := SerialOf(made.SerialNumber)
	if err := a.orphan(ctx, intent.ID, serial, made.Raw, "wrong certificate: "+wrong.Error()); err != nil {
		return err
	}
	return a.tellUpstream(ctx, by, intent.ID)
}

// checkAnswer says what is wrong with a certificate that an upstream signed: it is this
// request's key and name, signed by the issuer on record, with no more powers, names or
// time than the template, and clean by the linter (INV-P2, P4, P6, P7).
func (a *Authority) checkAnswer(made *x509.Certificate, csr *x509.CertificateRequest, template *x509.Certificate, by *issuer, now time.Time) error {
	for _, x := range []struct {
		wrong bool
		what  string
	}{
		{!bytes.Equal(made.RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo), "it is for another key"},
		{!bytes.Equal(made.RawIssuer, by.certificate.RawSubject) || made.CheckSignatureFrom(by.certificate) != nil, "it is not signed by the issuer on record"},
		{made.SerialNumber.Sign() <= 0 || len(made.SerialNumber.Bytes()) > maxSerial, "its serial number is not 1 to 20 octets"},
		{made.Subject.ToRDNSequence().String() != template.Subject.ToRDNSequence().String(), fmt.Sprintf("its subject is %q", made.Subject)},
		{!within(made.DNSNames, template.DNSNames) || !within(made.EmailAddresses, template.EmailAddresses) ||
			!within(texts(made.IPAddresses), texts(template.IPAddresses)) || !within(texts(made.URIs), texts(template.URIs)) || otherNames(made) > 0,
			"it has names that were not asked for"},
		{!made.BasicConstraintsValid && made.IsCA || forbidden(made), "it has powers that no device may have"},
		{len(made.UnhandledCriticalExtensions) > 0, "it has a critical extension that is not known here"},
		{len(made.ExtKeyUsage)+len(made.UnknownExtKeyUsage) == 0, "it is good for every purpose"},
		{!within(made.ExtKeyUsage, template.ExtKeyUsage) || len(made.UnknownExtKeyUsage) > len(template.UnknownExtKeyUsage), "it has purposes that the profile has not"},
		{made.KeyUsage&x509.KeyUsageDigitalSignature == 0, "its key usage is not digitalSignature"},
		{made.NotBefore.After(now.Add(upstreamSkew)), "it is not valid yet"},
		{made.NotBefore.Before(template.NotBefore.Add(-upstreamSkew)) || made.NotAfter.After(template.NotAfter.Add(upstreamSkew)), "it is valid for longer than the profile says"},
		{!made.NotAfter.After(now), "it has expired"},
		{made.NotAfter.After(by.certificate.NotAfter), "it outlives its issuer"},
	} {
		if x.wrong {
			return errors.New(x.what)
		}
	}
	parsed, err := zx509.ParseCertificate(made.Raw)
	if err != nil {
		return fmt.Errorf("reading it for the linter: %w", err)
	}
	if found := a.shapes.findings(parsed); len(found) > 0 {
		return errors.New("it breaks a rule: " + strings.Join(found, ", "))
	}
	return nil
}

// within says that all of some things are among others.
func within[T comparable](some, others []T) bool {
	return !slices.ContainsFunc(some, func(x T) bool { return !slices.Contains(others, x) })
}

func texts[T fmt.Stringer](list []T) (out []string) {
	for _, x := range list {
		out = append(out, x.String())
	}
	return out
}

// otherNames counts the subject alternative names of kinds that Go does not read.
func otherNames(c *x509.Certificate) int {
	return countNames(c) - len(c.DNSNames) - len(c.EmailAddresses) - len(c.IPAddresses) - len(c.URIs)
}

// countNames counts all subject alternative names in the extension as it was signed; one
// that cannot be read counts too.
func countNames(c *x509.Certificate) int {
	i := slices.IndexFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidSubjectAltName) })
	if i < 0 {
		return 0
	}
	extension := cryptobyte.String(c.Extensions[i].Value)
	var names cryptobyte.String
	if !extension.ReadASN1(&names, cbasn1.SEQUENCE) {
		return 1
	}
	n := 0
	for !names.Empty() {
		n++
		var name cryptobyte.String
		if !names.ReadAnyASN1(&name, nil) {
			break
		}
	}
	return n
}

// SignsFor says that the issuer of a certificate still signs for a profile: that a
// certificate which has not been recorded yet may be.
func (a *Authority) SignsFor(u Unrecorded, p policies.Profile) bool {
	by := a.current.Load().active(p.Name)
	return by != nil && by.ID == u.certificate.Issuer
}

// IsElsewhere says that an upstream signed the certificate.
func (u Unrecorded) IsElsewhere() bool { return u.intent != "" }
