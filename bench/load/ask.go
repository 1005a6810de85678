package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/smallstep/pkcs7"
)

// ask sends a device's request and returns the status and the certificate it was answered
// with, nil where none was asked for.
func (o options) ask(ctx context.Context, c *http.Client, d *device) (int, *x509.Certificate, error) {
	req, err := o.request(ctx, d)
	if err != nil {
		return 0, nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err
	}
	cert, err := o.read(resp.StatusCode, body)
	return resp.StatusCode, cert, err
}

func (o options) read(status int, body []byte) (*x509.Certificate, error) {
	switch {
	case o.want != 0 && (status == o.want || status == o.orElse):
		return nil, nil
	case o.want != 0 || status >= http.StatusMultipleChoices:
		return nil, fmt.Errorf("status %d: %.200s", status, body)
	case o.kind == "est":
		return readEnrolled(body)
	case o.kind == "dps":
		return readRegistered(body, o.withCSR)
	}
	return nil, nil
}

func (o options) request(ctx context.Context, d *device) (*http.Request, error) {
	switch o.kind {
	case "est": // RFC 7030 section 4.2.1
		body := base64.StdEncoding.AppendEncode(nil, d.csr)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url+"/.well-known/est/simpleenroll", bytes.NewReader(body))
		if err == nil {
			req.Header.Set("Content-Type", "application/pkcs10")
			req.Header.Set("Content-Transfer-Encoding", "base64")
		}
		return req, err
	case "dps":
		fields := map[string]any{"registrationId": d.name}
		if o.withCSR {
			fields["csr"] = d.csr
		}
		body, err := json.Marshal(fields)
		if err != nil {
			return nil, err
		}
		url := fmt.Sprintf("%s/%s/registrations/%s/register?api-version=%s", o.url, o.scope, d.name, o.version)
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(body))
		if err == nil {
			req.Header.Set("Content-Type", "application/json")
			if d.token != "" {
				req.Header.Set("Authorization", d.token)
			}
		}
		return req, err
	}
	return http.NewRequestWithContext(ctx, http.MethodGet, o.url+o.path, nil)
}

func readEnrolled(body []byte) (*x509.Certificate, error) {
	der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(body), nil)))
	if err != nil {
		return nil, err
	}
	message, err := pkcs7.Parse(der)
	if err != nil {
		return nil, err
	}
	if len(message.Certificates) == 0 {
		return nil, errors.New("the answer holds no certificate")
	}
	return message.Certificates[0], nil
}

// readRegistered reads the answer to register. An operation that is not finished is an
// error: the servers measured finish at once.
func readRegistered(body []byte, withCSR bool) (*x509.Certificate, error) {
	var a struct {
		Status            string
		RegistrationState struct {
			AssignedHub            string
			IssuedCertificateChain [][]byte
		}
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, err
	}
	if a.Status != "assigned" || a.RegistrationState.AssignedHub == "" {
		return nil, fmt.Errorf("the registration is %q: %.200s", a.Status, body)
	}
	if !withCSR {
		return nil, nil
	}
	if len(a.RegistrationState.IssuedCertificateChain) == 0 {
		return nil, errors.New("no certificate was issued")
	}
	return x509.ParseCertificate(a.RegistrationState.IssuedCertificateChain[0])
}
