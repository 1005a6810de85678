package provisioning

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// SealedPlace is a column of secrets at rest.
type SealedPlace uint8

// The places. What is sealed anywhere else is not sealed anew: a new column comes here.
const (
	SealedEntryKeys      SealedPlace = iota // key: kind, id, slot
	SealedPolicyFirst                       // key: plane, name
	SealedPolicySecond                      // key: plane, name
	SealedHubFirst                          // key: hub, device
	SealedHubSecond                         // key: hub, device
	SealedResponders                        // key: issuer
	SealedWebhooks                          // key: kind, id
	SealedSubscribers                       // key: name; where to
	SealedSubscriberKeys                    // key: name
	SealedHubAddresses                      // key: hub
	SealedHubKeys                           // key: hub
	SealedTPMChallenges                     // key: registration
	SealedTPMDevices                        // key: registration
	sealedPlaces
)

// SealedPlaces lists them all.
func SealedPlaces() (all []SealedPlace) {
	for p := range sealedPlaces {
		all = append(all, p)
	}
	return all
}

// SealedValue is one secret at rest and its row.
type SealedValue struct {
	Place  SealedPlace
	Key    []string // the row's key, as its place says
	Sealed []byte
}

// purpose is what the value was sealed for (INV-K2).
func (v SealedValue) purpose() (string, error) {
	first := v.Place == SealedPolicyFirst || v.Place == SealedHubFirst || v.Place == SealedEntryKeys && v.Key[2] == "0"
	slot := rotation.Secondary
	if first {
		slot = rotation.Primary
	}
	switch v.Place {
	case SealedEntryKeys, SealedWebhooks, SealedHubFirst, SealedHubSecond:
		id, err := verify.ParseRegistrationID(v.Key[1])
		if err != nil {
			return "", err
		}
		if v.Place == SealedHubFirst || v.Place == SealedHubSecond {
			return hubKeyPurpose(v.Key[0], id, slot), nil
		}
		owner := Owner{Kind: Individual, ID: id}
		if v.Key[0] != "0" {
			owner.Kind = Group
		}
		if v.Place == SealedWebhooks {
			return webhookPurpose(owner), nil
		}
		return keyPurpose(owner, slot), nil
	case SealedTPMChallenges, SealedTPMDevices:
		id, err := verify.ParseRegistrationID(v.Key[0])
		if v.Place == SealedTPMChallenges {
			return challengePurpose(id), err
		}
		return tpmDevicePurpose(id), err
	case SealedSubscribers:
		return subscriptionPurpose(v.Key[0], "url"), nil
	case SealedSubscriberKeys:
		return subscriptionPurpose(v.Key[0], "key"), nil
	case SealedHubAddresses:
		return hubLinkPurpose(v.Key[0], "url"), nil
	case SealedHubKeys:
		return hubLinkPurpose(v.Key[0], "key"), nil
	case SealedPolicyFirst, SealedPolicySecond:
		return accessPurpose(AccessPolicy{Plane: Plane(v.Key[0]), Name: v.Key[1]}, slot), nil
	}
	return "ocsp_responders|" + v.Key[0] + "|key", nil // as package ca seals it
}

// reseal is the value under the box's own KEK.
func (v SealedValue) reseal(box *seal.Box) ([]byte, error) {
	purpose, err := v.purpose()
	if err != nil {
		return nil, err
	}
	open := box.Open
	if v.Place == SealedWebhooks {
		open = func(purpose string, sealed []byte) ([]byte, error) { return webhookText(box, purpose, sealed) }
	}
	secret, err := open(purpose, v.Sealed)
	if err != nil {
		return nil, err
	}
	return box.Seal(purpose, secret), nil
}

// SealedTx is what sealing anew reads and writes.
type SealedTx interface {
	// SealedByOthers lists values of a place that this KEK has not sealed, in the
	// order of their keys, from after (exclusive; nil: the first), at most limit.
	SealedByOthers(place SealedPlace, than seal.KEKID, after []string, limit int) ([]SealedValue, error)
	// CountSealedByOthers counts them in all places.
	CountSealedByOthers(than seal.KEKID) (int64, error)
	// Reseal puts a value in the place of the one that was read, unless that has changed or
	// gone. No version moves: nobody who holds an ETag sees a difference.
	Reseal(read SealedValue, sealed []byte) error
}

// rewrapPage is how many values are sealed anew in one transaction.
const rewrapPage = 100

// rewrapActor is who seals anew in the ledger.
const rewrapActor = "job:rewrap"

// Rewrap seals anew, page by page, whatever another KEK than the box's own has sealed, and
// says how many values that were. Devices and operators go on beside it. It can end at any
// point and be called again: what was sealed anew is not met twice.
//
// A value that does not open stays as it is and is reported at the end.
func Rewrap(ctx context.Context, store Store, box *seal.Box, now time.Time) (done int, err error) {
	return rewrap(ctx, store, box, now, SealedPlaces(), func(SealedValue) bool { return true })
}

// SealWebhooks seals, like [Rewrap], the webhooks that stand in the clear from before they
// were sealed. What any KEK has sealed it leaves alone. Where there are none it is one read.
func SealWebhooks(ctx context.Context, store Store, box *seal.Box, now time.Time) (done int, err error) {
	return rewrap(ctx, store, box, now, []SealedPlace{SealedWebhooks}, func(v SealedValue) bool { return plainWebhook(v.Sealed) })
}

func rewrap(ctx context.Context, store Store, box *seal.Box, now time.Time, places []SealedPlace, due func(SealedValue) bool) (done int, err error) {
	var broken []error
	for _, place := range places {
		n, failed, err := rewrapPlace(ctx, store, box, place, due)
		done += n
		broken = append(broken, failed...)
		if err != nil {
			return done, err
		}
	}
	if done > 0 {
		event := audit.Event{At: now, Actor: rewrapActor, Action: audit.SecretsRewrapped, Subject: "kek:" + box.Sealing().String(),
			Body: audit.Body(map[string]any{"values": done})}
		err = store.Update(ctx, func(tx Tx) error { return tx.Append(event) })
	}
	return done, errors.Join(append(broken, err)...)
}

// maxBroken bounds how many values that do not open are named.
const maxBroken = 10

func rewrapPlace(ctx context.Context, store Store, box *seal.Box, place SealedPlace, due func(SealedValue) bool) (done int, broken []error, err error) {
	var after []string
	for {
		var page []SealedValue
		err := store.View(ctx, func(tx Tx) (err error) {
			page, err = tx.SealedByOthers(place, box.Sealing(), after, rewrapPage)
			return err
		})
		if err != nil || len(page) == 0 {
			return done, broken, err
		}
		after = page[len(page)-1].Key
		page = slices.DeleteFunc(page, func(v SealedValue) bool { return !due(v) })
		if len(page) == 0 {
			continue
		}
		anew := make([][]byte, len(page))
		for i, v := range page {
			var err error
			if anew[i], err = v.reseal(box); err != nil && len(broken) < maxBroken {
				broken = append(broken, err)
			}
		}
		err = store.Update(ctx, func(tx Tx) error {
			for i, v := range page {
				if anew[i] == nil {
					continue
				}
				if err := tx.Reseal(v, anew[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return done, broken, err
		}
		for _, sealed := range anew {
			if sealed != nil {
				done++
			}
		}
	}
}

// SealedByOthers counts the values that another KEK than this one has sealed.
func SealedByOthers(ctx context.Context, store Store, than seal.KEKID) (n int64, err error) {
	err = store.View(ctx, func(tx Tx) error {
		n, err = tx.CountSealedByOthers(than)
		return err
	})
	return n, err
}
