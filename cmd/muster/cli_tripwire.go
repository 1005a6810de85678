package main

import "context"

// tripwireCmd is `muster tripwire`: devices that look like two.
type tripwireCmd struct {
	connection
	List tripwireListCmd `cmd:"" help:"List what was seen, newest first."`
}

var tripwireTable = table{
	{"LAST", "lastDateTimeUtc", false}, {"ID", "registrationId", false}, {"KIND", "kind", false}, {"COUNT", "count", false}, {"WITH", "object", false}, {"HELD", "held", false},
	{"FIRST", "firstDateTimeUtc", true}, {"DOOR", "door", true}, {"ADDRESS", "address", true}, {"DETAIL", "detail", true},
}

type tripwireListCmd struct {
	listing
	Kind   string `enum:",old-certificate,shared-key,two-chains" default:"" help:"old-certificate, shared-key or two-chains."`
	Device string `placeholder:"ID" help:"Of this device."`
}

// Run lists tripwires.
func (c *tripwireListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, tripwireTable, "tripwires", filters("kind", c.Kind, "registration", c.Device))
}
