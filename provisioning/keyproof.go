package provisioning

import (
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// provenKey is the symmetric key of an entry that a device proved.
type provenKey struct {
	hash   verify.KeyHash
	staged bool // it is the one that is to follow, and no device was seen with it
}

func provenBy(key verify.Secret, c Credential) provenKey {
	return provenKey{key.Hash(), c.State == rotation.Staged}
}

// takesUpKey says that the device came with a symmetric key of its entry that was waiting to
// be used: the entry is due, so that the sweep promotes it. Devices that come with a key in
// use cost nothing.
func (d *decision) takesUpKey() bool { return d.key.staged }
