package certificates

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/verify"
)

// resource is a certificate as the resource manager shows it (§5).
type resource struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Type       string     `json:"type"`
	ETag       string     `json:"etag"`
	Properties properties `json:"properties"`
}

// properties has its dates as RFC 1123 writes them: Go's client fails on any others.
type properties struct {
	Subject     string `json:"subject"`
	Expiry      string `json:"expiry"`
	Thumbprint  string `json:"thumbprint"` // SHA-1, 40 digits of upper-case hex
	IsVerified  bool   `json:"isVerified"`
	Created     string `json:"created"`
	Updated     string `json:"updated"`
	Certificate []byte `json:"certificate"` // DER
	Code        string `json:"verificationCode,omitempty"`
}

// resourceOf shows an anchor at the address it was asked for.
func resourceOf(c *gin.Context, a verify.TrustAnchor) resource {
	r, info := a.Record(), azure.InfoOf(a.Link())
	return resource{
		ID: "/subscriptions/" + c.Param("subscription") + "/resourceGroups/" + c.Param("group") +
			"/providers/Microsoft.Devices/provisioningServices/" + c.Param("service") + "/certificates/" + r.Name,
		Name: r.Name,
		Type: "Microsoft.Devices/ProvisioningServices/Certificates",
		ETag: etag(r.Version),
		Properties: properties{
			Subject: info.Subject, Expiry: date(a.Link().Cert.NotAfter), Thumbprint: info.SHA1,
			IsVerified: a.IsVerified(), Created: date(r.Created), Updated: date(r.Updated), Certificate: r.Certificate,
		},
	}
}

func date(t time.Time) string { return t.UTC().Format(http.TimeFormat) }

func replyAnchor(c *gin.Context, a verify.TrustAnchor, err error) error {
	if err != nil {
		return err
	}
	return reply(c, resourceOf(c, a))
}

// reply answers 200, whatever was done: no client knows another code (§5).
func reply(c *gin.Context, body any) error {
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, body)
	return nil
}
