package policies

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strconv"
	"strings"
)

// KeyAttestation is what is known of where a device's key is, and what a profile asks for.
type KeyAttestation string

// With KeyAttestationTPM the key was made in the device's TPM and cannot leave it, as the TPM
// has attested.
const (
	KeyAttestationNone KeyAttestation = "" // the default
	KeyAttestationTPM  KeyAttestation = "tpm"
)

func (p Profile) checkKeyAttestation(bad *findings) {
	if p.KeyAttestation != KeyAttestationNone && p.KeyAttestation != KeyAttestationTPM {
		bad.add("/keyAttestation", "key attestation is none or tpm")
	}
	if p.KeyAttestation != KeyAttestationNone && p.ServerKeygen {
		bad.add("/serverKeygen", "a key that is made on the server is in no TPM, which keyAttestation asks for")
	}
	text := p.KeyAttestationExtension
	if text == "" {
		return
	}
	switch {
	case p.AttestedExtension().String() != text:
		bad.add("/keyAttestationExtension", "an extension is named by its identifier, such as 1.3.6.1.4.1.99999.1")
	case IsReservedExtension(text) || wellKnown(text):
		bad.add("/keyAttestationExtension", "this extension has a meaning of its own")
	case slices.Contains(p.Extensions, text):
		bad.add("/keyAttestationExtension", "a request may not bring the extension that says where its key is")
	}
}

// AttestedExtension is the identifier of the extension that certificates for attested keys have;
// nil: they have none.
func (p Profile) AttestedExtension() (oid asn1.ObjectIdentifier) {
	if _, err := x509.ParseOID(p.KeyAttestationExtension); err != nil {
		return nil
	}
	for text := range strings.SplitSeq(p.KeyAttestationExtension, ".") {
		arc, err := strconv.Atoi(text)
		if err != nil {
			return nil
		}
		oid = append(oid, arc)
	}
	return oid
}

// wellKnown says that an extension is one of X.509's own or of the IETF's.
func wellKnown(oid string) bool {
	return strings.HasPrefix(oid, "2.5.29.") || strings.HasPrefix(oid, "1.3.6.1.5.5.7.")
}
