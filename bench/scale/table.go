package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// print writes the figures beside their goals.
func (b *bench) print(out io.Writer, f filled) {
	fmt.Fprintf(out, "%d certificates and %d devices enrolled by name, written in %.0f s; %d rounds of %d registrations with CSR; medians\n\n",
		f.certificates, f.devices, f.took.Seconds(), b.rounds, b.count)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tempty\tfull\tgoal\t")
	line := func(name, format string, of map[string][]float64, goals ...float64) {
		fmt.Fprintf(t, "%s\t"+format+"\t"+format, name, median(of["empty"]), median(of["full"]))
		b.goals(t, of, goals)
	}
	line("CPU of a registration, µs", "%.0f", b.cpu)
	fmt.Fprintf(t, "  full / empty\t\t%.2f\t≤ 1.25\t%s\n", median(b.ratio), verdict(median(b.ratio) <= 1.25))
	line("registrations a second", "%.0f", b.rate)
	line("start until ready, s", "%.2f", b.start, 0.3, 0.3)
	line("memory when started, MiB", "%.0f", b.idle, 64, 150)
	line("memory under load, peak MiB", "%.0f", b.peak, 64, 150)
	fmt.Fprintf(t, "disk for a certificate with its ledger row and indexes, bytes\t\t%.0f\t≤ 1500\t%s\n", f.certificateBytes, verdict(f.certificateBytes <= 1500))
	fmt.Fprintf(t, "disk for a device's enrollment and registration, bytes\t\t%.0f\t\t\n", f.deviceBytes)
	for _, r := range b.reads {
		fmt.Fprintf(t, "%s, ms\t\t%.1f\t\t\n", r.what, r.took)
	}
	_ = t.Flush() // as the writes to a terminal above
}

// goals ends a line with the goals for empty and full, if it has any.
func (b *bench) goals(t io.Writer, of map[string][]float64, goals []float64) {
	if len(goals) == 0 {
		fmt.Fprintln(t, "\t\t")
		return
	}
	met := median(of["empty"]) <= goals[0] && median(of["full"]) <= goals[1]
	fmt.Fprintf(t, "\t≤ %g, ≤ %g\t%s\n", goals[0], goals[1], verdict(met))
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "MISSED"
}
