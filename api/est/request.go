package est

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"slices"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// maxBody is the limit of EST bodies (INV-R1).
const maxBody = 64 << 10

const mediaTypePKCS10 = "application/pkcs10"

// readCSR reads a request and holds it to the attributes that EST gives a meaning to.
func readCSR(r *http.Request, serverKey bool) ([]byte, error) {
	body, err := wire.ReadBody(r, maxBody, mediaTypePKCS10)
	if err != nil {
		return nil, err
	}
	der, err := decodeCSR(body)
	if err != nil {
		return nil, err
	}
	attributes, err := policies.ReadAttributes(der)
	if err != nil {
		return nil, err
	}
	if serverKey && attributes.EncryptKey {
		return nil, fault.New(fault.Malformed, "key-encryption", "A key made here is protected by TLS alone; leave out the attribute that asks for its encryption.")
	}
	if attributes.HasChallenge {
		return der, checkLinkage(attributes.ChallengePassword, r.TLS)
	}
	return der, nil
}

// decodeCSR reads base64 of DER, with or without line breaks and whatever
// Content-Transfer-Encoding says (RFC 8951 §3.1). One PEM block is taken too: it is
// what people have in a file.
func decodeCSR(body []byte) ([]byte, error) {
	if bytes.Contains(body, []byte("-----BEGIN ")) {
		return decodePEM(body)
	}
	der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(body), nil)))
	if err != nil || len(der) == 0 {
		return nil, fault.New(fault.Malformed, "csr-not-base64", "The body is not base64 of a PKCS#10 request.").Because(err)
	}
	return der, nil
}

func decodePEM(body []byte) ([]byte, error) {
	block, rest := pem.Decode(body)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 || bytes.Count(body, []byte("-----BEGIN ")) != 1 ||
		!slices.Contains([]string{"CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"}, block.Type) {
		return nil, fault.New(fault.Malformed, "csr-pem", "The body is not one PEM block of type CERTIFICATE REQUEST.")
	}
	return block.Bytes, nil
}

// attemptOf is the caller's claim. EST names no device in its path: who it is about
// comes from the credential, so a credential that names nobody is refused like any
// other. A key or code counts before a certificate.
func attemptOf(r *http.Request) (provisioning.Attempt, error) {
	a := provisioning.Attempt{Door: "est", Address: wire.Address(r)}
	var err error
	if r.Header.Get("Authorization") != "" {
		a.Spelled, a.Evidence, err = basic(r)
	} else if a.Evidence, err = wire.Certificates(r); err == nil && len(a.Evidence.Chain) > 0 {
		a.Spelled = a.Evidence.Chain.Leaf().Cert.Subject.CommonName
	}
	if err != nil {
		return a, err
	}
	if a.ID, err = verify.ParseRegistrationID(a.Spelled); err != nil {
		return a, fault.New(fault.Unauthenticated, "credential-names-nobody", "The credential names no registration id.").Because(err)
	}
	return a, nil
}

// basic reads HTTP Basic (RFC 7617): the registration id, and the device's own key or a
// one-time code.
func basic(r *http.Request) (id string, ev provisioning.Evidence, err error) {
	id, password, ok := r.BasicAuth()
	if !ok {
		return "", ev, fault.New(fault.Unauthenticated, "basic-malformed", "The Authorization header is not HTTP Basic.")
	}
	if code, is := verify.ParseCode(password); is {
		ev.Code = code
		return id, ev, nil
	}
	raw, err := base64.StdEncoding.DecodeString(password)
	if err != nil {
		return "", ev, fault.New(fault.Unauthenticated, "basic-key", "The password is neither a key in base64 nor a one-time code.")
	}
	key := verify.NewSecret(raw)
	ev.Key = &key
	return id, ev, nil
}
