package azure_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
)

// operation names a row of the page: a client and what it is made to do.
type operation struct{ client, name string }

// evidence is what was seen of each operation.
type evidence map[operation]*sighting

// sighting holds the versions and the outcomes that were seen.
type sighting struct {
	versions map[string]bool
	outcomes map[outcome]bool
}

// outcome is a status and what a client makes of it: "" or the name of its error.
type outcome struct {
	status int
	as     string
}

func (o outcome) String() string {
	text := fmt.Sprint(o.status)
	if o.status < 100 {
		text = "CONNACK " + text
	}
	if o.as != "" {
		text += " " + o.as
	}
	return text
}

func (e evidence) add(of operation, version string, o outcome) {
	s := e[of]
	if s == nil {
		s = &sighting{map[string]bool{}, map[outcome]bool{}}
		e[of] = s
	}
	s.versions[version] = true
	s.outcomes[o] = true
}

func (s *sighting) inOrder() (versions []string, outcomes []outcome) {
	byStatus := func(a, b outcome) int { return cmp.Or(cmp.Compare(a.status, b.status), cmp.Compare(a.as, b.as)) }
	return slices.Sorted(maps.Keys(s.versions)), slices.SortedFunc(maps.Keys(s.outcomes), byStatus)
}

// call is a call that was made, to be judged.
type call struct {
	t   *testing.T
	w   *world
	of  operation
	got reply
}

func (c call) String() string {
	text := fmt.Sprintf("%s: %s: ", c.of.client, c.of.name)
	if c.got.Error != nil {
		text += fmt.Sprintf("%s: %s %s", c.got.Error.Name, c.got.Error.Message, c.got.Error.Result)
	} else {
		text += string(c.got.Result)
	}
	return fmt.Sprintf("%s; on the wire: %v", text, c.got.Seen)
}

// gives wants the call to succeed and decodes its result into out, unless that is nil.
func (c call) gives(out any) {
	c.t.Helper()
	if c.got.Error != nil {
		c.t.Fatal(c)
	}
	for _, x := range c.got.Seen {
		if x.Status >= 300 {
			c.t.Fatal(c)
		}
		c.w.seen.add(c.of, x.Version, outcome{x.Status, ""})
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(c.got.Result, out); err != nil {
		c.t.Fatalf("%s: %v", c, err)
	}
}

// fails wants the SDK to report an error by this name, over an answer of this status.
func (c call) fails(status int, as string) {
	c.t.Helper()
	if c.got.Error == nil || c.got.Error.Name != as {
		c.t.Fatalf("%s; want %s", c, as)
	}
	if len(c.got.Seen) == 0 && c.w.unwatched {
		return
	}
	if len(c.got.Seen) == 0 {
		c.t.Fatalf("%s; nothing was asked", c)
	}
	last := c.got.Seen[len(c.got.Seen)-1]
	if last.Status != status {
		c.t.Fatalf("%s; want %d", c, status)
	}
	c.w.seen.add(c.of, last.Version, outcome{status, as})
}
