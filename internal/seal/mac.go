package seal

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// MAC is HMAC-SHA256 of a text that leaves the house and comes back, such as the place
// where a page of a list ended. Its key is derived from the KEK for this alone, so that
// counting on it takes nothing from Seal. The purpose is part of what is authenticated: a
// MAC made for one is worth nothing for another.
func (b *Box) MAC(purpose, text string) [sha256.Size]byte {
	return b.keys.Load().sealing.sum(purpose, text)
}

// CheckMAC says whether a text came back with the beginning of its MAC, made under any KEK
// of the Box: what left the house before the KEK was replaced is still good.
func (b *Box) CheckMAC(purpose, text string, tag []byte) bool {
	for _, k := range b.keys.Load().opening {
		if mac := k.sum(purpose, text); len(tag) > 0 && len(tag) <= len(mac) && hmac.Equal(mac[:len(tag)], tag) {
			return true
		}
	}
	return false
}

func (k *boxKey) sum(purpose, text string) [sha256.Size]byte {
	h := hmac.New(sha256.New, k.mac)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(purpose))))
	h.Write([]byte(purpose))
	h.Write([]byte(text))
	return [sha256.Size]byte(h.Sum(nil))
}

// macKey is the key of MAC (RFC 5869).
func (k KEK) macKey() []byte {
	key, err := hkdf.Key(sha256.New, k.key[:], nil, "muster mac", sha256.Size)
	if err != nil {
		panic("internal error: HKDF: " + err.Error())
	}
	return key
}
