package device

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// Pending fetches the certificate that the server made for the device without its asking,
// for the key that the device has: an extension of Muster's beside the DPS device API. Without
// one it is *Refused with status 404.
func (c *Client) Pending(ctx context.Context) (Result, error) {
	a, err := c.dps(ctx, http.MethodGet, "/certificates/pending", nil)
	if err != nil {
		return Result{}, err
	}
	if a.status != http.StatusOK {
		return Result{}, refusal(a)
	}
	var body registrationBody
	if err := json.Unmarshal(a.body, &body); err != nil {
		return Result{}, badJSON(err)
	}
	return body.result(c.config.RegistrationID)
}

// FetchPending stores the certificate that the server made for the device's own key, and
// shows it to the server, which retires the one before only then. The protocol is DPS.
func (a *Agent) FetchPending(ctx context.Context) error {
	stored, err := a.stored()
	if err != nil {
		return err
	}
	err = a.fetchPending(ctx, stored)
	if IsRefused(err, http.StatusNotFound) {
		return err // nothing is waiting: no trouble to keep for the person who looks
	}
	return a.noting(err)
}

func (a *Agent) fetchPending(ctx context.Context, stored Stored) error {
	if a.config.Protocol != DPS {
		return fmt.Errorf("device: a pending certificate is fetched over %s", DPS)
	}
	err := ErrNoProof
	var result Result
	for _, p := range a.proofs(stored) {
		if result, err = a.by(ctx, p.credential, (*Client).Pending); !IsRefused(err, http.StatusUnauthorized) {
			break
		}
	}
	if err != nil {
		return err
	}
	if stored.Key == nil || len(result.Chain) == 0 || len(result.Chain) > maxChain || !certifies(result.Chain[0], stored.Key) {
		return fmt.Errorf("%w: the pending certificate is not for the device's key", ErrBadAnswer)
	}
	state := a.state()
	result.AssignedHub, result.DeviceID = state.AssignedHub, state.DeviceID
	if err := a.store(stored, stored.Key, result); err != nil {
		return err
	}
	now, err := a.config.Folder.Current()
	if err != nil {
		return err
	}
	result, err = a.by(ctx, now.Credential(), func(c *Client, ctx context.Context) (Result, error) {
		return c.Register(ctx, Request{Payload: a.config.Payload})
	})
	if err != nil {
		return err
	}
	state = a.state()
	state.AssignedHub, state.DeviceID = result.AssignedHub, result.DeviceID
	return a.config.Folder.SaveState(state)
}

// by makes one call with a credential.
func (a *Agent) by(ctx context.Context, own Credential, call func(*Client, context.Context) (Result, error)) (Result, error) {
	config := a.config.Server
	config.Credential = own
	client, err := New(config)
	if err != nil {
		return Result{}, err
	}
	defer client.Close()
	return call(client, ctx)
}
