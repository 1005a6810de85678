package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// hub is an application at the hub: it signs in with a connection string and asks in the
// shape of Azure IoT Hub's registry.
type hub struct {
	base, host, policy string
	key                []byte
	http               *http.Client
}

// errDown is that nobody can say now: the server is away.
var errDown = errors.New("the hub does not answer")

const hubVersion = "?api-version=2021-04-12"

func openHub(server, connectionFile string, client *http.Client) (*hub, error) {
	text, err := os.ReadFile(connectionFile)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for field := range strings.SplitSeq(strings.TrimSpace(string(text)), ";") {
		name, value, _ := strings.Cut(field, "=")
		fields[name] = value
	}
	key, err := base64.StdEncoding.DecodeString(fields["SharedAccessKey"])
	if err != nil || len(key) == 0 || fields["HostName"] == "" {
		return nil, fmt.Errorf("%s holds no connection string", connectionFile)
	}
	return &hub{base: strings.TrimRight(server, "/"), host: fields["HostName"], policy: fields["SharedAccessKeyName"], key: key, http: client}, nil
}

func (h *hub) token() string {
	resource, expiry := url.QueryEscape(h.host), fmt.Sprint(time.Now().Add(time.Hour).Unix())
	mac := hmac.New(sha256.New, h.key)
	mac.Write([]byte(resource + "\n" + expiry))
	signature := url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return "SharedAccessSignature sr=" + resource + "&sig=" + signature + "&se=" + expiry + "&skn=" + h.policy
}

// get reads one resource. errDown stands for every answer that says nothing about it.
func (h *hub) get(ctx context.Context, path string, into any) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.base+path+hubVersion, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", h.token())
	resp, err := h.http.Do(req)
	if err != nil {
		return 0, errDown
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil || resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests:
		return 0, errDown
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return 0, fmt.Errorf("the hub does not know the policy: %s", body)
	case resp.StatusCode == http.StatusOK:
		return resp.StatusCode, json.Unmarshal(body, into)
	}
	return resp.StatusCode, nil
}

// admits says whether the hub would let a device in that shows this certificate, and if
// not, why.
func (h *hub) admits(ctx context.Context, id string, leaf *x509.Certificate) (bool, string, error) {
	var d struct {
		Status         string
		Authentication struct {
			Type           string
			X509Thumbprint struct{ PrimaryThumbprint, SecondaryThumbprint string }
		}
	}
	status, err := h.get(ctx, "/devices/"+url.PathEscape(id), &d)
	if err != nil {
		return false, "", err
	}
	sum := sha256.Sum256(leaf.Raw)
	shown := fmt.Sprintf("%X", sum[:])
	held := d.Authentication.X509Thumbprint
	switch {
	case status != http.StatusOK:
		return false, fmt.Sprintf("status %d", status), nil
	case d.Status != "enabled":
		return false, "the device is " + d.Status, nil
	case !strings.EqualFold(shown, held.PrimaryThumbprint) && !strings.EqualFold(shown, held.SecondaryThumbprint):
		return false, fmt.Sprintf("it shows %.8s, the hub has %.8s and %.8s", shown, held.PrimaryThumbprint, held.SecondaryThumbprint), nil
	}
	return true, "", nil
}

// told is what the server has for a device in its twin; "" is nothing.
func (h *hub) told(ctx context.Context, id string) (string, error) {
	var twin struct {
		Properties struct {
			Desired struct{ Muster map[string]json.RawMessage }
		}
	}
	if _, err := h.get(ctx, "/twins/"+url.PathEscape(id), &twin); err != nil {
		return "", err
	}
	m := twin.Properties.Desired.Muster
	return string(m["renew"]) + string(m["reprovision"]), nil
}
