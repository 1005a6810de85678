package main

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// logged waits until the log has every row that is on record.
func logged(ts *testscript.TestScript, _ bool, _ []string) {
	oneAtATime.Lock()
	defer oneAtATime.Unlock()
	for range 300 {
		var out, errs bytes.Buffer
		code := run(context.Background(), []string{"audit", "verify", "--local", "--data", ts.MkAbs("muster-dev")}, streams{In: strings.NewReader(""), Out: &out, Err: &errs})
		if code == exitDone && errs.Len() == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond) // a process of its own: nothing tells us
	}
	ts.Fatalf("the log does not catch up")
}
