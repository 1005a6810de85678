package provisioning

import "github.com/passmuster/muster/verify"

// ProfileTx is what is read and written of profiles, their versions, and what tries them.
type ProfileTx interface {
	Profile(name string) (Profile, error)
	Profiles() ([]Profile, error)
	InsertProfile(Profile) error
	UpdateProfile(p Profile, was int64) error
	DeleteProfile(name string, version int64) error
	ProfileUse(name string) (entries int64, err error)

	// InsertProfileVersion keeps what was written; it stays when the profile is deleted.
	InsertProfileVersion(ProfileVersion) error
	ProfileVersion(name string, version int64) (ProfileVersion, error)
	// ProfileVersions lists those before a version (0 = the newest), newest first.
	ProfileVersions(name string, before int64, limit int) ([]ProfileVersion, error)

	// HoldKey makes a key a registration's own. With again the registration may hold it
	// already; else nobody may. Otherwise it fails with fault.Malformed, rule "key-reused":
	// the unique index has the last word.
	HoldKey(key verify.KeyHash, id verify.RegistrationID, again bool) error

	// AppendRecentRequests adds requests, oldest first, and keeps the newest MaxRecent.
	AppendRecentRequests([]RecentRequest) error
	// RecentRequests lists the newest, newest first.
	RecentRequests(limit int) ([]RecentRequest, error)
}
