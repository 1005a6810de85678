package verify

import (
	"crypto/hmac"
	"encoding/base64"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Bounds of a token (INV-T1); a token of the longest id, all of it encoded, stays
// well below maxSAS characters.
const (
	maxSAS      = 4096
	clockSkew   = 5 * time.Minute
	maxLifetime = 366 * 24 * time.Hour
)

// SASToken is a shared access signature, parsed and not yet believed
// (protocols/dps.md, section 1.2).
type SASToken struct {
	resource  string // sr exactly as it stands: that text is what was signed
	expiry    string // se likewise
	expires   int64  // seconds since 1970
	signature []byte
	keyName   string
}

// ParseSAS reads "SharedAccessSignature sr=…&sig=…&se=…&skn=…", fields in any order,
// each at most once, unknown ones passed over. Refusals are Unauthenticated with rule
// "sas-malformed".
func ParseSAS(header string) (SASToken, error) {
	if len(header) > maxSAS {
		return SASToken{}, malformedSAS("it is too long")
	}
	scheme, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
	if lowerASCII(scheme) != "sharedaccesssignature" {
		return SASToken{}, malformedSAS("it does not begin with SharedAccessSignature")
	}
	var token SASToken
	seen := map[string]bool{}
	for field := range strings.SplitSeq(strings.TrimSpace(rest), "&") {
		name, value, ok := strings.Cut(field, "=")
		if !ok || seen[name] {
			return SASToken{}, malformedSAS("a field has no value or stands twice")
		}
		seen[name] = true
		if err := token.read(name, value); err != nil {
			return SASToken{}, err
		}
	}
	if token.resource == "" || token.expiry == "" || len(token.signature) == 0 {
		return SASToken{}, malformedSAS("sr, sig and se are required")
	}
	return token, nil
}

func (t *SASToken) read(name, value string) error {
	var err error
	switch name {
	case "sr":
		t.resource = value
		_, err = url.PathUnescape(value)
	case "se":
		t.expiry = value
		t.expires, err = parseSeconds(value)
	case "sig":
		t.signature, err = decodeSignature(value)
	case "skn":
		t.keyName, err = url.PathUnescape(value)
	}
	if err != nil {
		return malformedSAS("the field " + name + " cannot be read")
	}
	return nil
}

func parseSeconds(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

// decodeSignature leaves a bare "+" alone: some clients do not encode their base64.
func decodeSignature(s string) ([]byte, error) {
	text, err := url.PathUnescape(s)
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(text)
}

func malformedSAS(why string) error {
	return refuse("sas-malformed", "The token is malformed: %s.", why)
}

// Resource is what the token is for, percent-decoded and in lower case.
func (t SASToken) Resource() string {
	decoded, err := url.PathUnescape(t.resource)
	if err != nil {
		return ""
	}
	return lowerASCII(decoded)
}

// Target is what a token of a shared access policy is for, in lower case: a host name, without
// its port, and the path below it, "" for all that the host has.
func (t SASToken) Target() (host, path string) {
	host, path, _ = strings.Cut(t.Resource(), "/")
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return host, strings.TrimSuffix(path, "/")
}

// KeyName is the policy the token names (skn), decoded; "" when it names none.
func (t SASToken) KeyName() string { return t.keyName }

// Expires is when the token says that it ends.
func (t SASToken) Expires() time.Time { return time.Unix(t.expires, 0).UTC() }

// Verify checks the token's time and signature but not what it is for: an expiry
// that lies ahead (5 minutes of skew), at most 366 days, and the HMAC-SHA256 of the
// resource as it stands and the expiry, compared in constant time (INV-T1). Refusals
// are Unauthenticated with rule "sas-expired", "sas-lifetime" or "sas-signature".
func (t SASToken) Verify(key Secret, now time.Time) error {
	switch {
	case t.expires <= now.Add(-clockSkew).Unix():
		return refuse("sas-expired", "The token has expired.")
	case t.expires > now.Add(maxLifetime).Unix():
		return refuse("sas-lifetime", "The token is valid for longer than 366 days.")
	case key.IsZero() || !hmac.Equal(t.signature, mac(key, t.resource+"\n"+t.expiry)):
		return refuse("sas-signature", "The token is not signed with the enrolled key.")
	}
	return nil
}

// SASEvidence is a device's token, with the id scope and registration id of the
// request that carried it.
type SASEvidence struct {
	IDScope string
	ID      RegistrationID
	Token   SASToken
}

// SAS makes an identity of a token signed with key (INV-T1). The token must be for
// {idScope}/registrations/{id} of this very request; skn, which the signature does not
// cover, may be left out but says nothing other than "registration".
// Refusals are Unauthenticated with rule "sas-…".
func SAS(ev SASEvidence, key Secret, now time.Time) (Identity, error) {
	if err := ev.Token.Verify(key, now); err != nil {
		return Identity{}, err
	}
	switch {
	case ev.ID.IsZero() || ev.IDScope == "" ||
		ev.Token.Resource() != lowerASCII(ev.IDScope)+"/registrations/"+ev.ID.String():
		return Identity{}, refuse("sas-other-resource", "The token is for another id scope or registration id.")
	case ev.Token.KeyName() != "" && ev.Token.KeyName() != "registration":
		return Identity{}, refuse("sas-key-name", "The token's skn is not \"registration\".")
	}
	return Identity{id: ev.ID, mechanism: MechanismSymmetricKey, at: now}, nil
}

// KeyEvidence is a key itself in place of a token: the password of EST's HTTP basic
// authentication, already decoded.
type KeyEvidence struct {
	ID  RegistrationID
	Key Secret
}

// SharedKey makes an identity of a device that shows its key, compared in constant
// time. The refusal is Unauthenticated with rule "key-mismatch".
func SharedKey(ev KeyEvidence, key Secret, now time.Time) (Identity, error) {
	if ev.ID.IsZero() || !ev.Key.Equal(key) {
		return Identity{}, refuse("key-mismatch", "The key shown is not the enrolled one.")
	}
	return Identity{id: ev.ID, mechanism: MechanismSymmetricKey, at: now}, nil
}
