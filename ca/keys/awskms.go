//go:build awskms

package keys

import _ "go.step.sm/crypto/kms/awskms" // AWS KMS
