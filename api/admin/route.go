package admin

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/passmuster/muster/policies"
)

// route is one operation. A route without a scope lets nobody in (INV-L5).
type route struct {
	id      string
	method  string
	path    string // below /api/v1
	scope   policies.Scope
	tag     string
	summary string
	creates bool // answers 201 when it made something new
}

// bearer names the way to sign in, in the document.
const bearer = "bearer"

// add registers an operation: its input and output types are its documentation.
func add[I, O any](d *door, r route, handle func(context.Context, *I) (*O, error)) {
	responses := map[string]*huma.Response{"default": d.problemResponse()}
	op := huma.Operation{
		OperationID: r.id, Method: r.method, Path: r.path, Summary: r.summary, Tags: []string{r.tag},
		Metadata:   map[string]any{scopeKey: r.scope},
		Extensions: map[string]any{"x-scope": string(r.scope)},
		Security:   []map[string][]string{{bearer: {}}},
		Responses:  responses,
		// readBody has read the body already, within its own limit.
		MaxBodyBytes: maxBody + 2, BodyReadTimeout: -1,
	}
	if r.scope == public {
		op.Security = []map[string][]string{}
	}
	huma.Register(d.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, problemOf(ctx, err)
		}
		return out, nil
	})
	if r.creates {
		made := *responses["200"]
		made.Description = "Created"
		responses["201"] = &made
	}
}

// found is the answer with one resource.
type found[T any] struct {
	ETag string `header:"ETag" doc:"The resource's version, for If-Match."`
	Body T
}

// written is the answer of a write; its status is 201 when something was made.
type written[T any] struct {
	Status   int
	ETag     string `header:"ETag" doc:"The resource's version, for If-Match."`
	Location string `header:"Location" doc:"The path of what was made."`
	Body     T
}

// done is an answer without a body: 204.
type done struct{}
