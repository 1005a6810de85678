package pki

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

// shardFile serves what stands below an issuer's id: crls.pem, 7.crl, 7-delta.crl.
func (h handler) shardFile(c *gin.Context) error {
	issuer, name := ca.IssuerID(c.Param("file")), c.Param("list")
	if name == "crls.pem" {
		return h.allCRLs(c, issuer)
	}
	number, is := strings.CutSuffix(name, ".crl")
	if !is {
		return notHere()
	}
	number, delta := strings.CutSuffix(number, "-delta")
	shard, err := strconv.Atoi(number)
	if err != nil || strconv.Itoa(shard) != number || shard < 0 {
		return notHere()
	}
	return h.crl(c, issuer, shard, delta)
}

// crl serves the latest CRL of a shard in DER (RFC 2585 §4.2).
func (h handler) crl(c *gin.Context, id ca.IssuerID, shard int, delta bool) error {
	authority, _, err := h.issuer(id)
	if err != nil {
		return err
	}
	published := authority.PublishedCRL
	if delta {
		published = authority.PublishedDelta
	}
	crl, err := published(c.Request.Context(), id, shard)
	if err != nil {
		return err
	}
	serve(c, file{
		mediaType: "application/pkix-crl", etag: fmt.Sprintf("%s-%d-%d-%d", id, shard, crl.Number, crl.Base), // a number is given once (INV-S7)
		modified: crl.ThisUpdate, maxAge: crlMaxAge, content: crl.DER,
	})
	return nil
}

// allCRLs serves the whole CRLs of every shard that still needs one, of one issuer or (with
// "") of all, in PEM: for servers that read one file and follow no address. It is sent as
// it is read, one list at a time.
func (h handler) allCRLs(c *gin.Context, only ca.IssuerID) error {
	if only != "" {
		if _, _, err := h.issuer(only); err != nil {
			return err
		}
	}
	begun := false
	begin := func() {
		if !begun {
			c.Header("Content-Type", "application/x-pem-file")
			c.Header("Cache-Control", fmt.Sprintf("public, max-age=%d", int(crlMaxAge.Seconds())))
			begun = true
		}
	}
	for _, t := range h.tenants.All() {
		shards, err := t.Authority.CRLShards(c.Request.Context())
		if err != nil {
			return cutOff(begun, err)
		}
		for _, s := range shards {
			if only != "" && s.Issuer != only || s.Number == 0 || t.Authority.Ended(s) {
				continue
			}
			crl, err := t.Authority.PublishedCRL(c.Request.Context(), s.Issuer, s.Shard)
			if fault.Is(err, fault.NotFound) {
				continue
			}
			if err != nil {
				return cutOff(begun, err)
			}
			begin()
			if c.Request.Method == http.MethodHead {
				return nil
			}
			if pem.Encode(c.Writer, &pem.Block{Type: "X509 CRL", Bytes: crl.DER}) != nil {
				return nil // the client has gone
			}
		}
	}
	if !begun {
		return notHere()
	}
	return nil
}

// cutOff ends a file that has begun so that nobody takes it for whole: a list that is missing
// would be revocations that nobody sees.
func cutOff(begun bool, err error) error {
	if begun {
		panic(http.ErrAbortHandler)
	}
	return err
}
