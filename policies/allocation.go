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

// The policies.
const (
	Hashed     AllocationPolicy = "hashed"     // spread by weight, stable per device
	GeoLatency AllocationPolicy = "geoLatency" // hashed among the hubs of the device's location (scenarios X8)
	Static     AllocationPolicy = "static"     // the one hub the enrollment names
	Custom     AllocationPolicy = "custom"     // the hub a webhook names
)

// ParseAllocationPolicy reads a policy as it is spelled on the wire; "" is hashed.
func ParseAllocationPolicy(s string) (AllocationPolicy, error) {
	switch p := AllocationPolicy(s); p {
	case "":
		return Hashed, nil
	case Hashed, GeoLatency, Static, Custom:
		return p, nil
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
	Location string // "" = none said
	Weight   int
	Draining bool
}

// Placement is what allocation goes by, of one device.
type Placement struct {
	Key      string // its registration id, compared without regard to case
	Current  string // the hub it lives on; "" = on none
	Location string // where it is, for geoLatency; "" = unknown
	Named    string // the hub that a webhook named, for custom
}

// Allocate chooses a hub for a device. why is a stable word for explain:
//
//	hashed             the hub won the device's weighted draw among the hubs that take new devices
//	static             it is the hub the enrollment names
//	custom             it is the hub the webhook named
//	same-location      geoLatency: it won the draw among the hubs of the device's location
//	location-unknown   geoLatency: nothing says where the device is; it won the draw among all
//	no-hub-in-location geoLatency: no hub there takes new devices; it won the draw among all
//	draining           the device's own hub takes no new devices but keeps those it has
//	no-other-hub       the device stays, as no hub takes new devices
//
// A refusal is a Conflict, which fails the registration and not the request:
// "no-hub-linked", "hub-draining" (static or custom, and the hub takes no new devices),
// "static-needs-one-hub", "allocation-other-hub" (custom, and the hub is no candidate). A
// policy that is none of ours is Malformed.
func Allocate(p AllocationPolicy, place Placement, hubs []Candidate) (hub, why string, err error) {
	switch p {
	case Hashed:
		return allocateHashed(place, hubs)
	case GeoLatency:
		return allocateNearby(place, hubs)
	case Static:
		return allocateStatic(place, hubs)
	case Custom:
		return allocateNamed(place, hubs)
	}
	return "", "", unknownAllocation()
}

// allocateHashed is weighted rendezvous hashing: every hub draws a number from the
// device's key and its own name, stretched by its weight, and the highest wins. A
// hub that comes, goes or changes its weight moves only its own share of devices.
func allocateHashed(place Placement, hubs []Candidate) (hub, why string, err error) {
	best := math.Inf(-1)
	home := ""
	for _, h := range hubs {
		if place.lives(h) {
			if h.Draining {
				return h.Hub, "draining", nil
			}
			home = h.Hub
		}
		if h.Draining || h.Weight <= 0 {
			continue
		}
		s := draw(place.Key, h.Hub, h.Weight)
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

// allocateNearby measures nothing: no latency can be measured here, so a device goes by
// the location that it and the hubs are said to be in. A hub elsewhere that is draining
// keeps its devices all the same.
func allocateNearby(place Placement, hubs []Candidate) (hub, why string, err error) {
	fallback := "location-unknown"
	if place.Location != "" {
		fallback = "no-hub-in-location"
		var near []Candidate
		for _, h := range hubs {
			if sameName(h.Location, place.Location) || h.Draining && place.lives(h) {
				near = append(near, h)
			}
		}
		if hub, why, err = allocateHashed(place, near); why == "hashed" {
			why = "same-location"
		}
		if err == nil {
			return hub, why, nil
		}
	}
	if hub, why, err = allocateHashed(place, hubs); why == "hashed" {
		why = fallback
	}
	return hub, why, err
}

// allocateStatic ignores weights: they share devices out, and here is nothing to share.
func allocateStatic(place Placement, hubs []Candidate) (hub, why string, err error) {
	switch {
	case len(hubs) == 0:
		return "", "", noHub()
	case len(hubs) > 1:
		return "", "", fault.New(fault.Conflict, "static-needs-one-hub", "static allocation needs an enrollment that names exactly one hub")
	}
	return place.take(hubs[0], "static")
}

// allocateNamed ignores weights too: the webhook has its own reasons.
func allocateNamed(place Placement, hubs []Candidate) (hub, why string, err error) {
	if len(hubs) == 0 {
		return "", "", noHub()
	}
	for _, h := range hubs {
		if sameName(h.Hub, place.Named) {
			return place.take(h, "custom")
		}
	}
	return "", "", fault.New(fault.Conflict, "allocation-other-hub", "the allocation webhook named a hub that this enrollment's devices may not go to")
}

// lives says whether the device's own hub is this one.
func (p Placement) lives(h Candidate) bool { return p.Current != "" && sameName(h.Hub, p.Current) }

// take is the one hub that was named, if it takes the device.
func (p Placement) take(h Candidate, why string) (string, string, error) {
	switch {
	case !h.Draining:
		return h.Hub, why, nil
	case p.lives(h):
		return h.Hub, "draining", nil
	}
	return "", "", fault.New(fault.Conflict, "hub-draining", "the hub named takes no new devices").About("hub " + h.Hub)
}

func noHub() error {
	return fault.New(fault.Conflict, "no-hub-linked", "no linked hub takes new devices for this enrollment")
}
