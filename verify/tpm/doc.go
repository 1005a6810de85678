// Package tpm reads the public keys of a device's TPM 2.0 and wraps secrets for it, so that
// only the TPM which holds both keys can use them; no TPM is needed here.
//
// Whatever it reads is a stranger's: sizes are bounded before anything is parsed, a
// structure is taken only in the one form that the specification has for it, and a key only
// if it has the attributes by which its TPM vouches for it. It is the one package that knows
// TPM structures, and is called by verify, by provisioning and by the doors that parse.
package tpm
