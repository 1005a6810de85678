package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// explanation is what would happen if a device registered now, step by step.
type explanation struct {
	RegistrationID string             `json:"registrationId"`
	Basis          string             `json:"basis" doc:"What the device is assumed to show."`
	Admitted       bool               `json:"admitted"`
	RefusedBy      *ruleApplied       `json:"refusedBy,omitempty"`
	Detail         string             `json:"detail,omitempty" doc:"Why it is refused, in a sentence."`
	Owner          *entryRef          `json:"owner,omitempty" doc:"The entry that decided."`
	AssignedHub    string             `json:"assignedHub,omitempty" doc:"Where the device would go."`
	Steps          []step             `json:"steps" nullable:"false" doc:"The decision, in order."`
	Registration   *RegistrationState `json:"registrationState,omitempty" doc:"As it stands."`
	LastRefusal    *refusal           `json:"lastRefusal,omitempty" doc:"The last time a real attempt was refused, if still remembered."`
	Tripwires      []tripwire         `json:"tripwires,omitempty" doc:"The last few that it tripped, newest first."`
}

type step struct {
	Rule    string `json:"rule"`
	Object  string `json:"object,omitempty"`
	Verdict string `json:"verdict" enum:"pass,refuse,note"`
	Detail  string `json:"detail"`
}

type refusal struct {
	Rule    string     `json:"rule"`
	Object  string     `json:"object,omitempty"`
	Door    string     `json:"door"`
	Address string     `json:"address,omitempty"`
	First   *time.Time `json:"first"`
	Last    *time.Time `json:"last"`
	Count   int64      `json:"count"`
	Steps   []step     `json:"steps" nullable:"false"`
}

func explanationOf(x provisioning.Explanation) (explanation, error) {
	out := explanation{
		RegistrationID: x.ID.String(), Basis: x.Basis, Admitted: x.Admitted,
		Owner: ownerOf(x.Entry), AssignedHub: x.Hub, Steps: stepsOf(x.Trace),
	}
	if x.Refused != nil {
		out.RefusedBy = &ruleApplied{Rule: x.Refused.Rule, Object: x.Refused.Object}
		out.Detail = sentence(x.Refused.Detail)
	}
	if x.Registration != nil {
		state := stateOf(*x.Registration)
		out.Registration = &state
	}
	if r := x.LastRefusal; r != nil {
		out.LastRefusal = &refusal{
			Rule: r.Rule, Object: r.Object, Door: r.Door, Address: r.Address,
			First: instant(r.First), Last: instant(r.Last), Count: r.Count, Steps: stepsOf(r.Trace),
		}
	}
	for _, t := range x.Tripwires {
		shown, err := tripwireOf(t)
		if err != nil {
			return out, err
		}
		out.Tripwires = append(out.Tripwires, shown)
	}
	return out, nil
}

func stepsOf(t provisioning.Trace) []step {
	steps := make([]step, 0, len(t))
	for _, s := range t {
		steps = append(steps, step{Rule: s.Rule, Object: s.Object, Verdict: string(s.Verdict), Detail: sentence(s.Detail)})
	}
	return steps
}

type explainChain struct {
	EntryID
	Body struct {
		Certificates string `json:"certificates" doc:"The chain the device would show, leaf first: PEM, or base64 of PEM or DER."`
	}
}

func (d *door) addExplain() {
	const tag = "explain"
	add(d, route{"explain", http.MethodGet, "/explain/{id}", policies.ScopeRead, tag, "Why a device is admitted or refused, from what is on record", false}, d.explain)
	add(d, route{"explain-chain", http.MethodPost, "/explain/{id}", policies.ScopeRead, tag, "The same for a certificate chain", false}, d.explainChain)
}

func (d *door) explain(ctx context.Context, in *EntryID) (*found[explanation], error) {
	return d.explained(ctx, in.ID, nil)
}

func (d *door) explainChain(ctx context.Context, in *explainChain) (*found[explanation], error) {
	const place = "/certificates"
	certs, err := verify.ParseCertificates([]byte(in.Body.Certificates))
	if err != nil {
		return nil, at(err, place)
	}
	chain, err := verify.ReadChain(certs)
	if f := fault.As(err); f != nil {
		// To a device this would be a failed sign-in; here it is input.
		return nil, fault.New(fault.Malformed, f.Rule, "%s", f.Detail).At(place)
	}
	return d.explained(ctx, in.ID, chain)
}

func (d *door) explained(ctx context.Context, spelled string, chain verify.Chain) (*found[explanation], error) {
	id, err := verify.ParseRegistrationID(spelled)
	if err != nil {
		return nil, err
	}
	x, err := d.Engine.Explain(ctx, id, chain)
	if err != nil {
		return nil, err
	}
	body, err := explanationOf(x)
	return &found[explanation]{Body: body}, err
}
