package admin

import (
	"context"
	"net/http"
	"strings"

	ics "github.com/arran4/golang-ical"
	"github.com/danielgtaylor/huma/v2"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// calendarType is the media type of RFC 5545 §8.1.
const calendarType = "text/calendar"

type calendar struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

// addCalendar: calendars ask without headers, and an address that lets whoever knows it read
// would stand in logs and browsers' histories. So the feed is behind a token like all else;
// muster roll calendar writes it to a file for others to fetch.
func (d *door) addCalendar() {
	const path = "/calendar.ics"
	add(d, route{"get-calendar", http.MethodGet, path, policies.ScopeRead, "rotation", "When issuers, anchors and signing certificates end or want successors, and when plans' windows open: RFC 5545", false}, d.getCalendar)
	answer := d.api.OpenAPI().Paths[path].Get.Responses["200"]
	answer.Headers = nil
	answer.Content = map[string]*huma.MediaType{calendarType: {Schema: &huma.Schema{Type: huma.TypeString}}}
}

func (d *door) getCalendar(ctx context.Context, _ *struct{}) (*calendar, error) {
	dates, err := d.Engine.Dates(ctx)
	if err != nil {
		return nil, err
	}
	return &calendar{ContentType: calendarType, Body: []byte(d.calendarOf(dates).Serialize(ics.WithNewLine("\r\n")))}, nil
}

func (d *door) calendarOf(dates []provisioning.Date) *ics.Calendar {
	scope := d.Engine.IDScope()
	cal := ics.NewCalendarFor("Muster")
	cal.SetProductId("-//Muster//Muster " + oneLine(d.Version) + "//EN")
	cal.SetMethod(ics.MethodPublish)
	cal.SetXWRCalName("Muster " + scope)
	cal.SetRefreshInterval("PT12H")
	for _, date := range dates {
		event := cal.AddEvent(date.ID + "@" + strings.ToLower(scope) + ".muster")
		event.SetDtStampTime(d.Now())
		event.SetStartAt(date.At)
		if date.For > 0 {
			event.SetEndAt(date.At.Add(date.For))
		}
		event.SetSummary(oneLine(date.What))
		event.SetTimeTransparency(ics.TransparencyTransparent)
	}
	return cal
}

// oneLine keeps names that others gave from making lines of their own.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
