//go:build azurekms

package keys

import _ "go.step.sm/crypto/kms/azurekms" // Azure Key Vault
