package provisioning

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// ProfileTestScope says what a change of a profile is tried on.
type ProfileTestScope struct {
	Last     int  // at most so many of the last requests; 0 = all that are kept
	All      bool // also those of entries with other profiles
	Examples int  // how many requests whose verdict changes are told of
}

// ProfileTest is what a change of a profile would have done to the last requests.
type ProfileTest struct {
	Requests  int // tried
	Same      int // the same certificate, or the same refusal
	Changed   int // another certificate
	Refused   int // refused now, and would not have been
	Admitted  int // admitted now, and would have been refused
	Rules     map[string]int
	Examples  []ProfileTestExample
	OldestAt  time.Time // of the requests tried; zero when there are none
	Untouched int       // requests of other profiles that were left out
}

// ProfileTestExample is one request that is judged otherwise after the change.
type ProfileTestExample struct {
	RecentRequest
	Before, After *fault.Error // nil: a certificate
	Changes       []ca.Change  // of the certificate, where both would issue one
}

// TestProfile tries a change of a profile on the last certificate requests: by the code
// that decides and issues, but for what rests on a device's record (disallowed keys, key
// reuse, what attested it) and for the signature. It signs nothing and writes nothing.
func (e *Engine) TestProfile(ctx context.Context, change policies.Profile, scope ProfileTestScope) (ProfileTest, error) {
	now := e.now()
	t := ProfileTest{Rules: map[string]int{}}
	if err := e.checkProfile(change, now); err != nil {
		return t, err
	}
	current, err := e.Profile(ctx, change.Name)
	if err != nil {
		return t, err
	}
	requests, err := e.recentRequests(ctx)
	if err != nil {
		return t, err
	}
	if scope.Last <= 0 {
		scope.Last = MaxRecent
	}
	for _, r := range requests {
		if err := ctx.Err(); err != nil || t.Requests == scope.Last {
			return t, err
		}
		if !scope.All && r.Profile != change.Name {
			t.Untouched++
			continue
		}
		t.Requests++
		t.OldestAt = r.At
		x := ProfileTestExample{RecentRequest: r}
		var before, after *x509.Certificate
		before, x.Before = e.tryProfile(current.Profile, r, now)
		after, x.After = e.tryProfile(change, r, now)
		if x.Before == nil && x.After == nil {
			x.Changes = ca.Changes(before, after, now)
		}
		if t.count(x) && len(t.Examples) < scope.Examples {
			t.Examples = append(t.Examples, x)
		}
	}
	return t, nil
}

// count counts a request, and says whether the change makes a difference to it.
func (t *ProfileTest) count(x ProfileTestExample) bool {
	switch {
	case x.After != nil && x.Before == nil:
		t.Refused++
		t.Rules[x.After.Rule]++
	case x.After == nil && x.Before != nil:
		t.Admitted++
	case len(x.Changes) > 0:
		t.Changed++
	default:
		t.Same++
		return false
	}
	return true
}

func (e *Engine) tryProfile(p policies.Profile, r RecentRequest, now time.Time) (*x509.Certificate, *fault.Error) {
	csr, err := policies.ParseCSR(r.CSR)
	if err == nil {
		err = policies.CheckCSR(p, csr, r.ID.String())
	}
	if err == nil {
		err = e.checkBlocked(verify.KeyHashOf(csr.RawSubjectPublicKeyInfo), csr)
	}
	var draft *x509.Certificate
	if err == nil {
		draft, err = e.authority.Draft(r.ID, csr, p, now)
	}
	if f := fault.As(err); err == nil || f != nil {
		return draft, f
	}
	return nil, fault.New(fault.Internal, "internal", "the request could not be tried").Because(err)
}
