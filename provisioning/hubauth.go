package provisioning

import (
	"strings"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// auth is what a device that proved itself by was shall prove itself by.
//
// Keys that are asked for and not named say nothing of a device that is there: npm's client
// sends just that with every update whose caller named no authentication (contract §8).
func (draft HubDraft) auth(was HubAuth, made [2]verify.Secret) (HubAuth, error) {
	wanted := HubAuth{}
	if draft.Auth != nil {
		wanted = *draft.Auth
	}
	if was.Type != "" && wanted.isSilent() {
		return was, nil
	}
	if wanted.Type == "" {
		wanted.Type = was.Type
		if wanted.Thumbprints != [2]string{} {
			wanted.Type = HubSelfSigned
		}
	}
	if wanted.Type == "" {
		wanted.Type = HubSAS
	}
	switch kept := was.Type == wanted.Type; wanted.Type {
	case HubSAS:
		wanted.Thumbprints = [2]string{}
		for slot, key := range wanted.Keys {
			if !key.IsZero() {
				if n := len(key.Reveal()); n < 16 || n > 64 {
					return wanted, fault.New(fault.Malformed, "symmetric-key", "a symmetric key has 16 to 64 bytes").At("/authentication/symmetricKey")
				}
				continue
			}
			wanted.Keys[slot] = made[slot]
			if kept {
				wanted.Keys[slot] = was.Keys[slot]
			}
		}
	case HubSelfSigned:
		wanted.Keys = [2]verify.Secret{}
		if kept && wanted.Thumbprints == [2]string{} {
			return was, nil
		}
		return wanted, checkHubThumbprints(&wanted.Thumbprints)
	case HubCertificateAuthority, HubNoAuth:
		wanted.Keys, wanted.Thumbprints = [2]verify.Secret{}, [2]string{}
	default:
		return wanted, fault.New(fault.Malformed, "hub-authentication", "A device's authentication is sas, selfSigned, certificateAuthority or none.").At("/authentication/type")
	}
	return wanted, nil
}

// isSilent says that a draft names neither a credential nor a way that needs none.
func (a HubAuth) isSilent() bool {
	return (a.Type == "" || a.Type == HubSAS) && a.Thumbprints == [2]string{} && a.Keys[0].IsZero() && a.Keys[1].IsZero()
}

// checkHubThumbprints wants at least one, and writes them in upper case.
func checkHubThumbprints(list *[2]string) error {
	bad := fault.New(fault.Malformed, "hub-thumbprint", "A selfSigned device has a thumbprint of 40 or 64 hex digits.").At("/authentication/x509Thumbprint")
	for i, text := range list {
		digits := strings.TrimLeft(text, "0123456789abcdefABCDEF") == ""
		if text != "" && (!digits || len(text) != 40 && len(text) != 64) {
			return bad
		}
		list[i] = strings.ToUpper(text)
	}
	if *list == ([2]string{}) {
		return bad
	}
	return nil
}

func (w hubWriting) seal(hub string, device verify.RegistrationID, a HubAuth) SealedAuth {
	sealed := SealedAuth{Type: a.Type, Thumbprints: a.Thumbprints}
	for slot, key := range a.Keys {
		if !key.IsZero() {
			sealed.SealedKeys[slot] = w.box.Seal(hubKeyPurpose(hub, device, rotation.Slot(slot)), key.Reveal())
		}
	}
	return sealed
}
