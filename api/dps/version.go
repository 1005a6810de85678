package dps

import (
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// version is an api-version: a date, with or without "-preview" after it.
type version string

// withCSR is the first version of the device API that carries certificates (§2.3).
const withCSR = "2025-07-01"

// parseVersion takes any well-formed date: clients are not told which versions there
// are by being refused (§1). A missing or other one is Malformed, rule "api-version".
func parseVersion(s string) (version, error) {
	date := strings.TrimSuffix(s, "-preview")
	if _, err := time.Parse(time.DateOnly, date); err != nil {
		return "", fault.New(fault.Malformed, "api-version", "The query parameter api-version is missing or no date such as 2021-06-01.")
	}
	return version(date), nil
}

func (v version) carriesCSR() bool { return v >= withCSR }
