package callout

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Message is something that is posted, signed as Standard Webhooks say.
type Message struct {
	URL, ContentType string
	ID               string // the same for the same message; without a dot
	Key              []byte
	Body             []byte
}

// Answer is what came back: its status, and how long the next message shall wait, zero
// where nothing was said.
type Answer struct {
	Status     int
	RetryAfter time.Duration
}

const (
	maxAnswer = 64 << 10
	// maxRetryAfter bounds what may be asked for.
	maxRetryAfter = time.Hour
)

// Taken says that the status is one of 2xx.
func (a Answer) Taken() bool { return a.Status/100 == 2 }

// Post sends a message. Its error has no address in it; [ErrAddress] is in it where the
// address is not called.
func (m Message) Post(ctx context.Context, client *http.Client) (Answer, error) {
	signer, err := standardwebhooks.NewWebhookRaw(m.Key)
	if err != nil {
		return Answer{}, err
	}
	now := time.Now()
	signature, err := signer.Sign(m.ID, now, m.Body)
	if err != nil {
		return Answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL, bytes.NewReader(m.Body))
	if err != nil {
		return Answer{}, Cause(err)
	}
	req.Header.Set("Content-Type", m.ContentType)
	req.Header.Set("User-Agent", "muster")
	req.Header.Set(standardwebhooks.HeaderWebhookID, m.ID)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, Cause(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // so that the connection is kept
	return Answer{Status: resp.StatusCode, RetryAfter: RetryAfter(resp.Header)}, nil
}

// RetryAfter is what an answer asks for in seconds (RFC 9110 §10.2.3); a date is not heeded.
func RetryAfter(of http.Header) time.Duration {
	seconds, err := strconv.Atoi(of.Get("Retry-After"))
	if err != nil || seconds <= 0 {
		return 0
	}
	return time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
}
