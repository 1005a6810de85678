package testkit

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
)

// Leaks says in which forms a secret of 8 bytes or more can be read in data: as it is, in
// hex of either case, and in base64 of either alphabet at any offset of a longer text, so
// also within PEM and within the DER of a key. Line breaks, written out or as \n, hide
// nothing.
func Leaks(data, secret []byte) (forms []string) {
	joined := joinLines.Replace(string(data))
	for _, f := range formsOf(secret) {
		if bytes.Contains(data, []byte(f.text)) || strings.Contains(joined, f.text) {
			forms = append(forms, f.name)
		}
	}
	slices.Sort(forms)
	return slices.Compact(forms)
}

var joinLines = strings.NewReplacer("\n", "", "\r", "", "\t", "", " ", "", `\n`, "", `\r`, "")

type form struct{ name, text string }

func formsOf(secret []byte) []form {
	digits := hex.EncodeToString(secret)
	forms := []form{{"raw", string(secret)}, {"hex", digits}, {"HEX", strings.ToUpper(digits)}}
	for shift := range 3 {
		// Behind shift other bytes: the digits that hold none but the secret's bits.
		whole := append(make([]byte, shift), secret...)
		from, to := (shift*8+5)/6, len(whole)*8/6
		forms = append(forms, form{"base64", base64.RawStdEncoding.EncodeToString(whole)[from:to]},
			form{"base64url", base64.RawURLEncoding.EncodeToString(whole)[from:to]})
	}
	return forms
}
