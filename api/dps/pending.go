package dps

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/provisioning"
)

// mediaTypePEM is RFC 8555 §9.1's, which names the order leaf, issuer, ….
const mediaTypePEM = "application/pem-certificate-chain"

type pendingBody struct {
	RegistrationID string   `json:"registrationId"`
	Thumbprint     string   `json:"thumbprint"` // SHA-256
	NotAfter       string   `json:"notAfter"`
	Chain          [][]byte `json:"issuedCertificateChain"` // base64 DER: leaf, issuer, …, root
}

// pending answers with the certificate that was made for a device without its asking: as
// JSON, or as PEM without the root where that is accepted.
func (h *handler) pending(c *gin.Context) error {
	k, err := h.call(c)
	if err != nil {
		return err
	}
	attempt, err := k.attempt(c.Request)
	if err != nil {
		return err
	}
	p, err := k.engine.PendingFor(c.Request.Context(), attempt)
	if err != nil {
		return err
	}
	chain := append([][]byte{p.DER}, p.Above...)
	if strings.Contains(c.GetHeader("Accept"), mediaTypePEM) {
		c.Data(http.StatusOK, mediaTypePEM, []byte(oldChain(chain)))
		return nil
	}
	a, err := answer(http.StatusOK, pendingBody{
		RegistrationID: k.spelled, Thumbprint: p.Thumbprint.String(), NotAfter: p.NotAfter.UTC().Format(time.RFC3339), Chain: chain,
	})
	return reply(c, k, a, err)
}

// advice is the payload of a finished operation that issued a certificate, where no webhook
// has one: when the device had best ask for the next.
func advice(w provisioning.RenewalWindow) json.RawMessage {
	if w.IsZero() {
		return nil
	}
	return json.RawMessage(`{"renewal":{"from":"` + w.From.UTC().Format(time.RFC3339) + `","by":"` + w.By.UTC().Format(time.RFC3339) + `"}}`)
}
