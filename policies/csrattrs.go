package policies

import (
	"crypto/x509"
	encasn1 "encoding/asn1"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers as they are written into an answer.
var (
	attrECPublicKey      = encasn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	attrRSAEncryption    = encasn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	attrEd25519          = encasn1.ObjectIdentifier{1, 3, 101, 112}
	attrECDSAWithSHA256  = encasn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	attrSHA256WithRSA    = encasn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	attrExtensionRequest = encasn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	attrExtKeyUsage      = encasn1.ObjectIdentifier{2, 5, 29, 37}
	attrPurposes         = encasn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3}
)

// curves of the EC key types, by their names in RFC 5480 §2.1.1.1.
var curves = map[KeyType]encasn1.ObjectIdentifier{
	KeyECP256: {1, 2, 840, 10045, 3, 1, 7},
	KeyECP384: {1, 3, 132, 0, 34},
	KeyECP521: {1, 3, 132, 0, 35},
}

var rsaSizes = map[KeyType]int64{KeyRSA2048: 2048, KeyRSA3072: 3072, KeyRSA4096: 4096}

// CSRAttributes is what the profile asks of a certificate request, as the CsrAttrs of
// RFC 7030 §4.5.2 in DER: the kinds of key it allows, with their curves or sizes; the
// weakest signature that is taken for each kind; and, as values that a request may
// repeat (RFC 9908 §3), the extended key usages its certificates will have. A challenge
// password is not asked for: a request that has one is held to it (RFC 7030 §3.5).
func (p Profile) CSRAttributes() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if named := pick(p.Keys, curves); len(named) > 0 {
			attribute(b, attrECPublicKey, encode(named, (*cryptobyte.Builder).AddASN1ObjectIdentifier))
			b.AddASN1ObjectIdentifier(attrECDSAWithSHA256)
		}
		if sizes := pick(p.Keys, rsaSizes); len(sizes) > 0 {
			attribute(b, attrRSAEncryption, encode(sizes, (*cryptobyte.Builder).AddASN1Int64))
			b.AddASN1ObjectIdentifier(attrSHA256WithRSA)
		}
		if slices.Contains(p.Keys, KeyEd25519) {
			b.AddASN1ObjectIdentifier(attrEd25519)
		}
		attribute(b, attrExtensionRequest, encode([]Profile{p}, extensionRequest))
	})
	return b.Bytes()
}

// pick lists what a table has for the key types allowed, in their order.
func pick[T any](allowed []KeyType, table map[KeyType]T) (found []T) {
	for _, k := range allowed {
		if v, is := table[k]; is {
			found = append(found, v)
		}
	}
	return found
}

// encode makes each value an encoding of its own.
func encode[T any](values []T, add func(*cryptobyte.Builder, T)) (encoded [][]byte) {
	for _, v := range values {
		var b cryptobyte.Builder
		add(&b, v)
		encoded = append(encoded, b.BytesOrPanic())
	}
	return encoded
}

// attribute adds an Attribute (RFC 2986 §4.1); its values are a SET OF, which DER sorts.
func attribute(b *cryptobyte.Builder, oid encasn1.ObjectIdentifier, values [][]byte) {
	slices.SortFunc(values, slices.Compare)
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) {
			for _, v := range values {
				b.AddBytes(v)
			}
		})
	})
}

// extensionRequest adds the Extensions of RFC 2985 §5.4.2.
func extensionRequest(b *cryptobyte.Builder, p Profile) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(attrExtKeyUsage)
			b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					for _, u := range p.ExtKeyUsage {
						b.AddASN1ObjectIdentifier(append(slices.Clone(attrPurposes), lastArc(u)))
					}
				})
			})
		})
	})
}

// lastArc is the last arc of a purpose's identifier under id-kp.
func lastArc(u x509.ExtKeyUsage) int { return slices.Index(purposes[:], u) }
