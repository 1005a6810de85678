package store

import (
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// checkPage is how many registrations are looked at together.
const checkPage = 500

// registrations pages through all of them: every certificate in a slot is on record
// (recorded) and names its device (same-name).
func (c *checker) registrations() error {
	filter := provisioning.RegistrationFilter{Limit: checkPage}
	for {
		page, err := c.tx.Registrations(filter)
		if err != nil {
			return err
		}
		if err := c.slots(page); err != nil {
			return err
		}
		if len(page) < checkPage {
			return nil
		}
		filter.After = page[len(page)-1].ID
	}
}

func (c *checker) slots(page []provisioning.Registration) error {
	holders := make(map[verify.Thumbprint]verify.RegistrationID)
	var indexes []any
	for _, reg := range page {
		for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
			if cell := reg.Pair.Cell(slot); cell.State != rotation.Empty {
				x := verify.Thumbprint(cell.Ref)
				holders[x] = reg.ID
				indexes = append(indexes, thumb8(x))
			}
		}
	}
	if len(indexes) == 0 {
		return nil
	}
	err := c.each("SELECT thumbprint, registration_id FROM certificates WHERE thumb8 IN ("+marks(len(indexes))+")", func(r *row) {
		x, device := verify.Thumbprint(r.hash()), r.id()
		holder, held := holders[x]
		if held && holder != device {
			c.add("same-name", "registration "+holder.String(), "a slot holds a certificate of "+device.String())
		}
		delete(holders, x)
	}, indexes...)
	if err != nil {
		return err
	}
	for x, holder := range holders {
		c.add("recorded", "registration "+holder.String(), "a slot holds certificate "+x.String()+", which is not on record")
	}
	return nil
}

// contained looks for registrations that were assigned later than what attested them was
// disallowed: the leaf, its key, or a link of the chain above.
func (c *checker) contained() error {
	disallowed := make(map[[32]byte]int64) // open disallowances, by when
	err := c.each("SELECT digest, created FROM disallowances WHERE lifted_at = 0", func(r *row) {
		digest := r.hash()
		disallowed[digest] = r.int()
	})
	if err != nil || len(disallowed) == 0 {
		return err
	}
	chains := make(map[int64]int64) // chains a disallowance names, by when
	err = c.each("SELECT l.chain, min(d.created) FROM disallowances d JOIN chain_links l ON l.thumbprint = d.digest OR l.key_hash = d.digest "+
		"WHERE d.lifted_at = 0 GROUP BY l.chain", func(r *row) {
		chain := r.int()
		chains[chain] = r.int()
	})
	if err != nil {
		return err
	}
	return c.each("SELECT id, leaf, leaf_key, chain, operation_at FROM registrations WHERE state = 'assigned' AND operation_at - "+tolerance+" > ?", func(r *row) {
		id, leaf, key, chain, at := r.text(), r.hash(), r.hash(), r.int(), r.int()
		for _, since := range []int64{disallowed[leaf], disallowed[key], chains[chain]} {
			if since != 0 && at > since+toleranceMicros {
				c.add("contained", "registration "+id, "it was assigned after what attested it was disallowed")
				return
			}
		}
	}, oldest(disallowed))
}

// oldest is the time of the first disallowance.
func oldest(disallowed map[[32]byte]int64) int64 {
	first := int64(0)
	for _, at := range disallowed {
		if first == 0 || at < first {
			first = at
		}
	}
	return first
}
