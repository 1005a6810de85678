package main

import (
	"encoding/json"
	"fmt"
	"io"
)

// printSlots shows the slots of a device's pair, a line each, and where the roll of its
// certificate stands.
func printSlots(w io.Writer, registration json.RawMessage) error {
	var r struct {
		Pair []struct{ Slot, State, Thumbprint, NotAfter, SeenAt, RetireAt string }
		Roll struct{ ToldAt, Stuck, Since string }

		HeldAt, QuarantinedAt string
	}
	if err := json.Unmarshal(registration, &r); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	var rows [][]string
	for _, s := range r.Pair {
		row := []string{s.Slot, s.State, s.Thumbprint, "to " + s.NotAfter}
		if s.SeenAt != "" {
			row = append(row, "seen "+s.SeenAt)
		}
		if s.RetireAt != "" {
			row = append(row, "retires "+s.RetireAt)
		}
		rows = append(rows, row)
	}
	if r.HeldAt != "" {
		rows = append(rows, []string{"held", "since " + r.HeldAt, "until released"})
	}
	if r.QuarantinedAt != "" {
		rows = append(rows, []string{"in quarantine", "since " + r.QuarantinedAt, "until ended"})
	}
	if r.Roll.ToldAt != "" {
		rows = append(rows, []string{"told to renew", r.Roll.ToldAt})
	}
	if r.Roll.Stuck != "" {
		rows = append(rows, []string{"stuck", r.Roll.Stuck, "since " + r.Roll.Since})
	}
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
		}
	}
	return printRows(w, rows)
}
