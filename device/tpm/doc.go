// Package tpm is the device's side of a TPM 2.0: who the TPM is, the key that a provisioning
// service gives it, and a key of its own for certificates. No private key is ever seen here.
//
// The handles are those of Azure's clients, so that a TPM which one of them set up serves
// here, and the other way about. Passwords of its hierarchies are taken to be empty.
//
// Like package device it imports nothing of Muster.
package tpm
