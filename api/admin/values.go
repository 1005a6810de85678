package admin

import (
	"encoding/json"
	"encoding/pem"
	"time"
)

// instant is a time as answers have it, RFC 3339 in UTC; nil for none.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// pemOf is a certificate as PEM.
func pemOf(der ...[]byte) string {
	var text []byte
	for _, d := range der {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d})...)
	}
	return string(text)
}

// given is free JSON of a request; nil when it is absent or null.
func given(raw json.RawMessage) []byte {
	if string(raw) == "null" {
		return nil
	}
	return raw
}
