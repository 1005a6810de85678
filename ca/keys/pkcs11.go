//go:build cgo

package keys

import _ "go.step.sm/crypto/kms/pkcs11" // HSMs: their modules are C libraries
