package dps

import "github.com/passmuster/muster/api/internal/azure"

// version is an api-version: a date, with or without "-preview" after it.
type version string

// withCSR is the first version of the device API that carries certificates (§2.3).
const withCSR = "2025-07-01"

// parseVersion reads the date of an api-version.
func parseVersion(s string) (version, error) {
	date, err := azure.ParseVersion(s)
	return version(date), err
}

// withoutOldCSR is the first version that no longer knows the CSR of the early previews.
const withoutOldCSR = "2021-11-01"

func (v version) carriesCSR() bool { return v >= withCSR }

// carriesOldCSR says that the version has clientCertificateCsr and issuedClientCertificate
// (§2.3).
func (v version) carriesOldCSR() bool { return v < withoutOldCSR }
