package device

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRegisterOverTLS(t *testing.T) {
	service := newFakeService(t)
	for _, tc := range []struct {
		name, proof string
		credential  Credential
	}{
		{"with the factory's certificate", "factory issuing", service.factoryCredential(t)},
		{"with a symmetric key", "sas", service.symmetricCredential()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newClient(t, service.listen(t, tc.credential))
			got, err := c.Register(testContext(t), Request{CSR: newCSR(t, testID), Payload: json.RawMessage(`{"model":"pump-7"}`)})
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != "assigned" || got.AssignedHub != "hub-1.example.net" || got.DeviceID != testID ||
				got.Substatus != "initialAssignment" || got.ETag != "W1" || got.OperationID != "op."+testID ||
				string(got.Payload) != `{"fromWebhook":true}` {
				t.Errorf("result %+v", got)
			}
			if len(got.Chain) != 3 || got.Chain[0].Subject.CommonName != testID || !got.Chain[2].Equal(service.issuer.root) {
				t.Errorf("chain of %d", len(got.Chain))
			}
			if service.lastProof != tc.proof || string(service.lastRegistration.Payload) != `{"model":"pump-7"}` {
				t.Errorf("the server saw proof %q and payload %s", service.lastProof, service.lastRegistration.Payload)
			}
			if service.count("/operations/") != 0 {
				t.Error("an operation finished in the 202 was polled")
			}
			status, err := c.Status(testContext(t))
			if err != nil || status.Status != "assigned" || status.AssignedHub != got.AssignedHub || len(status.Chain) > 0 {
				t.Errorf("status lookup: %+v, %v", status, err)
			}
		})
	}
}

func TestRegisterWithoutCSRGetsNoCertificate(t *testing.T) {
	service := newFakeService(t)
	c := newClient(t, service.inMemory(service.symmetricCredential()))
	got, err := c.Register(t.Context(), Request{})
	if err != nil || got.Status != "assigned" || len(got.Chain) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestRegisterFollowsTheOperationAtTheServersPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := newFakeService(t)
		service.polls = 4
		c := newClient(t, service.inMemory(service.factoryCredential(t)))
		start := time.Now()
		got, err := c.Register(t.Context(), Request{CSR: newCSR(t, testID)})
		if err != nil || got.Status != "assigned" || len(got.Chain) != 3 {
			t.Fatalf("%+v, %v", got, err)
		}
		if waited := time.Since(start); waited != 12*time.Second {
			t.Errorf("waited %s instead of four times Retry-After: 3", waited)
		}
		if n := service.count("GET /" + testScope + "/registrations/" + testID + "/operations/op." + testID); n != 4 {
			t.Errorf("%d polls", n)
		}
	})
}

func TestRegisterEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := newFakeService(t)
		service.polls = 1 << 30
		c := newClient(t, service.inMemory(service.symmetricCredential()))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.Register(ctx, Request{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func TestPollingSurvivesAFailingServerButNotARefusal(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		times  int
		want   int // status of the refusal, 0 for success
	}{
		{"three times 503 is waited out", 503, 3, 0},
		{"429 is waited out", 429, 1, 0},
		{"503 for ever is given up", 503, 1 << 20, 503},
		{"401 in a poll is final", 401, 1, 401},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service := newFakeService(t)
				service.polls = 1
				left := tc.times
				service.before = func(w http.ResponseWriter, r *http.Request) bool {
					if !strings.Contains(r.URL.Path, "/operations/") || left == 0 {
						return false
					}
					left--
					dpsError(w, tc.status, tc.status*1000, "no")
					return true
				}
				c := newClient(t, service.inMemory(service.symmetricCredential()))
				_, err := c.Register(t.Context(), Request{})
				if tc.want == 0 && err != nil || tc.want != 0 && !IsRefused(err, tc.want) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// answering is a server that says the same to everything.
func answering(status int, header http.Header, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
}

func TestRegisterUnderstandsEveryNo(t *testing.T) {
	const failed = `{"operationId":"op.1","status":"failed","registrationState":{"registrationId":"press-0042","status":"failed","errorCode":%,"errorMessage":"no hub\n left"}}`
	for _, tc := range []struct {
		name      string
		status    int
		header    http.Header
		body      string
		want      Refused
		temporary bool
	}{
		{"401 with the error body", 401, nil, `{"errorCode":401002,"message":"Unauthorized","trackingId":"t1"}`,
			Refused{HTTPStatus: 401, ErrorCode: 401002, Message: "Unauthorized", TrackingID: "t1"}, false},
		{"401 without a body", 401, nil, "", Refused{HTTPStatus: 401, Message: "Unauthorized"}, false},
		{"429 with Retry-After in seconds", 429, http.Header{"Retry-After": {"17"}}, `{"errorCode":429001,"message":"slow down"}`,
			Refused{HTTPStatus: 429, ErrorCode: 429001, Message: "slow down", RetryAfter: 17 * time.Second}, true},
		{"503 with Retry-After as a date", 503, http.Header{"Retry-After": {"Mon, 02 Jan 2006 15:04:35 GMT"}, "Date": {"Mon, 02 Jan 2006 15:04:05 GMT"}}, "<html>",
			Refused{HTTPStatus: 503, Message: "Service Unavailable", RetryAfter: 30 * time.Second}, true},
		{"Retry-After of a thousand years", 503, http.Header{"Retry-After": {"31536000000"}}, "", Refused{HTTPStatus: 503, Message: "Service Unavailable", RetryAfter: 24 * time.Hour}, true},
		{"Retry-After that is no number", 503, http.Header{"Retry-After": {"-1"}}, "", Refused{HTTPStatus: 503, Message: "Service Unavailable"}, true},
		{"an operation that failed", 202, nil, strings.Replace(failed, "%", "400207", 1), Refused{HTTPStatus: 200, ErrorCode: 400207, Message: "no hub left"}, false},
		{"an operation that was throttled", 200, nil, strings.Replace(failed, "%", "429001", 1), Refused{HTTPStatus: 200, ErrorCode: 429001, Message: "no hub left"}, true},
		{"a status nobody documented", 200, nil, `{"operationId":"op.1","status":"disabled"}`, Refused{HTTPStatus: 200, Message: `the registration is "disabled"`}, false},
		{"a redirect, which is not followed", 307, http.Header{"Location": {"https://elsewhere.example.net/"}}, "", Refused{HTTPStatus: 307, Message: "Temporary Redirect"}, false},
		{"a message that would repaint a terminal", 400, nil, `{"message":"a\u001b[2Jb"}`, Refused{HTTPStatus: 400, Message: "a?[2Jb"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			service := newFakeService(t)
			service.before = answering(tc.status, tc.header, tc.body)
			_, err := newClient(t, service.inMemory(service.symmetricCredential())).Register(t.Context(), Request{})
			var got *Refused
			if !errors.As(err, &got) || *got != tc.want || IsTemporary(err) != tc.temporary {
				t.Errorf("%+v (%v), want %+v", got, err, tc.want)
			}
			if len(service.calls) != 1 {
				t.Errorf("calls %v", service.calls)
			}
		})
	}
}

func TestRegisterRefusesAnswersThatBreakTheProtocol(t *testing.T) {
	assigned := func(rest string) string {
		return `{"operationId":"op.1","status":"assigned","registrationState":{"registrationId":"press-0042","assignedHub":"h","deviceId":"d"` + rest + `}}`
	}
	service := newFakeService(t)
	other := service.issuer.leaf(t, testID, testKey(t).Public(), time.Now(), time.Now().Add(time.Hour))
	otherJSON, err := json.Marshal([][]byte{other.Raw})
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"truncated JSON":                   assigned("")[:60],
		"an empty body":                    "",
		"a body without end":               `{"operationId":"` + strings.Repeat("a", maxAnswer) + `"`,
		"no operation id":                  `{"status":"assigning"}`,
		"an operation id that leaves path": `{"operationId":"../../admin","status":"assigning"}`,
		"an operation id of two dots":      `{"operationId":"..","status":"assigning"}`,
		"assigned without a state":         `{"operationId":"op.1","status":"assigned"}`,
		"assigned to no hub":               `{"operationId":"op.1","status":"assigned","registrationState":{"registrationId":"press-0042"}}`,
		"the state of another device":      strings.Replace(assigned(""), testID, "press-0043", 1),
		"no certificate though asked for":  assigned(""),
		"a chain that is not base64":       assigned(`,"issuedCertificateChain":["%%"]`),
		"a chain that is not certificates": assigned(`,"issuedCertificateChain":["YWJj"]`),
		"a certificate for another key":    assigned(`,"issuedCertificateChain":` + string(otherJSON)),
		"eleven certificates in one chain": assigned(`,"issuedCertificateChain":[` + strings.TrimSuffix(strings.Repeat(strings.Trim(string(otherJSON), "[]")+",", 11), ",") + `]`),
	} {
		t.Run(name, func(t *testing.T) {
			service.before = answering(http.StatusOK, nil, body)
			_, err := newClient(t, service.inMemory(service.symmetricCredential())).Register(t.Context(), Request{CSR: newCSR(t, testID)})
			if !errors.Is(err, ErrBadAnswer) || IsTemporary(err) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAServerThatCannotProveItselfGetsNothing(t *testing.T) {
	service, stranger := newFakeService(t), newFakeService(t)
	config := service.listen(t, service.symmetricCredential())
	config.CA = stranger.issuer.pool()
	_, err := newClient(t, config).Register(testContext(t), Request{})
	var unreachable *Unreachable
	if !errors.As(err, &unreachable) || !IsTemporary(err) {
		t.Errorf("%v", err)
	}
	if len(service.calls) != 0 {
		t.Errorf("the request was sent: %v", service.calls)
	}
}

func TestAnAnswerThatBreaksOffIsUnreachable(t *testing.T) {
	service := newFakeService(t)
	service.before = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"operationId":`)
		return true
	}
	_, err := newClient(t, service.listen(t, service.symmetricCredential())).Register(testContext(t), Request{})
	var unreachable *Unreachable
	if !errors.As(err, &unreachable) {
		t.Errorf("%v", err)
	}
}

func TestStatusOfADeviceThatNeverRegistered(t *testing.T) {
	service := newFakeService(t)
	_, err := newClient(t, service.inMemory(service.symmetricCredential())).Status(t.Context())
	if !IsRefused(err, http.StatusNotFound) {
		t.Errorf("%v", err)
	}
}

func FuzzOperationAnswer(f *testing.F) {
	f.Add(202, []byte(`{"operationId":"op.1","status":"assigning"}`))
	f.Add(200, []byte(`{"operationId":"op.1","status":"assigned","registrationState":{"registrationId":"press-0042","assignedHub":"h","deviceId":"d","issuedCertificateChain":["YQ=="]}}`))
	f.Add(401, []byte(`{"errorCode":401002,"message":"Unauthorized"}`))
	f.Add(200, []byte(`{"operationId":"a/b","status":"FAILED","registrationState":{"errorCode":9999999999}}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		operation, result, err := readOperation(answer{status: status, body: body}, testID)
		if err != nil {
			if strings.ContainsAny(refusal(answer{status: status, body: body}).Message, "\x1b\n\r") {
				t.Error("a refusal's message holds control characters")
			}
			return
		}
		if strings.ContainsAny(operation, "/?#%") || operation == ".." {
			t.Errorf("operation id %q leaves its path segment", operation)
		}
		if result.Status == "assigned" && result.AssignedHub == "" {
			t.Error("assigned to no hub")
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"1", "0", "-1", "99999999999999999999", "Mon, 02 Jan 2006 15:04:35 GMT", " 7 "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h := http.Header{"Retry-After": {text}, "Date": {"Mon, 02 Jan 2006 15:04:05 GMT"}}
		if d := retryAfter(h); d < 0 || d > maxRetryAfter {
			t.Errorf("%q waits %s", text, d)
		}
	})
}
