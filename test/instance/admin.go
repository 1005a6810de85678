package instance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Status is an answer of the admin API that is not a success.
type Status struct {
	Code int
	Body string
}

func (s *Status) Error() string { return fmt.Sprintf("status %d: %s", s.Code, s.Body) }

// adminClient has time limits of its own: a server that is killed in the middle may
// never answer.
var adminClient = &http.Client{Timeout: 30 * time.Second}

// Call makes one call of the admin API with the development token. in, unless nil, is
// sent as JSON, and the answer is decoded into out unless that is nil. Path begins
// below /api/v1. An answer other than 2xx is a *Status; any other error means that
// whether the act took place is unknown.
func (i *Instance) Call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, i.admin+"/api/v1"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+i.token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := adminClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s: %w", method, path, &Status{resp.StatusCode, string(raw)})
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(raw, out)
}
