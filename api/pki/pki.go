// Package pki publishes what anybody may know of the issuers over plain HTTP: certificates,
// CRLs and OCSP answers.
//
// With GET and HEAD: /pki/{issuer}.crt, /pki/{issuer}/{shard}.crl (and {shard}-delta.crl),
// /pki/{issuer}.crl for shard 0, /pki/{issuer}/crls.pem and /pki/crls.pem with the lists of all
// shards, /pki/bundle.pem. With GET and POST: /ocsp/{issuer}, and /ocsp for every issuer.
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
type handler struct {
	tenants  wire.Tenants
	settings wire.Settings
	observe  func(status string)
}

// New makes the door. observe, unless it is nil, is told of every OCSP answer: good, revoked,
// unknown, malformed, unauthorized, try-later or internal-error.
func New(tenants wire.Tenants, s wire.Settings, observe func(status string)) http.Handler {
	h := handler{tenants, s, observe}
	d := wire.NewDoor("pki", s, h.fail)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		d.Handle(method, "/pki/bundle.pem", h.bundle)
		d.Handle(method, "/pki/crls.pem", func(c *gin.Context) error { return h.allCRLs(c, "") })
		d.Handle(method, "/pki/:file", h.file)
		d.Handle(method, "/pki/:file/:list", h.shardFile)
	}
	d.Handle(http.MethodGet, ocspPath+"/*request", h.getOCSP)
	d.Handle(http.MethodPost, ocspPath, h.postOCSP)
	d.Handle(http.MethodPost, ocspPath+"/:issuer", h.postOCSP)
	return d
}

func (h handler) file(c *gin.Context) error {
	name := c.Param("file")
	if id, ok := strings.CutSuffix(name, ".crt"); ok {
		return h.certificate(c, ca.IssuerID(id))
	}
	if id, ok := strings.CutSuffix(name, ".crl"); ok {
		return h.crl(c, ca.IssuerID(id), 0, false)
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
	directives      string // more for Cache-Control
}

// serve answers, conditional requests and ranges too (RFC 9110 §13, §14).
func serve(c *gin.Context, f file) {
	c.Header("Content-Type", f.mediaType)
	c.Header("ETag", `"`+f.etag+`"`)
	c.Header("Cache-Control", fmt.Sprintf("public, max-age=%d%s", int(f.maxAge.Seconds()), f.directives))
	http.ServeContent(c.Writer, c.Request, "", f.modified, bytes.NewReader(f.content))
}
