package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// golang.org/x/crypto/ocsp makes answers too, but none with a nonce, and dates them by its
// own clock: so they are put together here.

var (
	oidOCSPBasic   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidECDSASHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
)

// ocspStatement is what an answer says. A zero revocation of a known certificate is good.
type ocspStatement struct {
	request    OCSPRequest
	known      bool
	revocation Revocation
	thisUpdate time.Time
	nextUpdate time.Time
}

// sign encodes and signs an answer (RFC 6960 §4.2.1).
func (r *responder) sign(s ocspStatement) ([]byte, error) {
	tbs, err := r.responseData(s)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(tbs)
	signature, err := r.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(0) // successful
		b.AddASN1(explicit0, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidOCSPBasic)
				b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes(tbs)
						b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidECDSASHA256) })
						b.AddASN1BitString(signature)
						b.AddASN1(explicit0, func(b *cryptobyte.Builder) {
							b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(r.certificate.Raw) })
						})
					})
				})
			})
		})
	})
	return b.Bytes()
}

func (r *responder) responseData(s ocspStatement) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		// By key and not by name, as that is shorter (RFC 5019 §2.2.1).
		b.AddASN1(explicit2, func(b *cryptobyte.Builder) { b.AddASN1OctetString(r.keyHash[:]) })
		b.AddASN1GeneralizedTime(s.thisUpdate)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(s.request.certID)
				addCertStatus(b, s)
				b.AddASN1GeneralizedTime(s.thisUpdate)
				b.AddASN1(explicit0, func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(s.nextUpdate) })
			})
		})
		if s.request.nonce != nil {
			b.AddASN1(explicit1, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(oidOCSPNonce)
						b.AddASN1OctetString(s.request.nonce)
					})
				})
			})
		}
	})
	return b.Bytes()
}

// addCertStatus adds a CertStatus, with its implicit tags. The reason "unspecified" is left
// out, as in a CRL.
func addCertStatus(b *cryptobyte.Builder, s ocspStatement) {
	switch {
	case !s.known:
		b.AddASN1(cbasn1.Tag(2).ContextSpecific(), func(*cryptobyte.Builder) {})
	case s.revocation.RevokedAt.IsZero():
		b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {})
	default:
		b.AddASN1(explicit1, func(b *cryptobyte.Builder) {
			b.AddASN1GeneralizedTime(s.revocation.RevokedAt.UTC())
			if code, _ := s.revocation.Reason.code(); code != 0 {
				b.AddASN1(explicit0, func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(code)) })
			}
		})
	}
}

// OCSPStatus is the responseStatus of an answer that says nothing of a certificate (RFC
// 6960 §4.2.1).
type OCSPStatus byte

// The statuses that are given.
const (
	OCSPMalformed     OCSPStatus = 1
	OCSPInternalError OCSPStatus = 2
	OCSPTryLater      OCSPStatus = 3
	OCSPUnauthorized  OCSPStatus = 6 // the responder is not one for this issuer (RFC 5019 §2.2.3)
)

// DER is the whole answer; it is not signed.
func (s OCSPStatus) DER() []byte { return []byte{0x30, 0x03, 0x0a, 0x01, byte(s)} }
