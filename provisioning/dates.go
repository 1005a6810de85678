package provisioning

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// Date is a day that people put into their calendars.
type Date struct {
	ID   string // the same as long as the same thing is meant, whatever its date
	At   time.Time
	For  time.Duration // 0: a moment
	What string        // one sentence, with names as others gave them
}

// maxDates bounds a calendar: groups beyond it are left out.
const maxDates = 5000

// Dates lists when issuers, trust anchors and groups' signing certificates end or want a
// successor, when a root whose key is elsewhere has to sign its next CRL, and when plans'
// windows open next; soonest first.
func (e *Engine) Dates(ctx context.Context) (list []Date, err error) {
	now := e.now()
	err = e.store.View(ctx, func(tx Tx) error {
		d := dating{tx: tx, now: now}
		for _, part := range []func() error{d.issuers, d.lists, d.anchors, d.windows, d.groups} {
			if err := part(); err != nil {
				return err
			}
		}
		list = d.list
		return nil
	})
	slices.SortStableFunc(list, func(a, b Date) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	return list, err
}

// dating collects dates in one View.
type dating struct {
	tx    Tx
	now   time.Time
	plans []policies.RotationPlan
	list  []Date
}

func (d *dating) add(id string, at time.Time, what string, args ...any) {
	if !at.IsZero() && len(d.list) < maxDates {
		d.list = append(d.list, Date{ID: id, At: at, What: fmt.Sprintf(what, args...)})
	}
}

func (d *dating) issuers() (err error) {
	if d.plans, err = PlansOnRecord(d.tx); err != nil {
		return err
	}
	issuers, err := d.tx.Issuers()
	if err != nil {
		return err
	}
	for _, i := range issuers {
		cert, err := x509.ParseCertificate(i.Certificate)
		if err != nil || i.State == ca.IssuerRetired || i.State == ca.IssuerRevoked {
			continue
		}
		id := "issuer-" + string(i.ID)
		d.add(id+"-ends", cert.NotAfter, "The issuer %s (%s) ends.", i.Name, i.ID)
		switch {
		case i.State == ca.IssuerRetiring:
			d.add(id+"-retires", i.RetireAt, "The issuer %s (%s) signs no more CRLs.", i.Name, i.ID)
		case i.State == ca.IssuerActive && !Succeeded(issuers, i):
			plan, _ := policies.Nearest(d.plans, policies.RollIssuers, "", i.Profile)
			d.add(id+"-successor", plan.Rotation().PrepareAfter(cert.NotBefore, cert.NotAfter), "The successor of the issuer %s (%s) is due.", i.Name, i.ID)
		}
	}
	return nil
}

// lists dates the CRLs that take a ceremony.
func (d *dating) lists() error {
	issuers, err := d.tx.Issuers()
	if err != nil {
		return err
	}
	shards, err := d.tx.CRLShards()
	if err != nil {
		return err
	}
	for _, i := range issuers {
		if i.Role != ca.RoleRoot || i.KeyURI != "" || i.Upstream != "" || i.State == ca.IssuerRetired || i.State == ca.IssuerRevoked {
			continue
		}
		for _, s := range shards {
			if s.Issuer == i.ID && s.Shard == 0 {
				d.add("crl-"+string(i.ID), s.Next, "The CRL of the root %s (%s) ends: its next one has to be there.", i.Name, i.ID)
			}
		}
	}
	return nil
}

func (d *dating) anchors() error {
	for after := ""; len(d.list) < maxDates; {
		page, err := d.tx.Anchors(after, surveyPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, a := range page {
			after = a.Name()
			d.add("anchor-"+after+"-ends", a.Link().Cert.NotAfter, "The trust anchor %s ends.", after)
		}
	}
	return nil
}

func (d *dating) windows() error {
	for _, p := range d.plans {
		if p.Paused {
			continue
		}
		for n, w := range p.Windows {
			if open, at := (policies.Windows{w}).Open(d.now); !open && !at.IsZero() && len(d.list) < maxDates {
				d.list = append(d.list, Date{ID: fmt.Sprintf("plan-%s-%d", p.Name, n), At: at, For: w.Length, What: fmt.Sprintf("A window of the plan %s, for %s.", p.Name, p.Role)})
			}
		}
	}
	return nil
}

func (d *dating) groups() error {
	for after := (verify.RegistrationID{}); len(d.list) < maxDates; {
		page, err := d.tx.Enrollments(EnrollmentFilter{Kind: Group, After: after, Limit: surveyPage, Role: RoleSigning})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, entry := range page {
			after = entry.ID
			slots, err := readSlots(d.tx, entry)
			if err != nil {
				return err
			}
			for slot, h := range slots.holds {
				if h.link.Cert != nil {
					name := rotation.Slot(slot).String()
					d.add("group-"+entry.ID.String()+"-"+name+"-ends", h.link.Cert.NotAfter, "The %s signing certificate of the group %s ends.", name, entry.Spelled)
				}
			}
		}
	}
	return nil
}
