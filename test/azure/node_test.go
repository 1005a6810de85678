package azure_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"testing"
)

// driver is a Node process that holds the SDKs and performs one call after the other.
type driver struct {
	in     io.Writer
	out    *bufio.Reader
	errors *bytes.Buffer
}

// ports are where a server listens that is not on 443 and 8883.
type ports struct {
	HTTPS string `json:"https"`
	MQTTS string `json:"mqtts"`
}

// startDriver starts client.js. With at nil the SDKs run as they are.
func startDriver(t *testing.T, caFile string, at *ports) *driver {
	t.Helper()
	if _, err := os.Stat("node_modules/azure-iothub/package.json"); err != nil {
		t.Fatalf("Azure's SDKs are not installed in test/azure: run make test (%v)", err)
	}
	cmd := exec.Command("node", "client.js")
	// A variable of the machine's own must not send the calls through a proxy.
	cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+caFile, "HTTPS_PROXY=", "https_proxy=", "NODE_OPTIONS=")
	d := &driver{errors: &bytes.Buffer{}}
	cmd.Stderr = d.errors
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // it ends when there is nothing more to do
		if err := cmd.Wait(); err != nil {
			t.Errorf("node: %v\n%s", err, d.errors)
		}
	})
	d.in, d.out = in, bufio.NewReader(out)
	d.send(t, map[string]any{"ports": at})
	return d
}

func (d *driver) send(t *testing.T, v any) {
	t.Helper()
	line, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.in.Write(append(line, '\n')); err != nil {
		t.Fatalf("node: %v\n%s", err, d.errors)
	}
}

// reply is what became of a call.
type reply struct {
	Result json.RawMessage `json:"result"`
	Error  *sdkError       `json:"error"`
	Seen   []exchange      `json:"seen"`
}

// sdkError is the error as the SDK gives it to its caller.
type sdkError struct {
	Name    string          `json:"name"`
	Message string          `json:"message"`
	Result  json.RawMessage `json:"result"`
}

// exchange is one request that was answered, as seen beside the SDK: an HTTP request,
// a refused CONNECT, or a PUBLISH of an answer.
type exchange struct {
	What    string `json:"what"`
	Version string `json:"version"`
	Status  int    `json:"status"`
}

func (d *driver) perform(t *testing.T, request map[string]any) reply {
	t.Helper()
	d.send(t, request)
	line, err := d.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("node: %v\n%s", err, d.errors)
	}
	var r reply
	if err := json.Unmarshal(line, &r); err != nil {
		t.Fatalf("node said %s: %v", line, err)
	}
	return r
}
