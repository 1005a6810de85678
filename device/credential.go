package device

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Credential is what the device proves itself with: a client certificate (its chain
// as the server is to see it, leaf first), a symmetric key, a one-time code or a TPM, one of
// them. The zero Credential proves nothing and serves only CACerts.
type Credential struct {
	Certificate *tls.Certificate
	// SymmetricKey is the device's own key, raw: of an individual enrollment, or
	// derived from a group's (DeriveKey). The group key itself is always refused.
	SymmetricKey []byte
	// Code is a one-time code of an operator's; it enrolls over EST, once.
	Code string
	// TPM proves itself by its endorsement key; over DPS alone.
	TPM TPM
}

// IsZero reports whether there is nothing to prove with.
func (c Credential) IsZero() bool {
	return c.Certificate == nil && len(c.SymmetricKey) == 0 && c.Code == "" && c.TPM == nil
}

func (c Credential) check() error {
	switch {
	case c.Certificate != nil && len(c.SymmetricKey) > 0:
		return errors.New("device: a credential is a certificate or a symmetric key, not both")
	case c.Code != "" && (c.Certificate != nil || len(c.SymmetricKey) > 0):
		return errors.New("device: a credential is a one-time code or something else, not both")
	case c.TPM != nil && (c.Certificate != nil || len(c.SymmetricKey) > 0 || c.Code != ""):
		return errors.New("device: a credential is a TPM or something else, not both")
	case c.Certificate != nil && (len(c.Certificate.Certificate) == 0 || c.Certificate.PrivateKey == nil):
		return errors.New("device: the client certificate lacks its chain or its key")
	}
	return nil
}

// DeriveKey makes a device's key from its enrollment group's (DPS contract section
// 2.4): HMAC-SHA256 over the registration id as the device spells it. It belongs in
// the factory; a device that holds the group key can speak for every other one.
func DeriveKey(groupKey []byte, registrationID string) []byte {
	mac := hmac.New(sha256.New, groupKey)
	mac.Write([]byte(registrationID))
	return mac.Sum(nil)
}

// ParseKey reads a symmetric key as services show it: base64, blanks around it ignored.
func ParseKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) == 0 {
		return nil, errors.New("device: a symmetric key is written in base64")
	}
	return key, nil
}

// tokenLife is short because a token is made for every call.
const tokenLife = time.Hour

// Token is a shared access signature for a resource ("{idScope}/registrations/{registrationId}")
// until expiry; keyName "" names none. The signature covers the resource exactly as the token spells it, which is
// percent-encoded (DPS contract section 1.2).
func Token(resource, keyName string, expiry time.Time, sign func(text []byte) ([]byte, error)) (string, error) {
	sr, se := url.QueryEscape(resource), strconv.FormatInt(expiry.Unix(), 10)
	mac, err := sign([]byte(sr + "\n" + se))
	if err != nil {
		return "", err
	}
	token := "SharedAccessSignature sr=" + sr + "&sig=" + url.QueryEscape(base64.StdEncoding.EncodeToString(mac)) + "&se=" + se
	if keyName != "" {
		token += "&skn=" + keyName
	}
	return token, nil
}

// signedBy signs with a symmetric key: HMAC-SHA256.
func signedBy(key []byte) func(text []byte) ([]byte, error) {
	return func(text []byte) ([]byte, error) {
		mac := hmac.New(sha256.New, key)
		mac.Write(text)
		return mac.Sum(nil), nil
	}
}

// basic is the credential as EST takes it: RFC 7617 with the registration id and
// the key in base64.
func basic(registrationID, password string) string {
	pair := registrationID + ":" + password
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
}
