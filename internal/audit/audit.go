// Package audit is the shape of one ledger entry: who did what to whom, when, and
// the facts of it. An entry is written in the transaction of the change it tells of
// (INV-L3), is never changed afterwards, and doubles as the leaf of the issuance log.
package audit

import (
	"encoding/json"
	"time"
)

// Action is a past-tense word an operator would search for.
type Action string

// The actions. A new kind of change gets a new word here.
const (
	Issued              Action = "certificate.issued"
	Precertified        Action = "certificate.precertified" // promised to a log of certificates
	Revoked             Action = "certificate.revoked"
	Registered          Action = "registration.assigned"
	RegistrationFailed  Action = "registration.failed"
	RegistrationDeleted Action = "registration.deleted"
	DeviceRetired       Action = "registration.retired" // its device was taken out of service
	RegistrationHeld    Action = "registration.held"    // refused until it is released
	RegistrationFreed   Action = "registration.released"
	Quarantined         Action = "registration.quarantined" // its device lives on a hub of an operator's choosing
	QuarantineEnded     Action = "registration.quarantine-ended"
	Tripped             Action = "tripwire.tripped" // what looks like a device that is two
	AnchorUploaded      Action = "anchor.uploaded"
	AnchorCodeMade      Action = "anchor.code-made"
	AnchorVerified      Action = "anchor.verified"
	AnchorDeleted       Action = "anchor.deleted"
	EnrollmentCreated   Action = "enrollment.created"
	EnrollmentUpdated   Action = "enrollment.updated"
	EnrollmentDisabled  Action = "enrollment.disabled"
	EnrollmentEnabled   Action = "enrollment.enabled"
	EnrollmentDeleted   Action = "enrollment.deleted"
	KeysRead            Action = "enrollment.keys-read"
	EndorsementKeys     Action = "enrollment.endorsement-keys" // a group's list of TPMs was changed
	ProfileWritten      Action = "profile.written"
	ProfileDeleted      Action = "profile.deleted"
	ProfileRolledBack   Action = "profile.rolled-back"
	HubLinked           Action = "hub.linked"
	HubUpdated          Action = "hub.updated"
	HubUnlinked         Action = "hub.unlinked"
	HubDeviceCreated    Action = "hub-device.created"
	HubDeviceUpdated    Action = "hub-device.updated"
	HubDeviceDisabled   Action = "hub-device.disabled"
	HubDeviceEnabled    Action = "hub-device.enabled"
	HubDeviceDeleted    Action = "hub-device.deleted"
	HubDeviceKept       Action = "hub-device.kept" // its registration's record was deleted
	TwinUpdated         Action = "twin.updated"
	IssuerCreated       Action = "issuer.created"
	UpstreamOrphaned    Action = "upstream.orphaned"
	UpstreamRevoked     Action = "upstream.revoked"
	UpstreamResolved    Action = "upstream.resolved" // an operator found out what became of an orphan
	IssuerRequested     Action = "issuer.requested"
	IssuerWithdrawn     Action = "issuer.withdrawn" // a request that was given up
	IssuerImported      Action = "issuer.imported"
	IssuerPromoted      Action = "issuer.promoted"
	IssuerRetiring      Action = "issuer.retiring"
	IssuerRetired       Action = "issuer.retired"
	IssuerRevoked       Action = "issuer.revoked"
	IssuerCrossSigned   Action = "issuer.cross-signed"
	CRLPublished        Action = "crl.published"
	LogStarted          Action = "log.started"
	KeyDisallowed       Action = "key.disallowed"
	Disallowed          Action = "disallowance.started"
	DisallowDone        Action = "disallowance.done" // every hub has confirmed
	DisallowLifted      Action = "disallowance.lifted"
	CodeMade            Action = "code.made"
	CodeSpent           Action = "code.spent"
	CodeRevoked         Action = "code.revoked"
	TokenCreated        Action = "token.created"
	TokenRevoked        Action = "token.revoked"
	ActRefused          Action = "act.refused"
	AccessCreated       Action = "access.created"
	AccessUpdated       Action = "access.updated"
	AccessKeyRolled     Action = "access.key-rolled"
	AccessDeleted       Action = "access.deleted"
	SecretsRewrapped    Action = "secrets.rewrapped" // sealed anew under another key-encryption key

	// A registration is assigned, with a row of its own, when a hub that lives elsewhere confirms.
	RegistrationAssigning Action = "registration.assigning"
	HubKeyRolled          Action = "hub.key-rolled"
	// A hub that lives elsewhere failed, and is left alone for a while; it is told again.
	HubCircuitOpened Action = "hub.circuit-opened"
	HubCircuitClosed Action = "hub.circuit-closed"
	HubDrifted       Action = "hub.drifted"  // a check found that it holds something else than it shall
	HubRepaired      Action = "hub.repaired" // by an operator, who had seen that

	// Moves of a pair. The body has the slot's SHA-256 ("ref") and the reason.
	RollTold     Action = "roll.told"  // the device, or an entry's owner, was told that a successor is due
	RollAsked    Action = "roll.asked" // an operator has the planner look at once
	RollStaged   Action = "roll.staged"
	RollSeen     Action = "roll.seen"     // the successor is in use: it is the active one now
	RollPromoted Action = "roll.promoted" // by an operator or a plan, unseen
	RollRetired  Action = "roll.retired"
	RollDropped  Action = "roll.dropped"
	RollStuck    Action = "roll.stuck"
	ClockJumped  Action = "clock.jumped"

	PlanWritten           Action = "plan.written"
	PlanDeleted           Action = "plan.deleted"
	CampaignStarted       Action = "campaign.started"
	CampaignPaused        Action = "campaign.paused"
	CampaignResumed       Action = "campaign.resumed"
	CampaignAborted       Action = "campaign.aborted"
	CampaignDone          Action = "campaign.done"
	SubscriptionPut       Action = "subscription.written"
	SubscriptionDelete    Action = "subscription.deleted"
	SubscriptionKeyRolled Action = "subscription.key-rolled"
	CampaignWave          Action = "campaign.wave-begun"
)

// Event is one ledger row before it has a sequence number. Actor is
// "device:ID", "operator:NAME" or "job:NAME". Body is a small JSON object without
// secrets (their hashes at most, INV-L1).
type Event struct {
	At      time.Time
	Actor   string
	Action  Action
	Subject string
	Body    []byte
}

// Entry is an Event as it stands in the ledger.
type Entry struct {
	Seq int64
	Event
}

// Body encodes facts as the JSON of an event. It takes only what encodes: maps,
// strings, numbers, times; anything else is a bug in the caller.
func Body(facts map[string]any) []byte {
	b, err := json.Marshal(facts)
	if err != nil {
		panic("internal error: audit body: " + err.Error())
	}
	return b
}
