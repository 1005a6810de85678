package provisioning

import (
	"bytes"
	"strings"

	"github.com/passmuster/muster/internal/seal"
)

// A webhook's address may have a key in its query, so an entry keeps its webhook sealed
// (INV-K1): the API version, a line break, the address. Neither part holds a line break.
//
// Rows of before it was sealed hold the same text in the clear. They are read, and sealed
// when they are next written or by [SealWebhooks].

// webhookPurpose binds a sealed webhook to its row (INV-K2).
func webhookPurpose(o Owner) string {
	return "entries|" + o.Kind.String() + "|" + o.ID.String() + "|webhook"
}

func sealWebhook(box *seal.Box, o Owner, c CustomAllocation) []byte {
	if c == (CustomAllocation{}) {
		return nil
	}
	return box.Seal(webhookPurpose(o), []byte(c.APIVersion+"\n"+c.URL))
}

// plainWebhook says whether a stored webhook stands in the clear.
func plainWebhook(stored []byte) bool {
	version, address, cut := bytes.Cut(stored, []byte("\n"))
	if !cut || len(version) > maxWebhookVersion || len(address) < len("https://") {
		return false
	}
	start := strings.ToLower(string(address[:len("https://")]))
	return strings.HasPrefix(start, "http://") || start == "https://"
}

// webhookText is a stored webhook in the clear.
func webhookText(box *seal.Box, purpose string, stored []byte) ([]byte, error) {
	if plainWebhook(stored) {
		return stored, nil
	}
	return box.Open(purpose, stored)
}

// withWebhook opens an entry's webhook, if it has one.
func (e *Engine) withWebhook(en Enrollment) (Enrollment, error) {
	if len(en.SealedWebhook) == 0 {
		return en, nil
	}
	text, err := webhookText(e.box, webhookPurpose(en.Owner), en.SealedWebhook)
	if err != nil {
		return en, err
	}
	en.Custom.APIVersion, en.Custom.URL, _ = strings.Cut(string(text), "\n")
	return en, nil
}

// changing is an entry that is about to change or go. That its webhook does not open is no
// reason to keep it from that: the ledger then has it by its hash.
func (e *Engine) changing(en Enrollment) Enrollment {
	en, _ = e.withWebhook(en)
	return en
}
