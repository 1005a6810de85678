//go:build cloudkms

package keys

import _ "go.step.sm/crypto/kms/cloudkms" // Google Cloud KMS
