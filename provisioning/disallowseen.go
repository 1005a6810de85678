package provisioning

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// seenEffect is what the preview of an id promised.
type seenEffect struct {
	what    [sha256.Size]byte // certificate and scope
	expires time.Time
	devices int64
	issued  int64
	revoked int64
	seq     int64
	marks   [][8]byte // of what else it does
}

// marks stand for what a disallowance does to entries and issuers, each of which has to have been shown.
func (p DisallowPreview) marks() (list [][8]byte) {
	add := func(text string) {
		sum := sha256.Sum256([]byte(text))
		list = append(list, [8]byte(sum[:8]))
	}
	for _, x := range p.Entries {
		add(x.Owner.String() + "|" + string(x.Act) + "|" + x.Slot.String())
	}
	for _, i := range p.Fallen {
		add("issuer|" + string(i.ID))
	}
	for _, x := range p.Stops {
		add("stop|" + string(x.Role) + "|" + x.Profile)
	}
	return list
}

func whatOf(i Incident) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(string(i.Scope) + "|" + string(i.Reason) + "|" + i.Since.String() + "|"))
	h.Write(i.Certificate)
	return [sha256.Size]byte(h.Sum(nil))
}

// previewPurpose binds a preview to its id scope.
func (e *Engine) previewPurpose() string { return "disallow-preview|" + e.idScope }

// sealPreview makes an id that says what was shown: every replica can read it, nobody else can
// make one.
func (e *Engine) sealPreview(p DisallowPreview) string {
	what := whatOf(p.Incident)
	b := bytes.NewBuffer(what[:])
	for _, n := range []int64{p.Expires.UnixMicro(), p.Devices, p.IssuedSince, p.Revoked, p.seq} {
		_ = binary.Write(b, binary.BigEndian, n) // a buffer takes all
	}
	for _, mark := range p.marks() {
		b.Write(mark[:])
	}
	return base64.RawURLEncoding.EncodeToString(e.box.Seal(e.previewPurpose(), b.Bytes()))
}

func (e *Engine) openPreview(id string) (s seenEffect, err error) {
	if id == "" {
		return s, fault.New(fault.Conflict, "preview-needed", "look at what it does first: the act takes the id of a preview")
	}
	sealed, err := base64.RawURLEncoding.DecodeString(id)
	if err == nil {
		sealed, err = e.box.Open(e.previewPurpose(), sealed)
	}
	const fixed = sha256.Size + 5*8
	if err != nil || len(sealed) < fixed || (len(sealed)-fixed)%8 != 0 {
		return s, fault.New(fault.Malformed, "preview-unknown", "this is no id of a preview").At("/preview")
	}
	s.what = [sha256.Size]byte(sealed[:sha256.Size])
	number := func(n int) int64 { return int64(binary.BigEndian.Uint64(sealed[sha256.Size+8*n:])) }
	s.expires, s.devices, s.issued, s.revoked, s.seq = time.UnixMicro(number(0)), number(1), number(2), number(3), number(4)
	for rest := sealed[fixed:]; len(rest) > 0; rest = rest[8:] {
		s.marks = append(s.marks, [8]byte(rest))
	}
	return s, nil
}

// made is when the preview was.
func (s seenEffect) made() time.Time { return s.expires.Add(-previewLife) }

// covers says whether what would be done now was all in the preview.
func (s seenEffect) covers(p DisallowPreview, now time.Time) error {
	switch {
	case s.what != whatOf(p.Incident):
		return fault.New(fault.Malformed, "preview-of-another", "the preview was of another certificate, scope, reason or time").At("/preview")
	case now.After(s.expires):
		return fault.New(fault.Conflict, "preview-expired", "the preview is more than an hour old: look again")
	}
	grew := p.Devices > s.devices || p.IssuedSince > s.issued || p.Revoked > s.revoked
	for _, mark := range p.marks() {
		grew = grew || !slices.Contains(s.marks, mark)
	}
	if grew {
		return fault.New(fault.Conflict, "effect-grew", "it would do more than the preview said: look again")
	}
	return nil
}
