package tpm_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"testing"

	"github.com/google/go-tpm/tpm2"

	device "github.com/passmuster/muster/device/tpm"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify/tpm"
)

// opened is a TPM of its own, in software.
func opened(t testing.TB, endorsement tpm2.TPMTPublic) *device.TPM {
	t.Helper()
	d, err := device.OpenAs(testkit.NewSWTPM(t).Socket, endorsement)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// p384 is the TCG's template H-3 for endorsement keys.
func p384() tpm2.TPMTPublic {
	template := tpm2.ECCEKTemplate
	template.NameAlg = tpm2.TPMAlgSHA384
	template.ObjectAttributes.UserWithAuth = true
	template.AuthPolicy = tpm2.TPM2BDigest{Buffer: make([]byte, 48)} // none that could be met: the password is
	template.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: tpm2.TPMTSymDefObject{
			Algorithm: tpm2.TPMAlgAES, KeyBits: tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(256)),
			Mode: tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
		},
		CurveID: tpm2.TPMECCNistP384,
	})
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	return template
}

func parsed(t testing.TB, d *device.TPM) (tpm.EndorsementKey, tpm.StorageRootKey) {
	t.Helper()
	ek, err := tpm.ParseEndorsementKey(d.EndorsementKey())
	if err != nil {
		t.Fatal(err)
	}
	srk, err := tpm.ParseStorageRootKey(d.StorageRootKey())
	if err != nil {
		t.Fatal(err)
	}
	return ek, srk
}

func TestATPMGetsTheSecretThatWasWrappedForIt(t *testing.T) {
	for name, template := range map[string]tpm2.TPMTPublic{"rsa-2048": tpm2.RSAEKTemplate, "p-256": tpm2.ECCEKTemplate, "p-384": p384()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := opened(t, template)
			ek, srk := parsed(t, d)
			for _, size := range []int{1, 32, 64} {
				secret := bytes.Repeat([]byte{byte(size)}, size)
				blob, err := tpm.Wrap(ek, srk, secret)
				if err != nil {
					t.Fatal(err)
				}
				if err := d.Activate(blob); err != nil {
					t.Fatal(err)
				}
				mac, err := d.MAC([]byte("text"))
				if err != nil {
					t.Fatal(err)
				}
				want := hmac.New(sha256.New, secret)
				want.Write([]byte("text"))
				if !hmac.Equal(mac, want.Sum(nil)) {
					t.Errorf("with a secret of %d octets the TPM signs otherwise", size)
				}
				if name == "rsa-2048" && size == 32 && len(blob) != 764+2 {
					t.Errorf("the blob has %d octets, want the 764 and 2 of the contract", len(blob))
				}
			}
		})
	}
}

func TestNoOtherTPMOpensTheSecret(t *testing.T) {
	t.Parallel()
	mine, other := opened(t, tpm2.RSAEKTemplate), opened(t, tpm2.RSAEKTemplate)
	ek, srk := parsed(t, mine)
	_, otherRoot := parsed(t, other)
	for name, srk := range map[string]tpm.StorageRootKey{"its keys": srk, "the other's storage root key": otherRoot} {
		blob, err := tpm.Wrap(ek, srk, []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Activate(blob); err == nil {
			t.Errorf("the other TPM took what was wrapped for %s", name)
		}
		if err := mine.Activate(blob); (err == nil) != (name == "its keys") {
			t.Errorf("the TPM itself, wrapped for %s: %v", name, err)
		}
	}
}
