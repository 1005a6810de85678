package azure

import (
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// ParseVersion reads an api-version: the date in it, without "-preview". Any well-formed
// date is taken: clients are not told which versions there are by being refused (§1). A
// missing or other one is Malformed, rule "api-version".
func ParseVersion(s string) (date string, err error) {
	date = strings.TrimSuffix(s, "-preview")
	if _, err := time.Parse(time.DateOnly, date); err != nil {
		return "", fault.New(fault.Malformed, "api-version", "The query parameter api-version is missing or no date such as 2021-06-01.")
	}
	return date, nil
}
