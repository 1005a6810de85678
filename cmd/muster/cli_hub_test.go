package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// receiving starts a hub behind a webhook that takes whatever it is told; its address is in
// HUB. What it was told is put into the file told.
func receiving(ts *testscript.TestScript, _ bool, _ []string) {
	var one sync.Mutex
	told, err := os.OpenFile(ts.MkAbs("told"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	ts.Check(err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		one.Lock()
		defer one.Unlock()
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = told.Write(append(body, '\n'))
		}
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	ts.Defer(func() {
		server.Close()
		_ = told.Close()
	})
	ts.Setenv("HUB", server.URL)
}
