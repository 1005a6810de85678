package policies

import (
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

func TestAChosenValidityStaysWithinTheProfileAndTheIssuer(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	old, far := now.Add(-365*day), now.Add(365*day)
	usual := now.Add(-5 * time.Minute)
	for name, c := range map[string]struct {
		from, to             time.Time
		least, most          time.Duration
		issuerFrom, issuerTo time.Time
		wantFrom, wantTo     time.Time
		rule                 string
	}{
		"nothing chosen":                         {wantFrom: usual, wantTo: usual.Add(90 * day)},
		"nothing chosen, though it may be":       {least: day, wantFrom: usual, wantTo: usual.Add(90 * day)},
		"an end within bounds":                   {to: now.Add(7 * day), least: day, wantFrom: usual, wantTo: now.Add(7 * day)},
		"an end beyond the usual, within bounds": {to: now.Add(200 * day), most: 300 * day, wantFrom: usual, wantTo: now.Add(200 * day)},
		"a beginning, and the usual length":      {from: now.Add(-time.Hour), least: day, wantFrom: now.Add(-time.Hour), wantTo: now.Add(90*day - time.Hour)},
		"an end after the issuer's":              {to: now.Add(30 * day), least: day, issuerTo: now.Add(20 * day), wantFrom: usual, wantTo: now.Add(20 * day)},
		"a beginning before the issuer's":        {from: now.Add(-time.Hour), least: day, issuerFrom: now.Add(-time.Minute), wantFrom: now.Add(-time.Minute), wantTo: now.Add(90*day - time.Hour)},
		"an end without bounds":                  {to: now.Add(7 * day), rule: "template-validity"},
		"shorter than the least":                 {to: now.Add(time.Hour), least: day, rule: "template-validity"},
		"longer than the most":                   {to: now.Add(301 * day), most: 300 * day, rule: "template-validity"},
		"longer than the usual, with a least":    {to: now.Add(91 * day), least: day, rule: "template-validity"},
		"over already":                           {from: now.Add(-time.Hour), to: now, most: 100 * day, rule: "template-validity"},
		"backwards":                              {from: now, to: now.Add(-day), most: 100 * day, rule: "template-validity"},
		"begun too long ago":                     {from: now.Add(-time.Hour - time.Second), least: day, rule: "template-validity"},
		"not begun yet":                          {from: now.Add(time.Second), least: day, rule: "template-validity"},
		"an issuer that ends":                    {to: now.Add(7 * day), least: day, issuerTo: now.Add(time.Minute), rule: "issuer-expiring"},
	} {
		t.Run(name, func(t *testing.T) {
			p := DefaultProfile()
			p.MinLifetime, p.MaxLifetime = c.least, c.most
			if c.issuerFrom.IsZero() {
				c.issuerFrom = old
			}
			if c.issuerTo.IsZero() {
				c.issuerTo = far
			}
			from, to, err := p.Chosen(c.from, c.to, now, c.issuerFrom, c.issuerTo)
			if fault.RuleOf(err) != c.rule || !from.Equal(c.wantFrom) || !to.Equal(c.wantTo) {
				t.Errorf("%s to %s, %v; want %s to %s, rule %q", from, to, err, c.wantFrom, c.wantTo, c.rule)
			}
		})
	}
}
