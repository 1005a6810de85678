package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// drillReport is how a drill went; up to Lost as a preview of the admin API has it.
type drillReport struct {
	Scope      string        `json:"scope"`
	Reason     string        `json:"reason"`
	Since      *time.Time    `json:"since,omitempty"`
	Subject    string        `json:"subject"`
	Thumbprint string        `json:"thumbprint"`
	Known      bool          `json:"known"`
	Ours       bool          `json:"ours"`
	Devices    int64         `json:"devices"`
	Hubs       []drillHub    `json:"hubs"`
	Entries    []drillEntry  `json:"entries"`
	WouldEnter []drillEntry  `json:"wouldEnter"`
	Issuers    []drillIssuer `json:"issuers"`
	Stops      []drillStop   `json:"stops"`
	Revoked    int64         `json:"revoked"`
	Lost       int64         `json:"lost"`

	CRLGrowth       int     `json:"crlGrowthOctets"`
	Done            bool    `json:"done"`
	CopySeconds     float64 `json:"copySeconds"`
	PreviewSeconds  float64 `json:"previewSeconds"`
	ActSeconds      float64 `json:"actSeconds"`
	ReceiptsSeconds float64 `json:"receiptsSeconds"`
}

type drillHub struct {
	Hub       string   `json:"hub"`
	Devices   int64    `json:"devices"`
	Elsewhere bool     `json:"elsewhere"`
	Minutes   *float64 `json:"estimatedMinutes,omitempty"`
}

type drillEntry struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
	Act  string `json:"act,omitempty"`
	Slot string `json:"slot,omitempty"`
}

type drillIssuer struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type drillStop struct {
	Role     string `json:"role"`
	Profile  string `json:"profile,omitempty"`
	Issuer   string `json:"issuer"`
	Prepared string `json:"prepared,omitempty"`
}

// foreseen is what a preview says, as the beginning of a report.
func (x *drill) foreseen(p provisioning.DisallowPreview) drillReport {
	out := drillReport{
		Scope: string(p.Scope), Reason: string(p.Reason), Subject: p.Subject, Thumbprint: verify.ThumbprintOf(p.Certificate).String(),
		Known: p.Known, Ours: p.Ours, Devices: p.Devices, Lost: p.Lost,
		Hubs: []drillHub{}, Entries: []drillEntry{}, WouldEnter: []drillEntry{}, Issuers: []drillIssuer{}, Stops: []drillStop{},
	}
	if !p.Since.IsZero() {
		out.Since = &p.Since
	}
	for _, h := range p.Hubs {
		out.Hubs = append(out.Hubs, drillHub{Hub: h.Hub, Devices: h.Devices, Elsewhere: x.links[h.Hub]})
	}
	for _, e := range p.Entries {
		out.Entries = append(out.Entries, drillEntry{e.Owner.Kind.String(), e.Owner.ID.String(), string(e.Act), e.Slot.String()})
	}
	for _, o := range p.WouldEnter {
		out.WouldEnter = append(out.WouldEnter, drillEntry{Kind: o.Kind.String(), ID: o.ID.String()})
	}
	for _, i := range p.Fallen {
		out.Issuers = append(out.Issuers, drillIssuer{string(i.ID), i.Name})
	}
	for _, s := range p.Stops {
		out.Stops = append(out.Stops, drillStop{string(s.Role), s.Profile, string(s.Issuer), string(s.Prepared)})
	}
	return out
}

// estimate says how long hubs that live elsewhere take at a rate; 0: it is not known.
func (r *drillReport) estimate(perSecond float64) {
	for n, h := range r.Hubs {
		if h.Elsewhere && perSecond > 0 {
			minutes := math.Ceil(float64(h.Devices)/perSecond/6) / 10
			r.Hubs[n].Minutes = &minutes
		}
	}
}

// print writes what the preview of the act writes, and how it went.
func (r drillReport) print(w io.Writer, raw json.RawMessage) error {
	var p foreseen
	if err := json.Unmarshal(raw, &p); err != nil {
		return err
	}
	if err := p.print(w); err != nil {
		return err
	}
	var rows [][]string
	for _, h := range r.Hubs {
		switch {
		case h.Minutes != nil:
			rows = append(rows, []string{"estimate for " + printable(h.Hub), fmt.Sprintf("%.1f minutes", *h.Minutes)})
		case h.Elsewhere:
			rows = append(rows, []string{"estimate for " + printable(h.Hub), "unknown: give its --hub-rate"})
		}
	}
	done := seconds(r.ReceiptsSeconds) + ", hubs not called"
	if !r.Done {
		done = "not all, after " + done
	}
	return printRows(w, append(rows, [][]string{
		{"CRLs grow by", strconv.Itoa(r.CRLGrowth) + " octets"},
		{"copy", seconds(r.CopySeconds)}, {"preview", seconds(r.PreviewSeconds)}, {"act", seconds(r.ActSeconds)}, {"all receipts", done},
	}...))
}
