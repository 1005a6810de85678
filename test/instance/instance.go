// Package instance runs the real muster binary as a development server on loopback, and
// speaks to its admin API.
//
// A server it starts dies with the process that started it (on Linux), however that
// ends; it is ended by its process id alone. Two starts on the same folder and addresses
// are the same installation. It knows nothing of Muster's packages: what is tested or
// measured through it is the program as an operator has it.
//
// Called by bench/* and by the tests in test/*.
package instance

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Config says what to run. Binary and Data are needed; an address left empty is a free
// port of the machine's choosing, which a later start does not keep.
type Config struct {
	Binary                    string
	Data                      string   // folder of the installation; made if it is not there
	DSNFile                   string   // file with a PostgreSQL connection string; "" = SQLite in Data
	Devices, Admin, PKI, MQTT string   // addresses to listen on
	Mosquitto                 string   // file with the Mosquitto brokers of a configuration; "" = none
	Wrap                      []string // command put before the binary's own, such as one that limits it
}

// Instance is a server that has said that it is ready.
type Instance struct {
	PID     int
	Took    time.Duration // from the start of the process to its being ready
	Devices string        // https://host:port
	PKI     string        // http://host:port
	MQTT    string        // mqtts://host:port
	Service string        // connection string of the service API, with all its rights
	Hub     string        // that of the hub registry
	IDScope string
	CAFile  string // PEM, the root first: what devices trust

	admin, token string
	log          string
	cmd          *exec.Cmd
}

// startLimit bounds how long a server may take until it is ready.
const startLimit = 30 * time.Second

// Start runs `muster serve --dev` and waits until it is ready. What the server logs goes
// to DATA.log, beside the folder, after what earlier runs logged.
func Start(c Config) (*Instance, error) {
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(c.Data+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	ready, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	args := append(c.Wrap[:len(c.Wrap):len(c.Wrap)], c.command()...)
	i := &Instance{cmd: exec.Command(args[0], args[1:]...), log: log.Name()}
	i.cmd.Stdout, i.cmd.Stderr = out, log
	dieWithParent(i.cmd)
	began := time.Now()
	err = i.cmd.Start()
	_ = out.Close() // the server has its own
	if err != nil {
		_ = ready.Close() // nothing was read
		return nil, fmt.Errorf("starting the server: %w", err)
	}
	i.PID = i.cmd.Process.Pid
	if err := i.awaitReady(ready); err != nil {
		i.Kill()
		return nil, fmt.Errorf("starting the server: %w; it said:\n%s", err, i.Log())
	}
	i.Took = time.Since(began)
	if err := i.readEnv(c.root(i.PID), filepath.Join(c.Data, "dev.env")); err != nil {
		i.Kill()
		return nil, err
	}
	return i, nil
}

func (c Config) command() []string {
	or := func(addr string) string {
		if addr == "" {
			return "127.0.0.1:0"
		}
		return addr
	}
	args := []string{c.Binary, "serve", "--dev", "--data", c.Data, "--devices", or(c.Devices), "--admin", or(c.Admin), "--pki", or(c.PKI), "--mqtt", or(c.MQTT)}
	if c.Mosquitto != "" {
		args = append(args, "--mosquitto", c.Mosquitto)
	}
	if c.DSNFile != "" {
		args = append(args, "--dsn-file", c.DSNFile)
	}
	return args
}

// root is where the server's own view of the file system begins: a wrapper may have
// given it other mounts.
func (c Config) root(pid int) string {
	if len(c.Wrap) == 0 {
		return ""
	}
	return fmt.Sprintf("/proc/%d/root", pid)
}

// awaitReady reads the line a development server prints once it can answer. The rest is
// read too, to the server's end: a closed pipe would kill it.
func (i *Instance) awaitReady(out *os.File) error {
	first := make(chan string, 1)
	go func() {
		defer out.Close()
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n') // nothing, if it ends before
		first <- line
		_, _ = io.Copy(io.Discard, r)
	}()
	select {
	case line := <-first:
		if !strings.HasPrefix(line, "ready ") {
			return fmt.Errorf("it is not ready, and said %q", line)
		}
		return nil
	case <-time.After(startLimit):
		return fmt.Errorf("it was not ready within %s", startLimit)
	}
}

// readEnv reads what the server has left, below root, for those who want to talk to it.
func (i *Instance) readEnv(root, path string) error {
	raw, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return err
	}
	env := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		env[name] = strings.Trim(value, "'")
	}
	for name, field := range map[string]*string{
		"MUSTER_DEVICE_URL": &i.Devices, "MUSTER_ADMIN_URL": &i.admin, "MUSTER_PKI_URL": &i.PKI,
		"MUSTER_MQTT_URL": &i.MQTT, "MUSTER_SERVICE_CONNECTION_STRING": &i.Service, "MUSTER_HUB_CONNECTION_STRING": &i.Hub,
		"MUSTER_TOKEN": &i.token, "MUSTER_CA_FILE": &i.CAFile, "MUSTER_ID_SCOPE": &i.IDScope,
	} {
		if *field = env[name]; *field == "" {
			return fmt.Errorf("%s does not say %s", path, name)
		}
	}
	i.CAFile = filepath.Join(root, i.CAFile)
	return nil
}

// Kill ends the server at once (SIGKILL) and waits until it is gone.
func (i *Instance) Kill() {
	_ = i.cmd.Process.Kill() // it may have ended already
	_ = i.cmd.Wait()
}

// stopLimit is more than the server gives its last requests.
const stopLimit = 40 * time.Second

// Stop ends the server in order (SIGTERM). A server that ends with an error, or not at
// all, is an error.
func (i *Instance) Stop() error {
	if err := i.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	stubborn := time.AfterFunc(stopLimit, func() { _ = i.cmd.Process.Kill() })
	defer stubborn.Stop()
	if err := i.cmd.Wait(); err != nil {
		return fmt.Errorf("stopping the server: %w; it said:\n%s", err, i.Log())
	}
	return nil
}

// Log is the end of what the server has logged.
func (i *Instance) Log() string {
	const most = 4 << 10
	raw, err := os.ReadFile(i.log)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(raw[max(0, len(raw)-most):]))
}

// Build compiles the muster binary of the module around the working directory into
// folder and returns its path.
func Build(ctx context.Context, folder string) (string, error) {
	binary := filepath.Join(folder, "muster")
	out, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", binary, "github.com/passmuster/muster/cmd/muster").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building muster: %w\n%s", err, out)
	}
	return binary, nil
}
