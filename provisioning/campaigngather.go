package provisioning

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// selection is a campaign's selection, read.
type selection struct {
	policies.Selection
	act   policies.CampaignAct
	owner Owner                   // zero: not narrowed
	ids   []verify.RegistrationID // in order, each once; nil: not narrowed
}

// newSelection reads a selection. What it names must exist: a slip of the pen would
// otherwise be a campaign of nobody, and look well.
func newSelection(tx Tx, c policies.Campaign) (s selection, err error) {
	s.Selection, s.act = c.Select, c.Act
	id := func(text, pointer string) (out verify.RegistrationID) {
		if text != "" && err == nil {
			out, err = verify.ParseRegistrationID(text)
			err = at400(err, pointer)
		}
		return out
	}
	if s.Group != "" {
		s.owner = Owner{Kind: Group, ID: id(s.Group, "/select/group")}
	}
	if s.Enrollment != "" {
		s.owner = Owner{Kind: Individual, ID: id(s.Enrollment, "/select/enrollment")}
	}
	for _, text := range s.IDs {
		s.ids = append(s.ids, id(text, "/select/ids"))
	}
	if err != nil {
		return s, err
	}
	slices.SortFunc(s.ids, func(a, b verify.RegistrationID) int { return strings.Compare(a.String(), b.String()) })
	s.ids = slices.Compact(s.ids)
	if c.Act == policies.ActQuarantine {
		if _, err := tx.Hub(strings.ToLower(c.Quarantine.Hub)); fault.Is(err, fault.NotFound) {
			return s, fault.New(fault.Malformed, "quarantine-hub", "no hub of this name is linked").At("/quarantine/hub")
		} else if err != nil {
			return s, err
		}
	}
	return s, s.check(tx)
}

// check looks for what the selection names.
func (s selection) check(tx Tx) error {
	exists := func(err error, pointer, what string) error {
		if fault.Is(err, fault.NotFound) {
			return fault.New(fault.Malformed, "campaign-selects-nothing", "There is no such %s.", what).At(pointer)
		}
		return err
	}
	if !s.owner.IsZero() {
		_, err := tx.Enrollment(s.owner)
		if err := exists(err, "/select/"+map[Kind]string{Group: "group", Individual: "enrollment"}[s.owner.Kind], s.owner.String()); err != nil {
			return err
		}
	}
	if s.Profile != "" {
		_, err := tx.Profile(s.Profile)
		if err := exists(err, "/select/profile", "profile"); err != nil {
			return err
		}
	}
	if s.Hub != "" {
		_, err := tx.Hub(s.Hub)
		if err := exists(err, "/select/hub", "hub"); err != nil {
			return err
		}
	}
	if s.Issuer == "" {
		return nil
	}
	issuers, err := tx.Issuers()
	if err == nil && !slices.ContainsFunc(issuers, func(i ca.Issuer) bool { return i.ID == ca.IssuerID(s.Issuer) }) {
		err = fault.New(fault.Malformed, "campaign-selects-nothing", "There is no such issuer.").At("/select/issuer")
	}
	return err
}

// page reads registrations behind a cursor, in the order of their ids, and where the next
// page begins; zero at the end. What has no index is narrowed by fits.
func (s selection) page(tx Tx, after verify.RegistrationID) (list []Registration, next verify.RegistrationID, err error) {
	if s.ids == nil {
		list, err = tx.Registrations(RegistrationFilter{After: after, Limit: gatherPage, Owner: s.owner, Orphaned: s.Orphaned})
		if len(list) == gatherPage {
			next = list[gatherPage-1].ID
		}
		return list, next, err
	}
	i, _ := slices.BinarySearchFunc(s.ids, after, func(a, b verify.RegistrationID) int { return strings.Compare(a.String(), b.String()) })
	if i < len(s.ids) && s.ids[i] == after {
		i++
	}
	end := min(len(s.ids), i+gatherPage)
	for _, id := range s.ids[i:end] {
		reg, err := tx.Registration(id)
		if fault.Is(err, fault.NotFound) {
			if s.act != policies.ActRetire {
				continue
			}
			reg, err = Registration{ID: id}, nil // it may be enrolled
		}
		if err != nil {
			return nil, next, err
		}
		if (s.owner.IsZero() || reg.Owner == s.owner) && (!s.Orphaned || reg.Version > 0 && reg.Owner.IsZero()) {
			list = append(list, reg)
		}
	}
	if end < len(s.ids) {
		next = s.ids[end-1]
	}
	return list, next, nil
}

// fits says whether a registration of a page is meant.
func (s selection) fits(reg Registration, entry func(Owner) (Enrollment, error)) (bool, error) {
	switch {
	case s.act == policies.ActRenew && cellInUse(reg.Pair).State == rotation.Empty:
		return false, nil // nothing of ours to renew
	case s.Hub != "" && !strings.EqualFold(reg.Hub, s.Hub):
		return false, nil
	case s.Issuer != "" && string(reg.Certificate.Issuer) != s.Issuer:
		return false, nil
	case !s.ExpiresBefore.IsZero() && !endsBefore(reg.Pair, s.ExpiresBefore):
		return false, nil
	case s.Profile == "":
		return true, nil
	}
	en, err := entry(reg.Owner)
	return en.Profile == s.Profile, err
}

// cellInUse is the certificate that a device uses as far as anybody knows: the active one, or
// of those never seen the one that ends last. State is Empty when there is none.
func cellInUse(p rotation.Pair) (c rotation.Cell) {
	for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		cell := p.Cell(slot)
		switch {
		case cell.State == rotation.Active:
			return cell
		case cell.State == rotation.Staged && (c.State == rotation.Empty || cell.NotAfter.After(c.NotAfter)):
			c = cell
		}
	}
	return c
}

// endsBefore says whether every certificate that a device has or will use ends before t.
func endsBefore(p rotation.Pair, t time.Time) bool {
	some := false
	for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		if c := p.Cell(slot); c.State == rotation.Active || c.State == rotation.Staged {
			if !c.NotAfter.Before(t) {
				return false
			}
			some = true
		}
	}
	return some
}

// gather adds one page of registrations to the campaign.
func (s *campaignStep) gather() (more bool, err error) {
	sel, err := newSelection(s.tx, s.Campaign.Campaign)
	if fault.Is(err, fault.Malformed) { // what it names was deleted meanwhile
		return false, s.pause(s.tx, fault.RuleOf(err), s.now)
	}
	if err != nil {
		return false, err
	}
	page, next, err := sel.page(s.tx, s.Cursor)
	if err != nil {
		return false, err
	}
	for _, reg := range page {
		fits, err := sel.fits(reg, s.entry)
		if err != nil {
			return false, err
		}
		if !fits {
			continue
		}
		d := CampaignDevice{Campaign: s.Name, ID: reg.ID, Place: s.place(reg.ID), State: DeviceDue, Ref: cellInUse(reg.Pair).Ref, Updated: s.now}
		if err := s.foresee(&d, reg); err != nil {
			return false, err
		}
		if err := s.tx.InsertCampaignDevice(d); err != nil {
			return false, err
		}
		if d.State == DeviceDue {
			s.Devices++
		}
	}
	if s.Cursor = next; !next.IsZero() {
		return true, nil
	}
	s.State, s.Wave = CampaignRunning, 1
	if s.Expect > 0 && s.Devices > int64(s.Expect) {
		return false, s.pause(s.tx, RuleMoreDevices, s.now)
	}
	if s.Act.Ends() && s.Devices > 0 {
		return false, s.pause(s.tx, RulePlanned, s.now)
	}
	return true, s.advance(s.tx, s.now)
}

// MaxPreview is how many registrations a preview looks at.
const MaxPreview = 200_000

// PreviewCampaign says how many devices a campaign would be about if it were started now.
// whole is false when there are more registrations than it looked at.
//
// Errors are those of StartCampaign.
func (e *Engine) PreviewCampaign(ctx context.Context, c policies.Campaign) (devices int64, whole bool, err error) {
	c = c.Complete()
	if err := c.Validate(e.now()); err != nil {
		return 0, false, err
	}
	var after verify.RegistrationID
	for range MaxPreview / gatherPage {
		err := e.store.View(ctx, func(tx Tx) error {
			if _, err := tx.Campaign(c.Name); !fault.Is(err, fault.NotFound) {
				return first(err, fault.New(fault.Conflict, "campaign-exists", "There is such a campaign already."))
			}
			sel, err := newSelection(tx, c)
			if err != nil {
				return err
			}
			step := campaignStep{tx: tx}
			page, next, err := sel.page(tx, after)
			if err != nil {
				return err
			}
			for _, reg := range page {
				fits, err := sel.fits(reg, step.entry)
				if err != nil {
					return err
				}
				if fits {
					devices++
				}
			}
			after = next
			return nil
		})
		if err != nil || after.IsZero() {
			return devices, err == nil, err
		}
	}
	return devices, false, nil
}
