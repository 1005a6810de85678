package policies

import (
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

// Rights are what a shared access policy grants: the six permissions of the provisioning
// service and the four of a hub's registry (protocols/dps.md §4, §8). The zero value
// grants nothing.
type Rights uint16

// The rights, of the provisioning service first.
const (
	ServiceConfig Rights = 1 << iota
	EnrollmentRead
	EnrollmentWrite
	RegistrationStatusRead
	RegistrationStatusWrite
	DeviceConnect
	RegistryRead
	RegistryWrite
	ServiceConnect
)

// What the policies named "owner" grant.
const (
	AllServiceRights = ServiceConfig | EnrollmentRead | EnrollmentWrite | RegistrationStatusRead | RegistrationStatusWrite | DeviceConnect
	AllHubRights     = RegistryRead | RegistryWrite | ServiceConnect | DeviceConnect
)

var rightNames = [...]string{
	"ServiceConfig", "EnrollmentRead", "EnrollmentWrite", "RegistrationStatusRead", "RegistrationStatusWrite",
	"DeviceConnect", "RegistryRead", "RegistryWrite", "ServiceConnect",
}

// Grants says whether every one of the wanted rights is there. Who may write enrollments,
// registrations or devices may read them too, as in Azure.
func (r Rights) Grants(want Rights) bool {
	for _, pair := range [...][2]Rights{
		{EnrollmentWrite, EnrollmentRead}, {RegistrationStatusWrite, RegistrationStatusRead}, {RegistryWrite, RegistryRead},
	} {
		if r&pair[0] != 0 {
			r |= pair[1]
		}
	}
	return want != 0 && r&want == want
}

func (r Rights) String() string {
	var words []string
	for i, name := range rightNames {
		if r&(1<<i) != 0 {
			words = append(words, name)
		}
	}
	return strings.Join(words, ", ")
}

// ParseRights reads a list of rights separated by commas or spaces, as String writes it,
// case apart. An unknown word, or none at all, is Malformed ("right-unknown",
// "right-missing").
func ParseRights(text string) (Rights, error) {
	var set Rights
next:
	for _, word := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' }) {
		for i, name := range rightNames {
			if strings.EqualFold(word, name) {
				set |= 1 << i
				continue next
			}
		}
		return 0, fault.New(fault.Malformed, "right-unknown", "a right is one of %s", strings.Join(rightNames[:], ", ")).At("/rights")
	}
	if set == 0 {
		return 0, fault.New(fault.Malformed, "right-missing", "at least one right is needed").At("/rights")
	}
	return set, nil
}
