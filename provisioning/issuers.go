package provisioning

import (
	"context"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// Lifetimes says how long the longest certificate lives that an issuing CA signs: of one
// profile, or, for "", of all. It reads the profiles once.
func (e *Engine) Lifetimes(ctx context.Context) (func(profile string) time.Duration, error) {
	list, err := e.Profiles(ctx)
	return func(profile string) (longest time.Duration) {
		for _, p := range list {
			if profile == "" || profile == p.Name {
				longest = max(longest, p.Lifetime, p.MaxLifetime)
			}
		}
		return longest
	}, err
}

// CheckProfile is Malformed, rule "profile-unknown", for a name that is neither "" nor a
// profile's.
func (e *Engine) CheckProfile(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	_, err := e.Profile(ctx, name)
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.Malformed, "profile-unknown", "no issuing profile of this name exists").About("profile " + name).At("/profile")
	}
	return err
}
