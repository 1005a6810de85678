package main

import "context"

// jobsCmd lists what the server does by itself.
type jobsCmd struct {
	connection
	listing
}

var jobTable = table{
	{"NAME", "name", false}, {"STATE", "state", false}, {"EVERY", "every", false}, {"LAST", "lastRun.startedDateTimeUtc", false}, {"SECONDS", "lastRun.seconds", false},
	{"PROBLEM", "lastRun.problem", false}, {"OUTCOME", "lastRun.outcome", true}, {"DONE", "doneDateTimeUtc", true}, {"PROCESS", "lastRun.process", true},
}

// Run lists jobs.
func (c *jobsCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, jobTable, "jobs", nil)
}
