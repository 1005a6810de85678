// Package tpm holds the test of a device whose key is in a software TPM (swtpm), and that uses its
// certificate where nobody knows of TPMs: at a real Mosquitto.
//
// Only its test has code.
package tpm
