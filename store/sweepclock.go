package store

import (
	"encoding/json"
	"fmt"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
)

// clockKey is where meta keeps what the sweeps' processes tell each other of the clock.
const clockKey = "sweep-clock"

var (
	insertClock = statement("INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING").missed(errClockMoved)
	updateClock = statement("UPDATE meta SET value = ? WHERE key = ? AND value = ?").missed(errClockMoved)
)

var errClockMoved = fault.New(fault.Conflict, "clock-moved", "Another process has written of the clock meanwhile.")

// clockSettings is a rotation.ClockRecord as stored; times are microseconds.
type clockSettings struct {
	Last   int64  `json:"last"`
	From   int64  `json:"from,omitempty"`
	To     int64  `json:"to,omitempty"`
	Back   bool   `json:"back,omitempty"`
	Replan bool   `json:"replan,omitempty"`
	Cursor string `json:"cursor,omitempty"`
}

func (t *tx) ClockRecord() (rotation.ClockRecord, error) {
	text, err := one(t, selectMeta, notFound("meta"), (*row).text, clockKey)
	if fault.Is(err, fault.NotFound) {
		return rotation.ClockRecord{}, nil
	}
	if err != nil {
		return rotation.ClockRecord{}, err
	}
	var s clockSettings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return rotation.ClockRecord{}, fmt.Errorf("the sweeps' clock on record: %w", err)
	}
	return rotation.ClockRecord{
		Last: fromMicros(s.Last), Jump: rotation.ClockJump{From: fromMicros(s.From), To: fromMicros(s.To)},
		Back: s.Back, Replan: s.Replan, Cursor: s.Cursor,
	}, nil
}

func (t *tx) PutClockRecord(next, was rotation.ClockRecord) error {
	if was.Last.IsZero() && was.Jump.IsZero() {
		return t.exec(insertClock, clockKey, clockText(next))
	}
	return t.exec(updateClock, clockText(next), clockKey, clockText(was))
}

func clockText(c rotation.ClockRecord) string {
	text, err := json.Marshal(clockSettings{
		Last: micros(c.Last), From: micros(c.Jump.From), To: micros(c.Jump.To), Back: c.Back, Replan: c.Replan, Cursor: c.Cursor,
	})
	if err != nil {
		panic("internal error: the sweeps' clock: " + err.Error())
	}
	return string(text)
}
