package instance

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Who administers a broker. No device can have such a name.
const (
	BrokerOperator = "muster~"
	brokerPassword = "correct horse battery"
)

// Broker is a real Mosquitto on loopback: one listener for devices, who show certificates,
// and one for the dynamic-security plugin, by name and password. It has a role for devices,
// who may publish and subscribe below dt/.
type Broker struct {
	Folder  string // of its files; made if it is not there
	Trusts  string // file of the CAs that sign devices, PEM
	CRLFile string // must be there when it starts
	More    string // lines at the end of its configuration, about the devices' listener
	Bare    bool   // without the plugin, and BrokerOperator by a password file

	Devices string // host:port
	Control string // host:port of the plugin's listener
	CAFile  string // vouches for the broker
	PIDFile string

	cmd *exec.Cmd
	log bytes.Buffer
}

// Address is what a hub is linked by.
func (b *Broker) Address() string {
	return (&url.URL{Scheme: "mqtts", User: url.UserPassword(BrokerOperator, brokerPassword), Host: b.Control}).String()
}

func (b *Broker) path(name string) string { return filepath.Join(b.Folder, name) }

// Prepare writes the files that the broker starts with, and finds it ports.
func (b *Broker) Prepare() error {
	if err := os.MkdirAll(b.Folder, 0o700); err != nil {
		return err
	}
	b.CAFile, b.PIDFile = b.path("server.pem"), b.path("pid")
	for _, to := range []*string{&b.Devices, &b.Control} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		*to = l.Addr().String()
		if err := l.Close(); err != nil {
			return err
		}
	}
	var clients error
	if b.Bare {
		clients = tool("mosquitto_passwd", "-b", "-c", b.path("passwords"), BrokerOperator, brokerPassword)
	} else {
		clients = errors.Join(tool("mosquitto_ctrl", "dynsec", "init", b.path("dynsec.json"), BrokerOperator, brokerPassword), b.addRole())
	}
	return errors.Join(clients, b.certify(), b.configure())
}

// addRole puts the role for devices into the plugin's file.
func (b *Broker) addRole() error {
	text, err := os.ReadFile(b.path("dynsec.json"))
	if err != nil {
		return err
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	var acls []any
	for _, kind := range []string{"publishClientSend", "publishClientReceive", "subscribePattern"} {
		acls = append(acls, Object{"acltype": kind, "topic": "dt/#", "allow": true})
	}
	roles, _ := all["roles"].([]any)
	all["roles"] = append(roles, Object{"rolename": "device", "acls": acls})
	if text, err = json.Marshal(all); err != nil {
		return err
	}
	return os.WriteFile(b.path("dynsec.json"), text, 0o600)
}

// certify makes the broker's own certificate, signed by itself.
func (b *Broker) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	of := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(b.CAFile, []byte(pemCertificate(der)), 0o600),
		os.WriteFile(b.path("server.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
}

func (b *Broker) configure() error {
	me, err := user.Current()
	if err != nil {
		return err
	}
	_, control, err := net.SplitHostPort(b.Control)
	if err != nil {
		return err
	}
	_, devices, err := net.SplitHostPort(b.Devices)
	if err != nil {
		return err
	}
	clients := "password_file " + b.path("passwords")
	if !b.Bare {
		plugin, err := brokerPlugin()
		if err != nil {
			return err
		}
		clients = "plugin " + plugin + "\nplugin_opt_config_file " + b.path("dynsec.json")
	}
	secured := fmt.Sprintf("cafile %s\ncertfile %s\nkeyfile %s", b.Trusts, b.CAFile, b.path("server.key"))
	return os.WriteFile(b.path("mosquitto.conf"), []byte(strings.Join([]string{
		"user " + me.Username, "pid_file " + b.PIDFile, "allow_anonymous false", clients,
		"listener " + control + " 127.0.0.1", secured,
		"listener " + devices + " 127.0.0.1", secured, "require_certificate true", "use_identity_as_username true", "crlfile " + b.CRLFile, b.More, "",
	}, "\n")), 0o600)
}

// Start runs the broker, and waits until it listens.
func (b *Broker) Start() error {
	program, err := brokerProgram("mosquitto")
	if err != nil {
		return err
	}
	b.cmd = exec.Command(program, "-c", b.path("mosquitto.conf"))
	b.cmd.Stdout, b.cmd.Stderr = &b.log, &b.log
	dieWithParent(b.cmd)
	if err := b.cmd.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(startLimit); ; time.Sleep(10 * time.Millisecond) {
		err := errors.Join(opens(b.Control), opens(b.Devices))
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			b.Stop()
			return fmt.Errorf("the broker is not ready: %w; it said:\n%s", err, b.Log())
		}
	}
}

func opens(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// Stop ends the broker, and waits until it is gone. It may be started again.
func (b *Broker) Stop() {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	stubborn := time.AfterFunc(stopLimit, func() { _ = b.cmd.Process.Kill() })
	defer stubborn.Stop()
	_ = b.cmd.Wait() // how it ended is in its log
}

// Log is what the broker has said, once it has ended.
func (b *Broker) Log() string { return b.log.String() }

// Ctrl does what an operator of the broker does: mosquitto_ctrl dynsec.
func (b *Broker) Ctrl(args ...string) error {
	host, port, err := net.SplitHostPort(b.Control)
	if err != nil {
		return err
	}
	return tool("mosquitto_ctrl", append([]string{"-h", host, "-p", port, "--cafile", b.CAFile, "-u", BrokerOperator, "-P", brokerPassword, "dynsec"}, args...)...)
}

// tool runs one of the broker's.
func tool(name string, args ...string) error {
	program, err := brokerProgram(name)
	if err != nil {
		return err
	}
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// brokerProgram finds one of the broker's programs: sbin need not be in PATH.
func brokerProgram(name string) (string, error) {
	for _, folder := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
		if path, err := exec.LookPath(folder + name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed; on Debian: apt-get install mosquitto", name)
}

func brokerPlugin() (string, error) {
	for _, pattern := range []string{"/usr/lib/*/mosquitto_dynamic_security.so", "/usr/lib*/mosquitto_dynamic_security.so", "/usr/local/lib*/mosquitto_dynamic_security.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 { // the patterns are good
			return found[0], nil
		}
	}
	return "", errors.New("the broker's dynamic-security plugin is not installed; on Debian: apt-get install mosquitto")
}
