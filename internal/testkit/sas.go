package testkit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"time"
)

// SASOption changes a token about to be signed.
type SASOption func(*sas)

type sas struct{ resource, keyName string }

// SAS is the Authorization header of a device: a token for
// {idScope}/registrations/{id}, signed with the raw key, the resource written and
// signed unencoded as npm's client does.
func SAS(key []byte, idScope, id string, expiry time.Time, opts ...SASOption) string {
	s := sas{resource: idScope + "/registrations/" + id, keyName: "registration"}
	for _, opt := range opts {
		opt(&s)
	}
	se := fmt.Sprint(expiry.Unix())
	h := hmac.New(sha256.New, key)
	h.Write([]byte(s.resource + "\n" + se))
	sig := url.QueryEscape(base64.StdEncoding.EncodeToString(h.Sum(nil)))
	token := "SharedAccessSignature sr=" + s.resource + "&sig=" + sig + "&se=" + se
	if s.keyName != "" {
		token += "&skn=" + s.keyName
	}
	return token
}

// Encoded writes and signs the resource percent-encoded, as Python's client does.
func Encoded() SASOption {
	return func(s *sas) { s.resource = url.QueryEscape(s.resource) }
}

// Resource signs another resource, such as a service's host name.
func Resource(sr string) SASOption { return func(s *sas) { s.resource = sr } }

// KeyName sets skn; "" leaves it out.
func KeyName(skn string) SASOption { return func(s *sas) { s.keyName = skn } }
