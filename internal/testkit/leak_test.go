package testkit_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/testkit"
)

func TestASecretIsFoundInEveryForm(t *testing.T) {
	secret := []byte("\x00\xfb\xff a secret of 31 bytes \xfe\xfd\xfc\x01\x02")
	std, url := base64.StdEncoding, base64.URLEncoding
	within := func(before, after int) []byte {
		return append(append(bytes.Repeat([]byte{0xa5}, before), secret...), bytes.Repeat([]byte{0x5a}, after)...)
	}
	planted := map[string]string{
		"as it is":           string(within(5, 5)),
		"lower-case hex":     `\x` + hex.EncodeToString(within(1, 0)),
		"upper-case hex":     strings.ToUpper(hex.EncodeToString(within(1, 0))),
		"base64":             std.EncodeToString(secret),
		"base64 unpadded":    std.WithPadding(base64.NoPadding).EncodeToString(secret),
		"base64url":          url.EncodeToString(secret),
		"base64url unpadded": url.WithPadding(base64.NoPadding).EncodeToString(secret),
	}
	for shift := range 6 {
		planted[fmt.Sprintf("base64 behind %d bytes", shift)] = std.EncodeToString(within(shift, 7-shift))
		planted[fmt.Sprintf("base64url behind %d bytes", shift)] = url.EncodeToString(within(shift, 7-shift))
		block := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: within(30+shift, 40)})
		planted[fmt.Sprintf("PEM, behind %d bytes", 30+shift)] = string(block)
		quoted, err := json.Marshal(map[string]string{"key": string(block)})
		if err != nil {
			t.Fatal(err)
		}
		planted[fmt.Sprintf("PEM in JSON, behind %d bytes", 30+shift)] = string(quoted)
	}
	for name, text := range planted {
		if forms := testkit.Leaks([]byte("before "+text+" after"), secret); len(forms) == 0 {
			t.Errorf("%s: not found", name)
		}
		other := bytes.Clone(secret)
		other[len(other)/2] ^= 1
		if forms := testkit.Leaks([]byte("before "+text+" after"), other); len(forms) != 0 {
			t.Errorf("%s: another secret is found as %v", name, forms)
		}
	}
}
