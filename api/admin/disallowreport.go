package admin

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

const mediaTypeMarkdown = "text/markdown"

// remark is something that a reader of a disallowance has to know.
type remark struct {
	Code   string `json:"code" doc:"A stable word."`
	Detail string `json:"detail"`
}

// disallowReport is what one would hand to somebody who was not there.
type disallowReport struct {
	Disallowance
	Issuer  string     `json:"issuer" doc:"Who signed the certificate, as it says."`
	Serial  string     `json:"serial"`
	Ours    bool       `json:"ours" doc:"It was issued here."`
	NotDone []remark   `json:"notDone" nullable:"false" doc:"What this act did not do, or not yet."`
	Written *time.Time `json:"writtenDateTimeUtc" doc:"When this report was."`
}

type disallowReportGet struct {
	DisallowanceID
	Accept string `header:"Accept" doc:"text/markdown for a page to print; else JSON."`
}

func (d *door) addDisallowanceReport(path string) {
	r := route{"report-disallowance", http.MethodGet, path, policies.ScopeRead, "disallowances", "What was disallowed, by whom and why, what became of it, and what was not done", false}
	add(d, r, d.reportDisallowance)
	schema := d.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[disallowReport](), true, "")
	d.api.OpenAPI().Paths[path].Get.Responses["200"].Content = map[string]*huma.MediaType{
		mediaTypeJSON: {Schema: schema}, mediaTypeMarkdown: {Schema: &huma.Schema{Type: huma.TypeString}},
	}
}

func (d *door) reportDisallowance(ctx context.Context, in *disallowReportGet) (*octets, error) {
	r, err := d.Engine.Disallowance(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	issued, err := d.Engine.Certificates(ctx, provisioning.CertificateFilter{Thumbprint: verify.ThumbprintOf(r.Certificate), Limit: 1})
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate of disallowance %s: %w", r.ID, err)
	}
	out := disallowReport{Issuer: cert.Issuer.String(), Serial: string(ca.SerialOf(cert.SerialNumber)), Ours: len(issued)+len(r.Issuers) > 0, Written: instant(d.Now())}
	if out.Disallowance, err = wholeDisallowance(r); err != nil {
		return nil, err
	}
	out.NotDone = notDone(r, out.Ours)
	if r.LiftedAt.IsZero() && len(r.Issuers) > 0 {
		left, err := d.leftOfIssuers(ctx, r.Incident)
		if err != nil {
			return nil, err
		}
		out.NotDone = append(out.NotDone, left...)
	}
	if strings.Contains(in.Accept, mediaTypeMarkdown) {
		return &octets{ContentType: mediaTypeMarkdown, Body: []byte(out.markdown())}, nil
	}
	var b bytes.Buffer
	err = encode(&b, out)
	return &octets{ContentType: mediaTypeJSON, Body: b.Bytes()}, err
}

// notDone says what a reader might take for done.
func notDone(r provisioning.IncidentReport, ours bool) (list []remark) {
	list = []remark{}
	remarked := func(when bool, code, detail string, args ...any) {
		if when {
			list = append(list, remark{code, fmt.Sprintf(detail, args...)})
		}
	}
	if !r.LiftedAt.IsZero() {
		remarked(true, "lifted", "It was lifted: nothing is refused because of it any more.")
		remarked(r.Done.IsZero(), "hubs-unconfirmed", "Not every hub has confirmed yet that its devices may come back.")
		return append(list, notRestored(r.Incident)...)
	}
	remarked(r.Passed.IsZero(), "devices-not-counted", "Not all of its devices have been looked at: the figures grow.")
	remarked(r.Pending() > 0, "hubs-unconfirmed", "Hubs have not confirmed %d devices. Muster refuses them; their hubs may let them in.", r.Pending())
	remarked(!ours, "not-ours", "It is not a certificate of ours: no CRL or OCSP answer names it. Whoever signed it has to revoke it for those who do not ask Muster.")
	remarked(r.Since.IsZero() && len(r.Issuers) == 0, "issued-certificates-stand", "No time was given since when it is stolen: certificates that were issued here on its word are refused by Muster, and not revoked. "+
		"Whoever checks them by CRL or OCSP alone takes them.")
	remarked(!r.Since.IsZero(), "issued-before-stand", "Certificates that were issued here on its word before %s are refused by Muster, and not revoked.", moment(instant(r.Since)))
	remarked(r.Scope == provisioning.DisallowCertificate, "key-not-refused", "Other certificates with its key are not refused: that is the scope key.")
	remarked(r.Scope == provisioning.DisallowKey, "entries-with-its-key", "Individual enrollments that hold other certificates with its key stay enabled; what they hold is refused.")
	remarked(r.Scope == provisioning.DisallowBelow, "entries-below", "Individual enrollments that hold what it signed, or other certificates with its key, stay enabled; what they hold is refused.")
	remarked(r.Devices > 0, "open-connections", "A hub is told to keep a device out. Whether it closes a connection that is open is the hub's to do.")
	return list
}

// leftOfIssuers says what others have to do about issuers of ours that fell.
func (d *door) leftOfIssuers(ctx context.Context, r provisioning.Incident) (list []remark, err error) {
	issuers, err := d.Authority.Issuers(ctx)
	for _, i := range issuers {
		switch {
		case !slices.Contains(r.Issuers, i.ID):
		case i.Parent == i.ID:
			list = append(list, remark{"root-trusted-elsewhere", fmt.Sprintf("No CRL can name the root %s: take it out of every trust store that has it.", i.ID)})
		case !slices.Contains(r.Issuers, i.Parent) && !d.Authority.OnParentCRL(i):
			list = append(list, remark{"parent-key-elsewhere", fmt.Sprintf("The key of %s, which signed %s, is not here: have whoever holds it revoke the certificate there.", i.Parent, i.ID)})
		}
	}
	return append(list, remark{"no-crl-of-leaves", "A revoked issuer signs no CRL, so that none names what it signed. OCSP says that it is revoked; who goes by CRLs has to check the issuer's own certificate, too."}), err
}

func idsOf(ids []ca.IssuerID) string {
	var list []string
	for _, id := range ids {
		list = append(list, string(id))
	}
	return strings.Join(list, ", ")
}

// notRestored says what lifting leaves as it is.
func notRestored(i provisioning.Incident) []remark {
	list := []remark{}
	for _, x := range i.Entries {
		name, noun := x.Owner.String(), "enroll"
		if x.Owner.Kind == provisioning.Group {
			noun = "group"
		}
		switch x.Act {
		case provisioning.SlotEmptied:
			list = append(list, remark{string(x.Act), fmt.Sprintf("The %s slot of %s was emptied and stays as it is now: muster %s slots %s", x.Slot, name, noun, x.Owner.ID)})
		case provisioning.EntryShut:
			list = append(list, remark{string(x.Act), fmt.Sprintf("The %s was disabled and stays as it is now: muster %s enable %s", name, noun, x.Owner.ID)})
		case provisioning.EntryWasShut:
		}
	}
	if len(i.Issuers) > 0 {
		list = append(list, remark{"issuers-revoked", fmt.Sprintf("Issuers of ours that were revoked stay revoked, and nothing that they signed is good again: %s", idsOf(i.Issuers))})
	}
	if i.Revoked > 0 {
		list = append(list, remark{"revoked", fmt.Sprintf("Certificates of ours that were revoked stay revoked (%d): their devices need new ones.", i.Revoked)})
	}
	return list
}

// scopeWords say how far each scope reaches.
var scopeWords = map[string]string{
	string(provisioning.DisallowCertificate): "this certificate",
	string(provisioning.DisallowKey):         "every certificate and request with its key",
	string(provisioning.DisallowBelow):       "the CA, its key, and everything they signed",
}

// actWords say what became of an entry.
var actWords = map[string]string{
	string(provisioning.SlotEmptied):  "%s slot emptied; the other one is clean, and it stays enabled",
	string(provisioning.EntryShut):    "disabled (it was in the %s slot)",
	string(provisioning.EntryWasShut): "was disabled, and stays so (it is in the %s slot)",
}

// markdown is the report as a page.
func (r disallowReport) markdown() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Disallowance %s\n", inMarkdown(r.ID))
	line("%s\n", inMarkdown("Written "+moment(r.Written)+"."))
	line("| | |\n|---|---|")
	for _, row := range [][2]string{
		{"what", r.Subject}, {"SHA-256", r.Thumbprint}, {"issuer", r.Issuer}, {"serial", r.Serial}, {"scope", r.Scope + ": " + scopeWords[r.Scope]},
		{"why", r.Reason}, {"stolen since", moment(r.Since)}, {"who", r.By}, {"when", moment(r.Created)}, {"state", r.State},
		{"every hub had confirmed", moment(r.Done)}, {"lifted", moment(r.Lifted)}, {"lifted by", r.LiftedBy},
	} {
		if row[1] != "" {
			line("| %s | %s |", row[0], inMarkdown(row[1]))
		}
	}
	line("\n## Entries that held it\n")
	if len(r.Entries) == 0 {
		line("None.")
	} else {
		line("| entry | what became of it |\n|---|---|")
	}
	for _, x := range r.Entries {
		line("| %s | %s |", inMarkdown(x.Kind+" "+x.ID), inMarkdown(fmt.Sprintf(actWords[x.Act], x.Slot)))
	}
	if len(r.Issuers) > 0 {
		line("\n## Issuers of ours\n\nRevoked, with all that they signed: %s.", inMarkdown(strings.Join(r.Issuers, ", ")))
	}
	line("\n## Certificates of ours\n\n%d revoked.", r.Revoked)
	line("\n## Devices\n\n%d rest on it.\n", r.Devices)
	if len(r.Hubs) > 0 {
		line("| hub | devices | confirmed | pending | takes | problem |\n|---|---|---|---|---|---|")
	}
	for _, h := range r.Hubs {
		line("| %s | %d | %d | %d | %s | %s |", inMarkdown(cmp.Or(h.Hub, "none")), h.Devices, h.Devices-h.Pending, h.Pending, inMarkdown(h.remaining()), inMarkdown(h.Problem))
	}
	line("\n## What was not done\n")
	for _, x := range r.NotDone {
		line("- %s", inMarkdown(x.Detail))
	}
	return b.String()
}

// remaining says in words how long a hub will still take.
func (h incidentHub) remaining() string {
	switch {
	case h.Pending == 0:
		return ""
	case h.Circuit != "" && h.Circuit != string(provisioning.CircuitClosed):
		return "unknown: it does not answer"
	case h.Rate == nil:
		return "as fast as it answers"
	}
	return h.Takes + " more"
}

func moment(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Format(time.RFC3339)
}

// inMarkdown is text that stays text, and on its line: subjects and problems are of others' making.
func inMarkdown(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < ' ' || r == 0x7f || r == 0x2028 || r == 0x2029:
			r = '\uFFFD'
		case strings.ContainsRune("\\`*_[]<>|&#!~", r):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
