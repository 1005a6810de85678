// Package pki publishes what anybody may know of the issuers over plain HTTP:
// /pki/{issuer}.crt, /pki/{issuer}.crl and /pki/bundle.pem, with GET and HEAD.
//
// These are the addresses written into certificates (RFC 5280 §4.2.1.13, §4.2.2.1). It
// reads and never writes, asks for no credential, and everything it serves is signed
// (INV-N4).
//
// Called by package api, which mounts it on the listener for plain HTTP.
package pki

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// handler serves the files of all tenants: an issuer's id is random, so it says whose
// it is.
type handler struct{ tenants wire.Tenants }

// New makes the door.
func New(tenants wire.Tenants, s wire.Settings) http.Handler {
	h := handler{tenants}
	d := wire.NewDoor("pki", s, fail)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		d.Handle(method, "/pki/bundle.pem", h.bundle)
		d.Handle(method, "/pki/:file", h.file)
	}
	return d
}

func (h handler) file(c *gin.Context) error {
	name := c.Param("file")
	if id, ok := strings.CutSuffix(name, ".crt"); ok {
		return h.certificate(c, ca.IssuerID(id))
	}
	if id, ok := strings.CutSuffix(name, ".crl"); ok {
		return h.crl(c, ca.IssuerID(id))
	}
	return notHere()
}

func notHere() error { return fault.New(fault.NotFound, wire.RuleNoRoute, "There is no such file.") }

// certificate serves an issuer's certificate: one DER certificate (RFC 2585 §4.1).
func (h handler) certificate(c *gin.Context, id ca.IssuerID) error {
	_, cert, err := h.issuer(id)
	if err != nil {
		return err
	}
	serve(c, file{
		mediaType: "application/pkix-cert", etag: verify.ThumbprintOf(cert.Raw).String(),
		modified: cert.NotBefore, maxAge: 24 * time.Hour, content: cert.Raw,
	})
	return nil
}

// crlMaxAge is how long a cache may keep a CRL: a revocation is to be seen soon, and
// asking again for the same one costs a 304.
const crlMaxAge = time.Minute

// crl serves an issuer's latest CRL in DER (RFC 2585 §4.2).
func (h handler) crl(c *gin.Context, id ca.IssuerID) error {
	authority, _, err := h.issuer(id)
	if err != nil {
		return err
	}
	crl, err := authority.PublishedCRL(c.Request.Context(), id)
	if err != nil {
		return err
	}
	serve(c, file{
		mediaType: "application/pkix-crl", etag: fmt.Sprintf("%s-%d", id, crl.Number), // a number is given once (INV-S7)
		modified: crl.ThisUpdate, maxAge: crlMaxAge, content: crl.DER,
	})
	return nil
}

// bundle serves all issuers' certificates, issuing CAs before roots.
func (h handler) bundle(c *gin.Context) error {
	var text []byte
	for _, t := range h.tenants.All() {
		for _, der := range t.Authority.Bundle() {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
	}
	serve(c, file{
		mediaType: "application/pem-certificate-chain", etag: verify.ThumbprintOf(text).String(),
		maxAge: time.Minute, content: text,
	})
	return nil
}

// file is what is served. The zero modified is unknown.
type file struct {
	mediaType, etag string
	modified        time.Time
	maxAge          time.Duration
	content         []byte
}

// serve answers, conditional requests and ranges too (RFC 9110 §13, §14).
func serve(c *gin.Context, f file) {
	c.Header("Content-Type", f.mediaType)
	c.Header("ETag", `"`+f.etag+`"`)
	c.Header("Cache-Control", fmt.Sprintf("public, max-age=%d", int(f.maxAge.Seconds())))
	http.ServeContent(c.Writer, c.Request, "", f.modified, bytes.NewReader(f.content))
}
