package keys

import (
	"context"
	"crypto"
	"strings"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// Keeper opens a key wherever its URI says it is, and makes new ones in one place: in the
// device where there is one, in the folder otherwise. So an installation moves to a device
// while the keys of its older issuers stay in files.
type Keeper struct {
	folder *Folder
	device *Device // nil: none
}

// Keep joins a folder with a device, which may be nil.
func Keep(folder *Folder, device *Device) *Keeper { return &Keeper{folder: folder, device: device} }

// Create implements ca.Keys.
func (k *Keeper) Create(ctx context.Context, name string, kt policies.KeyType) (uri string, signer crypto.Signer, err error) {
	if k.device != nil {
		return k.device.Create(ctx, name, kt)
	}
	return k.folder.Create(ctx, name, kt)
}

// Open implements ca.Keys. Besides the rules of [Folder.Open] and [Device.Open] it has
// "key-device-missing": the key is in a device that nothing was said about.
func (k *Keeper) Open(ctx context.Context, uri string) (crypto.Signer, error) {
	kind, _, _ := strings.Cut(uri, ":")
	switch {
	case drivers[kind] == "":
		return k.folder.Open(ctx, uri)
	case k.device == nil || k.device.kind != kind:
		return nil, fault.New(fault.Malformed, "key-device-missing", "The key is in a device of the kind %s: name it in keys.uri.", kind).About(uri)
	}
	return k.device.Open(ctx, uri)
}
