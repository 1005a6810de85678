package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// print writes the table: medians over the rounds; a ratio is the median of the
// rounds' own ratios.
func (b *bench) print(out io.Writer) {
	fmt.Fprintf(out, "%d rounds of %d requests, %d clients, mutual TLS, SQLite; medians; CPU in µs of the server's own time\n\n", b.rounds, b.count, b.clients)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tCPU\tfloor\tratio\tgoal\t\t1/s\tp50 ms\tp99 ms\tRSS MiB\tfloor's 1/s\tp50 ms\tp99 ms\tRSS MiB")
	for _, r := range rows {
		p := b.taken[r.name]
		fmt.Fprintf(t, "%s\t%.0f\t", r.name, median(p.muster, cpu))
		if len(p.floor) > 0 {
			ratio := medianOf(ratios(p.muster, p.floor))
			fmt.Fprintf(t, "%.0f\t%.2f\t%s", median(p.floor, cpu), ratio, goal(ratio, r.goal))
		} else {
			fmt.Fprint(t, "\t\t\t")
		}
		fmt.Fprintf(t, "\t%s", rest(p.muster))
		if len(p.floor) > 0 {
			fmt.Fprintf(t, "\t%s", rest(p.floor))
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush() // as the writes to a terminal above
	fmt.Fprintf(out, "\nWhat an issuance of %q leaves to the planner, which revokes what the device holds no more: %.0f µs of CPU\n", enrollKept, medianOf(b.taken[enrollKept].after))
	fmt.Fprintln(out, "\nA refusal beyond the handshake, as part of a success beyond it (goal 0.50):")
	for _, refused := range []string{refusedDevice, refusedGroup} {
		for _, success := range []string{registerCSR, register} {
			ratio := b.beyond(refused) / b.beyond(success)
			fmt.Fprintf(out, "  %s / %s: %.0f / %.0f µs = %.2f %s\n", refused, success, b.beyond(refused), b.beyond(success), ratio, verdict(ratio, 0.5))
		}
	}
	ratio := median(b.taken[registerKey].muster, cpu) / median(b.taken[register].muster, cpu)
	fmt.Fprintf(out, "\n%s / %s = %.2f (goal 0.60) %s\n", registerKey, register, ratio, verdict(ratio, 0.6))
	b.printStepCA(out)
	if b.floor == nil {
		fmt.Fprintln(out, "\nThe floor is not here: these are Muster's own figures, without ratios.")
	}
}

// printStepCA prints how many certificates a second of CPU time is good for.
func (b *bench) printStepCA(out io.Writer) {
	if b.stepCA == nil {
		fmt.Fprintln(out, "\nstep-ca, or a generator that knows it, is not here: Muster is not measured beside it.")
		return
	}
	p := b.taken[enrollKept]
	ratio, goal := medianOf(ratios(p.stepCA, p.muster)), 1.7
	met := "met"
	if ratio < goal {
		met = "MISSED"
	}
	fmt.Fprintf(out, "\nIssuances per CPU-second, keep-alive, a new P-256 key each: Muster (EST, SQLite) %.0f, step-ca v0.30.2 (JWK token, badgerv2) %.0f: × %.2f (goal ≥ %.1f) %s\n",
		1e6/median(p.muster, cpu), 1e6/median(p.stepCA, cpu), ratio, goal, met)
}

// beyond is a row's CPU time above that of a bare request on a fresh connection.
func (b *bench) beyond(name string) float64 {
	return median(b.taken[name].muster, cpu) - median(b.taken[handshake].muster, cpu)
}

func rest(s []sample) string {
	return fmt.Sprintf("%.0f\t%.1f\t%.1f\t%.0f",
		median(s, func(s sample) float64 { return s.PerSecond }), median(s, func(s sample) float64 { return s.P50 }),
		median(s, func(s sample) float64 { return s.P99 }), median(s, func(s sample) float64 { return s.Peak }))
}

// goal is the two columns of a goal: the number, and whether it is met.
func goal(ratio, most float64) string {
	if most == 0 {
		return "\t"
	}
	return fmt.Sprintf("≤ %.1f\t%s", most, verdict(ratio, most))
}

func verdict(ratio, most float64) string {
	if ratio <= most {
		return "met"
	}
	return "MISSED"
}

func cpu(s sample) float64 { return s.CPU }

func ratios(a, b []sample) (all []float64) {
	for i := range a {
		all = append(all, a[i].CPU/b[i].CPU)
	}
	return all
}

func median(s []sample, of func(sample) float64) float64 {
	var all []float64
	for _, x := range s {
		all = append(all, of(x))
	}
	return medianOf(all)
}

func medianOf(all []float64) float64 {
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}
