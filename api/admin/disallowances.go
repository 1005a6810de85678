package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// Compromised is what an operator says is compromised: one certificate, in one of four ways.
type Compromised struct {
	Certificate string     `json:"certificate,omitempty" doc:"PEM, or base64 of PEM or DER. One that was never seen here is kept as a block for what may come."`
	Thumbprint  string     `json:"thumbprint,omitempty" maxLength:"192" doc:"Or its SHA-256, hex in any spelling, if it was seen here."`
	Serial      string     `json:"serial,omitempty" maxLength:"63" doc:"Or its serial, hex in any spelling, if it was issued here."`
	Issuer      string     `json:"issuer,omitempty" maxLength:"64" doc:"Or the id of an issuer of ours. With serial: that of the issuer, only when two have it."`
	Scope       string     `json:"scope,omitempty" enum:"certificate,key,below" doc:"certificate: it alone; key: every certificate and request with its key; below: a CA, its key, and everything they signed. Unless given below for a CA, else certificate."`
	Reason      string     `json:"reason,omitempty" doc:"As RFC 5280 spells it; cACompromise for a CA, else keyCompromise, unless given."`
	Since       *time.Time `json:"since,omitempty" doc:"When it was stolen: certificates issued here on its word from then on are revoked, too. None are unless given."`
}

// disallowing is the body of the act.
type disallowing struct {
	Compromised
	Preview       string `json:"preview,omitempty" doc:"That of a preview of the same certificate, scope, reason and time, at most an hour old. The act is refused when it would do more by now."`
	StopsIssuing  bool   `json:"stopsIssuing,omitempty" doc:"Do it though nobody of ours is left to sign for some profile (stops, in the preview)."`
	ExpectDevices *int64 `json:"expectDevices,omitempty" nullable:"false" minimum:"0" doc:"Refuse when more devices rest on it. Up to as many may have come since the preview."`
}

// affected is an entry that holds what is compromised.
type affected struct {
	Kind string `json:"kind" enum:"individual,group"`
	ID   string `json:"id"`
	Act  string `json:"act" enum:"slot-emptied,disabled,was-disabled" doc:"slot-emptied: its other slot is clean, and it stays enabled; was-disabled: it stays so."`
	Slot string `json:"slot" enum:"primary,secondary" doc:"Of what is compromised."`
}

// HubDevices is a number of devices on one hub.
type HubDevices struct {
	Hub     string `json:"hub" doc:"Empty for devices without one."`
	Devices int64  `json:"devices"`
}

// HubWait is how long a hub that lives elsewhere will take.
type HubWait struct {
	Ahead   *int64 `json:"ahead,omitempty" doc:"Devices that it is to be told of already."`
	Rate    *int   `json:"ratePerMinute,omitempty" doc:"Calls that it gets at most."`
	Batch   int    `json:"batch,omitempty" doc:"Devices that one call takes."`
	Circuit string `json:"circuit,omitempty" enum:"closed,open,half-open" doc:"Unless it is closed, nothing is told before the hub answers again."`
	Takes   string `json:"takes,omitempty" doc:"ISO 8601: those and these at that rate, if it answers. Not there for a hub without a rate, which takes them as fast as it answers."`
}

func waitOf(w provisioning.HubWait) (out HubWait) {
	if !w.Elsewhere() {
		return out
	}
	out = HubWait{Ahead: &w.Ahead, Batch: w.Batch, Circuit: string(w.Circuit)}
	if w.PerMinute > 0 {
		out.Rate, out.Takes = &w.PerMinute, formatDuration(w.Takes.Round(time.Second))
	}
	return out
}

// hubForeseen is one hub in a preview; the built-in one knows at once.
type hubForeseen struct {
	HubDevices
	HubWait
}

type disallowPreview struct {
	Preview     string        `json:"preview" doc:"For the act."`
	Expires     *time.Time    `json:"previewExpiresDateTimeUtc"`
	Scope       string        `json:"scope" enum:"certificate,key,below"`
	Reason      string        `json:"reason"`
	Since       *time.Time    `json:"since,omitempty"`
	Subject     string        `json:"subject"`
	Thumbprint  string        `json:"thumbprint" doc:"SHA-256."`
	Known       bool          `json:"known" doc:"It was seen here."`
	Ours        bool          `json:"ours" doc:"It was issued here."`
	AlreadyBy   string        `json:"alreadyBy,omitempty" doc:"The disallowance in force that names it with this scope: the act answers with that one."`
	Devices     int64         `json:"devices" doc:"Registrations that rest on it."`
	Hubs        []hubForeseen `json:"hubs" nullable:"false" doc:"Those devices by hub, and how long it takes to tell it."`
	Entries     []affected    `json:"entries" nullable:"false" doc:"That hold it, and what becomes of each."`
	WouldEnter  []entryRef    `json:"wouldEnter" nullable:"false" doc:"Enabled groups above it: its devices would come in by them if only its own entry were deleted. They will not."`
	SameKey     []sameKey     `json:"sameKey" nullable:"false" doc:"Other certificates with its key, as far as Muster saw them; at most 100."`
	Revoked     int64         `json:"revoked" doc:"Certificates of ours that are revoked at once: it itself."`
	IssuedSince int64         `json:"issuedSince" doc:"Certificates of ours that will be revoked because they were issued on its word since."`
	CRLs        int64         `json:"crls" doc:"CRLs that grow."`
	CRLOctets   int64         `json:"crlOctets" doc:"By so much, all of them."`

	Issuers []fallenIssuer `json:"issuers" nullable:"false" doc:"Issuers of ours that are revoked: those with its key, and all below them."`
	Stops   []stopped      `json:"stops" nullable:"false" doc:"What nobody of ours signs for any more then. The act has to say so (stopsIssuing)."`
	Lost    int64          `json:"lost" doc:"Certificates in the slots of devices that these issuers, or others with their keys, signed: none is good then."`
}

// sameKey is another certificate with the key of a disallowed one.
type sameKey struct {
	Thumbprint     string     `json:"thumbprint" doc:"SHA-256."`
	RegistrationID string     `json:"registrationId,omitempty" doc:"That attests with it."`
	Subject        string     `json:"subject,omitempty" doc:"Absent where the certificate itself is not on record, as its end."`
	NotAfter       *time.Time `json:"notAfter,omitempty"`
	Refused        bool       `json:"refused" doc:"The disallowance refuses it too. Else it stays good: the scope key refuses all of them."`
}

// fallenIssuer is an issuer of ours that a disallowance revokes.
type fallenIssuer struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Role    string `json:"role" enum:"root,issuing,external"`
	Profile string `json:"profile,omitempty" doc:"Unless for all that have no issuer of their own."`
	State   string `json:"state" enum:"prepared,active,retiring,retired"`
}

// stopped is what no issuer is active for once a disallowance is done.
type stopped struct {
	Role     string `json:"role" enum:"root,issuing"`
	Profile  string `json:"profile,omitempty" doc:"Unless it is all that have no issuer of their own."`
	Issuer   string `json:"issuer" doc:"The id of the one that is active now."`
	Prepared string `json:"prepared,omitempty" doc:"The id of one that could be promoted in its place."`
}

// Disallowance is one on record. What is below LiftedBy is in the answer of one alone.
type Disallowance struct {
	ID         string     `json:"id"`
	State      string     `json:"state" enum:"spreading,done,lifted" doc:"spreading: refused from its commit on, and not every hub has confirmed."`
	Scope      string     `json:"scope" enum:"certificate,key,below"`
	Reason     string     `json:"reason"`
	Since      *time.Time `json:"since,omitempty"`
	Subject    string     `json:"subject"`
	Thumbprint string     `json:"thumbprint" doc:"SHA-256."`
	Entries    []affected `json:"entries" nullable:"false" doc:"That held it, and what became of each."`
	Devices    int64      `json:"devices" doc:"Registrations that rest on it; grows while it spreads."`
	Issuers    []string   `json:"issuers" nullable:"false" doc:"Issuers of ours, by id, that are revoked because of it; nothing they signed is good."`
	Revoked    int64      `json:"revoked" doc:"Certificates of ours that were revoked by it one by one, so far."`
	Created    *time.Time `json:"createdDateTimeUtc"`
	By         string     `json:"createdBy"`
	Passed     *time.Time `json:"passedDateTimeUtc,omitempty" doc:"When the last of its devices had been looked at."`
	Done       *time.Time `json:"doneDateTimeUtc,omitempty" doc:"When every hub had confirmed; of a lifted one: that it is lifted."`
	Lifted     *time.Time `json:"liftedDateTimeUtc,omitempty"`
	LiftedBy   string     `json:"liftedBy,omitempty"`

	Certificate string        `json:"certificate,omitempty" doc:"PEM."`
	Hubs        []incidentHub `json:"hubs,omitempty" nullable:"false" doc:"Its devices by hub."`
	Pending     *int64        `json:"pending,omitempty" doc:"Devices whose hub has not confirmed."`
}

type incidentHub struct {
	HubDevices
	Pending int64  `json:"pending" doc:"Devices that it has not confirmed."`
	Problem string `json:"problem,omitempty" doc:"Of the last try to tell it."`
	HubWait
}

type incidentDevice struct {
	RegistrationID string     `json:"registrationId"`
	Hub            string     `json:"hub,omitempty"`
	DeviceID       string     `json:"deviceId,omitempty"`
	Found          *time.Time `json:"foundDateTimeUtc"`
	Confirmed      *time.Time `json:"confirmedDateTimeUtc,omitempty" doc:"When its hub had; absent until then."`
	Problem        string     `json:"problem,omitempty" doc:"Of the last try to tell its hub."`
}

// DisallowanceID is the id in a path.
type DisallowanceID struct {
	ID string `path:"id" maxLength:"64"`
}

type (
	disallowLook       struct{ Body Compromised }
	disallowPost       struct{ Body disallowing }
	incidentDeviceList struct {
		Paging
		DisallowanceID
		Pending bool `query:"pending" doc:"Only those whose hub has not confirmed."`
	}
	disallowLifted struct {
		Body struct {
			Disallowance
			NotRestored []remark `json:"notRestored" nullable:"false" doc:"What stays as the act left it."`
		}
	}
)

func (d *door) addDisallowances() {
	const tag, one = "disallowances", "/disallowances/{id}"
	add(d, route{"preview-disallowance", http.MethodPost, "/disallowances/preview", policies.ScopeSecurity, tag, "Say what a disallowance would do, and do nothing", false}, d.previewDisallowance)
	add(d, route{"disallow", http.MethodPost, "/disallowances", policies.ScopeSecurity, tag, "Refuse a compromised certificate, key or CA everywhere, from this commit on", true}, d.disallow)
	add(d, route{"list-disallowances", http.MethodGet, "/disallowances", policies.ScopeRead, tag, "List disallowances, newest first", false}, d.listDisallowances)
	add(d, route{"get-disallowance", http.MethodGet, one, policies.ScopeRead, tag, "Read a disallowance, and which hubs have confirmed", false}, d.getDisallowance)
	add(d, route{"list-disallowance-devices", http.MethodGet, one + "/devices", policies.ScopeRead, tag, "List the devices that rest on what is disallowed", false}, d.listIncidentDevices)
	add(d, route{"lift-disallowance", http.MethodPost, one + "/lift", policies.ScopeSecurity, tag, "End a disallowance for good; what it revoked, emptied and disabled stays so", false}, d.liftDisallowance)
	d.addDisallowanceReport(one + "/report")
}

// request reads what is meant; the rest of what may be wrong with it the engine finds.
func (c Compromised) request() (r provisioning.DisallowRequest, err error) {
	ways := 0
	for _, given := range []string{c.Certificate, c.Thumbprint, c.Serial} {
		if given != "" {
			ways++
		}
	}
	if ways > 1 || c.Issuer != "" && c.Serial == "" && ways > 0 {
		return r, fault.New(fault.Malformed, "certificate-named-twice", "say in one way which certificate is meant: itself, its thumbprint, its serial with, if need be, the issuer, or the issuer that it is")
	}
	r = provisioning.DisallowRequest{Issuer: ca.IssuerID(c.Issuer), Scope: provisioning.DisallowScope(c.Scope)}
	if c.Since != nil {
		r.Since = c.Since.UTC()
	}
	if c.Reason != "" {
		if r.Reason, err = ca.ParseReason(c.Reason); err != nil {
			return r, at(err, "/reason")
		}
	}
	switch {
	case c.Certificate != "":
		cert, err := verify.ParseCertificate([]byte(c.Certificate))
		if err != nil {
			return r, at(err, "/certificate")
		}
		r.Certificate = cert.Raw
	case c.Thumbprint != "":
		r.Thumbprint, err = verify.ParseThumbprint(c.Thumbprint)
		err = at(err, "/thumbprint")
	case c.Serial != "":
		r.Serial, err = ca.ParseSerial(c.Serial)
		err = at(err, "/serial")
	}
	return r, err
}

func affectedBy(list []provisioning.EntryEffect) []affected {
	out := make([]affected, 0, len(list))
	for _, x := range list {
		out = append(out, affected{Kind: x.Owner.Kind.String(), ID: x.Owner.ID.String(), Act: string(x.Act), Slot: x.Slot.String()})
	}
	return out
}

func disallowPreviewOf(p provisioning.DisallowPreview) disallowPreview {
	out := disallowPreview{
		Preview: p.ID, Expires: instant(p.Expires), Scope: string(p.Scope), Reason: string(p.Reason), Since: instant(p.Since),
		Subject: p.Subject, Thumbprint: verify.ThumbprintOf(p.Certificate).String(), Known: p.Known, Ours: p.Ours, AlreadyBy: p.AlreadyBy,
		Devices: p.Devices, Hubs: []hubForeseen{}, Entries: affectedBy(p.Entries), WouldEnter: []entryRef{}, Revoked: p.Revoked, IssuedSince: p.IssuedSince,
		CRLs: p.CRL.Lists, CRLOctets: p.CRL.Octets, Issuers: []fallenIssuer{}, Stops: []stopped{}, Lost: p.Lost,
		SameKey: []sameKey{},
	}
	for _, x := range p.SameKey {
		out.SameKey = append(out.SameKey, sameKey{Thumbprint: x.Thumbprint.String(), RegistrationID: x.Registration.String(), Subject: x.Subject, NotAfter: instant(x.NotAfter), Refused: x.Refused})
	}
	for _, i := range p.Fallen {
		out.Issuers = append(out.Issuers, fallenIssuer{ID: string(i.ID), Name: i.Name, Role: string(i.Role), Profile: i.Profile, State: string(i.State)})
	}
	for _, x := range p.Stops {
		out.Stops = append(out.Stops, stopped{Role: string(x.Role), Profile: x.Profile, Issuer: string(x.Issuer), Prepared: string(x.Prepared)})
	}
	for _, h := range p.Hubs {
		out.Hubs = append(out.Hubs, hubForeseen{HubDevices{h.Hub, h.Devices}, waitOf(h.HubWait)})
	}
	for _, o := range p.WouldEnter {
		out.WouldEnter = append(out.WouldEnter, *ownerOf(o))
	}
	return out
}

// The states of a disallowance.
const (
	spreading    = "spreading"
	disallowDone = "done"
	lifted       = "lifted"
)

func stateOfIncident(i provisioning.Incident) string {
	switch {
	case !i.LiftedAt.IsZero():
		return lifted
	case i.Passed.IsZero() || i.Done.IsZero():
		return spreading
	}
	return disallowDone
}

func disallowanceOf(i provisioning.Incident) (Disallowance, error) {
	out := Disallowance{
		ID: i.ID, State: stateOfIncident(i), Scope: string(i.Scope), Reason: string(i.Reason), Since: instant(i.Since),
		Subject: i.Subject, Thumbprint: verify.ThumbprintOf(i.Certificate).String(), Entries: affectedBy(i.Entries), Devices: i.Devices, Revoked: i.Revoked,
		Created: instant(i.Created), By: i.Actor, Passed: instant(i.Passed), Done: instant(i.Done), Lifted: instant(i.LiftedAt), LiftedBy: i.LiftedBy,
		Issuers: []string{},
	}
	for _, id := range i.Issuers {
		out.Issuers = append(out.Issuers, string(id))
	}
	return out, nil
}

// wholeDisallowance adds to a disallowance how far it is.
func wholeDisallowance(r provisioning.IncidentReport) (Disallowance, error) {
	out, err := disallowanceOf(r.Incident)
	pending := r.Pending()
	out.Certificate, out.Pending = pemOf(r.Certificate), &pending
	for _, h := range r.Hubs {
		out.Hubs = append(out.Hubs, incidentHub{HubDevices: HubDevices{h.Hub, h.Devices}, Pending: h.Pending, Problem: h.Problem, HubWait: waitOf(h.HubWait)})
	}
	return out, err
}

func (d *door) previewDisallowance(ctx context.Context, in *disallowLook) (*found[disallowPreview], error) {
	r, err := in.Body.request()
	if err != nil {
		return nil, err
	}
	p, err := d.Engine.PreviewDisallow(ctx, r)
	if err != nil {
		return nil, err
	}
	return &found[disallowPreview]{Body: disallowPreviewOf(p)}, nil
}

func (d *door) disallow(ctx context.Context, in *disallowPost) (*written[Disallowance], error) {
	began := d.Now()
	r, err := in.Body.request()
	if err != nil {
		return nil, err
	}
	r.AtMost, r.StopsIssuing = in.Body.ExpectDevices, in.Body.StopsIssuing
	i, err := d.Engine.Disallow(ctx, actor(ctx), r, in.Body.Preview)
	if err != nil {
		return nil, err
	}
	d.AfterRevoke()
	body, err := disallowanceOf(i)
	out := &written[Disallowance]{Status: http.StatusCreated, Location: prefix + "/disallowances/" + i.ID, Body: body}
	if i.Created.Before(began) {
		out.Status = http.StatusOK // it was in force already
	}
	return out, err
}

func (d *door) listDisallowances(ctx context.Context, in *Paging) (*listed[Disallowance], error) {
	before, err := in.after(d.Engine, "disallowances")
	if err != nil {
		return nil, err
	}
	rows, err := d.Engine.Disallowances(ctx, before, in.Limit+1)
	if err != nil {
		return nil, err
	}
	return pageOf(d.Engine, rows, in.Limit, "disallowances", func(i provisioning.Incident) string { return i.ID }, disallowanceOf)
}

func (d *door) getDisallowance(ctx context.Context, in *DisallowanceID) (*found[Disallowance], error) {
	r, err := d.Engine.Disallowance(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	body, err := wholeDisallowance(r)
	return &found[Disallowance]{Body: body}, err
}

func incidentDeviceOf(x provisioning.IncidentDevice) (incidentDevice, error) {
	return incidentDevice{
		RegistrationID: x.Registration.String(), Hub: x.Hub, DeviceID: x.Device.String(),
		Found: instant(x.Found), Confirmed: instant(x.Confirmed), Problem: x.Problem,
	}, nil
}

func (d *door) listIncidentDevices(ctx context.Context, in *incidentDeviceList) (*listed[incidentDevice], error) {
	list := "disallowances " + in.ID
	if in.Pending {
		list += " pending"
	}
	after, err := in.after(d.Engine, list)
	if err != nil {
		return nil, err
	}
	rows, err := d.Engine.DisallowedDevices(ctx, in.ID, after, in.Limit+1, in.Pending)
	if err != nil {
		return nil, err
	}
	return pageOf(d.Engine, rows, in.Limit, list, func(x provisioning.IncidentDevice) string { return x.Registration.String() }, incidentDeviceOf)
}

func (d *door) liftDisallowance(ctx context.Context, in *DisallowanceID) (*disallowLifted, error) {
	i, err := d.Engine.LiftDisallowance(ctx, actor(ctx), in.ID)
	if err != nil {
		return nil, err
	}
	d.AfterRevoke()
	out := &disallowLifted{}
	out.Body.NotRestored = notRestored(i)
	out.Body.Disallowance, err = disallowanceOf(i)
	return out, err
}
