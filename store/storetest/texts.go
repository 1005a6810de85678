package storetest

import (
	"testing"

	"github.com/passmuster/muster/provisioning"
)

// texts asks for what strangers may write into a name, and engines may refuse to have: there
// is no such row, which is no failure (INV-R2), and the transaction goes on.
func texts(t *testing.T, open Open) {
	for name, text := range map[string]string{"NUL": "a\x00", "bytes that are no UTF-8": "a\xff"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, open)
			absent(w, func(tx provisioning.Tx) (provisioning.AccessPolicy, error) {
				return tx.AccessPolicy(provisioning.ServicePlane, text)
			})
			absent(w, func(tx provisioning.Tx) (provisioning.Hub, error) {
				_, _ = tx.Anchor(text)
				_, _ = tx.Profile(text)
				return tx.Hub(text)
			})
		})
	}
}
