package provisioning

// cutsOver says whether a registration may be the first use of another slot of its entry
// than before: then it makes the entry due, and the sweep sees to the rest. newChain says
// that nothing of the device's chain was known to be on record, which is how a group's first
// device below a new CA shows. A use that it misses is found when the group is looked at
// again.
func (d *decision) cutsOver(p *plan, newChain bool) bool {
	if len(d.entry.Credentials) < 2 || d.own || d.entry.Role() == RoleKey {
		return false
	}
	if d.entry.Kind == Group {
		return newChain
	}
	was := d.facts.Registration
	return was == nil || was.Leaf != p.next.Leaf
}
