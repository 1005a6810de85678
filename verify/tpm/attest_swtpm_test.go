package tpm_test

import (
	"bytes"
	"crypto"
	"testing"

	"github.com/google/go-tpm/tpm2"

	device "github.com/passmuster/muster/device/tpm"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify/tpm"
)

func attestationKey(t *testing.T, d *device.TPM) tpm.AttestationKey {
	t.Helper()
	raw, err := d.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	ak, err := tpm.ParseAttestationKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return ak
}

func newKey(t *testing.T, d *device.TPM) crypto.Signer {
	t.Helper()
	key, err := d.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestATPMVouchesForItsKeys(t *testing.T) {
	t.Parallel()
	secret := bytes.Repeat([]byte{9}, 32)
	mine, other := opened(t, tpm2.ECCEKTemplate), opened(t, tpm2.RSAEKTemplate)
	for name, d := range map[string]*device.TPM{"p-256": mine, "rsa": other} {
		ek, _ := parsed(t, d)
		ak, key := attestationKey(t, d), newKey(t, d)
		challenge, err := tpm.Bind(ek, ak, secret)
		if err != nil {
			t.Fatal(err)
		}
		var made tpm.Attestation
		if made.CertifyInfo, made.Signature, made.KeyPublic, err = d.Attest(challenge, key); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := made.Check(ak, spki(t, key), secret); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if again := attestationKey(t, d); !bytes.Equal(again.Bytes(), ak.Bytes()) {
			t.Errorf("%s: the attestation key is another each time", name)
		}
	}

	ek, _ := parsed(t, mine)
	theirs := attestationKey(t, other)
	challenge, err := tpm.Bind(ek, theirs, secret)
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]*device.TPM{"the endorsement key": mine, "the attestation key": other} {
		if _, _, _, err := d.Attest(challenge, newKey(t, d)); err == nil {
			t.Errorf("a TPM with %s alone got the secret", name)
		}
	}
	if challenge, err = tpm.Bind(ek, attestationKey(t, mine), secret); err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"no TPM": testkit.NewKey(t, "p256"), "another TPM": newKey(t, other)} {
		if _, _, _, err := mine.Attest(challenge, key); err == nil {
			t.Errorf("it vouches for a key in %s", name)
		}
	}
	for name, bad := range map[string][]byte{"nothing": nil, "one structure": {0, 1, 7}, "one cut short": {0, 9, 1}, "more than two": append(bytes.Clone(challenge), 0)} {
		if _, _, _, err := mine.Attest(bad, newKey(t, mine)); err == nil {
			t.Errorf("it took %s", name)
		}
	}
}
