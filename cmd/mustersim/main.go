// Command mustersim is a fleet of simulated devices. Each is a device.Agent with a folder of
// its own, onboarded by a certificate that the fleet's factory makes; all it knows of the
// server is the public wire. Beside them stands an application at the hub, which says
// whether the hub would let each device in, and passes on what the hub tells devices.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var cli struct {
		Run runCmd `cmd:"" help:"Run a fleet for a while and say how it fared. Exit 1 if a device was ever without a working credential."`
	}
	k := kong.Parse(&cli, kong.Name("mustersim"), kong.Description("Simulated devices against a Muster server."), kong.BindTo(ctx, (*context.Context)(nil)))
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "mustersim:", err)
		os.Exit(1)
	}
}
