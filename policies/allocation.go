package policies

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

// AllocationPolicy is how a hub is chosen for a device (contract §6.7).
type AllocationPolicy string

// The policies that can be evaluated.
const (
	Hashed AllocationPolicy = "hashed" // spread by weight, stable per device
	Static AllocationPolicy = "static" // the one hub the enrollment names
)

// ParseAllocationPolicy reads a policy as it is spelled on the wire; "" is hashed.
// Azure's other two are known and refused as Malformed ("allocation-not-supported").
func ParseAllocationPolicy(s string) (AllocationPolicy, error) {
	switch s {
	case "", string(Hashed):
		return Hashed, nil
	case string(Static):
		return Static, nil
	case "geoLatency":
		return "", fault.New(fault.Malformed, "allocation-not-supported",
			"the allocation policy geoLatency is not supported: latency cannot be measured here; use hashed or static")
	case "custom":
		return "", fault.New(fault.Malformed, "allocation-not-supported",
			"the allocation policy custom is not supported: no webhook is called; use hashed or static")
	}
	return "", unknownAllocation()
}

func unknownAllocation() error {
	return fault.New(fault.Malformed, "allocation-unknown", "the allocation policy is none of hashed, static, geoLatency and custom")
}

// Candidate is a linked hub that an enrollment's devices may go to. A hub that is
// draining, or has no positive weight, takes no new devices.
type Candidate struct {
	Hub      string // host name
	Weight   int
	Draining bool
}

// Allocate chooses a hub for the device with this key (its registration id, compared
// without regard to case) that lives on the hub current ("" = on none). why is a
// stable word for explain:
//
//	hashed       the hub won the device's weighted draw among the hubs that take new devices
//	static       it is the hub the enrollment names
//	draining     the device's own hub takes no new devices but keeps those it has
//	no-other-hub the device stays, as no hub takes new devices
//
// A refusal is a Conflict, which fails the registration and not the request:
// "no-hub-linked", "hub-draining" (static, and the hub takes no new devices),
// "static-needs-one-hub". A policy that is none of ours is Malformed.
func Allocate(p AllocationPolicy, key, current string, hubs []Candidate) (hub, why string, err error) {
	switch p {
	case Hashed:
		return allocateHashed(key, current, hubs)
	case Static:
		return allocateStatic(current, hubs)
	}
	return "", "", unknownAllocation()
}

// allocateHashed is weighted rendezvous hashing: every hub draws a number from the
// device's key and its own name, stretched by its weight, and the highest wins. A
// hub that comes, goes or changes its weight moves only its own share of devices.
func allocateHashed(key, current string, hubs []Candidate) (hub, why string, err error) {
	best := math.Inf(-1)
	home := ""
	for _, h := range hubs {
		if current != "" && sameName(h.Hub, current) {
			if h.Draining {
				return h.Hub, "draining", nil
			}
			home = h.Hub
		}
		if h.Draining || h.Weight <= 0 {
			continue
		}
		s := draw(key, h.Hub, h.Weight)
		if s > best || s == best && h.Hub < hub {
			best, hub = s, h.Hub
		}
	}
	switch {
	case hub != "":
		return hub, "hashed", nil
	case home != "":
		return home, "no-other-hub", nil
	}
	return "", "", noHub()
}

// draw is a hub's score -weight/ln(u), u uniform in (0,1) by SHA-256 of key and hub:
// the highest of such scores belongs to each hub in proportion to its weight. The
// formula is part of the record: changing it would move devices.
func draw(key, hub string, weight int) float64 {
	in := make([]byte, 0, 256)
	in = append(in, strings.ToLower(key)...)
	in = append(in, 0) // neither ids nor host names hold it
	in = append(in, strings.ToLower(hub)...)
	sum := sha256.Sum256(in)
	u := (float64(binary.BigEndian.Uint64(sum[:8])>>11) + 0.5) / (1 << 53)
	return -float64(weight) / math.Log(u)
}

// allocateStatic ignores weights: they share devices out, and here is nothing to share.
func allocateStatic(current string, hubs []Candidate) (hub, why string, err error) {
	switch {
	case len(hubs) == 0:
		return "", "", noHub()
	case len(hubs) > 1:
		return "", "", fault.New(fault.Conflict, "static-needs-one-hub", "static allocation needs an enrollment that names exactly one hub")
	case !hubs[0].Draining:
		return hubs[0].Hub, "static", nil
	case current != "" && sameName(hubs[0].Hub, current):
		return hubs[0].Hub, "draining", nil
	}
	return "", "", fault.New(fault.Conflict, "hub-draining", "the hub this enrollment names takes no new devices").About("hub " + hubs[0].Hub)
}

func noHub() error {
	return fault.New(fault.Conflict, "no-hub-linked", "no linked hub takes new devices for this enrollment")
}
