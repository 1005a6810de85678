package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// tokenCmd makes operator tokens without one: the way back in when the last has expired.
// It opens the installation itself, so with SQLite the server must not be running.
type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Make a token and print it, this once."`
}

type tokenCreateCmd struct {
	anyScope
	Name     string        `arg:"" help:"Name of the token in the ledger."`
	Role     policies.Role `help:"viewer, operator, security or admin." default:"admin"`
	Lifetime time.Duration `help:"How long it is good for, at most a year." default:"24h"`
}

func (t tokenCreateCmd) Run(ctx context.Context, s streams) error {
	scopes := t.Role.Scopes()
	if scopes == 0 || t.Lifetime <= 0 {
		return fault.New(fault.Malformed, "token", "a token has one of the roles viewer, operator, security, admin and a lifetime")
	}
	c, err := t.config()
	if err != nil {
		return err
	}
	h, err := openHouse(ctx, c, newLogger(c, s.Err), nil, false)
	if err != nil {
		return err
	}
	text, _, err := h.engine.CreateToken(ctx, "operator:host", t.Name, scopes, t.Lifetime)
	if err = errors.Join(err, h.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.Out, text)
	return err
}
