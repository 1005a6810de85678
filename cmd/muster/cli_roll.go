package main

// rollCmd is `muster roll`: rotation, beyond what each device does by itself.
type rollCmd struct {
	connection
	Campaign rollCampaignCmd `cmd:"" help:"Campaigns: move many devices now, in waves."`
}
