//go:build tpmkms

package keys

import _ "go.step.sm/crypto/kms/tpmkms" // keys in the TPM of this host
