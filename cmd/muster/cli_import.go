package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// importCmd makes enrollments from a factory's list (scenario C9). Each line stands
// for itself; running it again makes no doubles.
type importCmd struct {
	File    string  `arg:"" type:"existingfile" help:"NAME.csv with a header line (of registrationId, certificate, secondaryCertificate, primaryKey, secondaryKey, deviceId, hubs, profile, status; certificates are files beside it), or NAME.ndjson with enrollments as the API takes them."`
	Output  string  `short:"o" enum:"table,ndjson" default:"table" help:"table or ndjson."`
	Profile *string `help:"Profile for lines of a CSV that name none (default: default); an empty one issues none."`
}

// imported is the outcome of one line.
type imported struct {
	Line           int    `json:"line"`
	RegistrationID string `json:"registrationId,omitempty"`
	Result         string `json:"result"` // created, exists, wrong
	Rule           string `json:"rule,omitempty"`
	Detail         string `json:"detail,omitempty"`
}

const (
	resultCreated = "created"
	resultExists  = "exists"
	resultWrong   = "wrong"
)

// Run imports a file: exit 8 when some lines are wrong, 1 when all are. It stops early
// only where no further line could do better.
func (c *importCmd) Run(ctx context.Context, s streams, api *client) error {
	file, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer file.Close()
	profile := policies.DefaultProfile().Name
	if c.Profile != nil {
		profile = *c.Profile
	}
	var lines lineReader
	switch ext := strings.ToLower(filepath.Ext(c.File)); ext {
	case ".csv":
		lines, err = newCSVLines(file, filepath.Dir(c.File), profile)
	case ".ndjson", ".jsonl":
		lines = newJSONLines(file)
	default:
		err = fault.New(fault.Malformed, "import-format", "%q is neither .csv nor .ndjson", ext)
	}
	if err != nil {
		return err
	}
	return c.run(ctx, s, api, lines)
}

// lineReader gives an enrollment per line, io.EOF at the end. A lineError is about
// that line alone.
type lineReader interface {
	next() (line int, id string, body any, err error)
}

type lineError struct{ error }

func (c *importCmd) run(ctx context.Context, s streams, api *client, lines lineReader) error {
	counts := map[string]int{}
	progress := newProgress(s.Err)
	for {
		line, id, body, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		out := imported{Line: line, RegistrationID: id, Result: resultCreated}
		wrong := new(lineError)
		if err == nil {
			_, err = api.do(ctx, call{method: http.MethodPut, at: []string{"enrollments", id}, match: mustBeNew, body: body})
		} else if !errors.As(err, wrong) {
			return err
		}
		switch kind := fault.KindOf(err); {
		case err == nil:
		case alreadyThere(err):
			out.Result = resultExists
		case errors.As(err, wrong) || kind == fault.Malformed || kind == fault.Disallowed || kind == fault.NotFound || kind == fault.TooLarge:
			out.Result, out.Rule, out.Detail = resultWrong, fault.RuleOf(err), detailOf(err)
		default:
			return err
		}
		counts[out.Result]++
		if err := c.print(s.Out, out); err != nil {
			return err
		}
		progress.tell(counts)
	}
	fmt.Fprintf(s.Err, "%d created, %d exist, %d wrong\n", counts[resultCreated], counts[resultExists], counts[resultWrong])
	switch {
	case counts[resultWrong] == 0:
		return nil
	case counts[resultCreated]+counts[resultExists] == 0:
		return quietExit{exitFailed}
	}
	return quietExit{exitPartly}
}

func detailOf(err error) string {
	if f := fault.As(err); f != nil {
		return f.Detail
	}
	return err.Error()
}

func (c *importCmd) print(w io.Writer, out imported) error {
	if c.Output == "ndjson" {
		return json.NewEncoder(w).Encode(out)
	}
	why := out.Detail
	if out.Rule != "" {
		why += " (rule " + out.Rule + ")"
	}
	_, err := fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", out.Line, printable(out.RegistrationID), out.Result, printable(why))
	return err
}

// progress says how far a long import is, every 5 seconds.
type progress struct {
	w    io.Writer
	last time.Time
}

func newProgress(w io.Writer) *progress { return &progress{w, time.Now()} }

func (p *progress) tell(counts map[string]int) {
	if now := time.Now(); now.Sub(p.last) >= 5*time.Second {
		p.last = now
		fmt.Fprintf(p.w, "%d created, %d exist, %d wrong so far\n", counts[resultCreated], counts[resultExists], counts[resultWrong])
	}
}

// csvLines reads a factory's list.
type csvLines struct {
	rows    *csv.Reader
	columns []string
	folder  string
	profile string
}

var csvColumns = []string{"registrationId", "certificate", "secondaryCertificate", "primaryKey", "secondaryKey", "deviceId", "hubs", "profile", "status"}

func newCSVLines(r io.Reader, folder, profile string) (*csvLines, error) {
	rows := csv.NewReader(r)
	header, err := rows.Read()
	if err != nil {
		return nil, fault.New(fault.Malformed, "import-header", "the file has no header line: %v", err)
	}
	header[0] = strings.TrimPrefix(header[0], "\ufeff") // spreadsheets begin with one
	for i, name := range header {
		header[i] = strings.TrimSpace(name)
		if !slices.Contains(csvColumns, header[i]) {
			return nil, fault.New(fault.Malformed, "import-header", "unknown column %q; there are %s", header[i], strings.Join(csvColumns, ", "))
		}
	}
	if !slices.Contains(header, "registrationId") {
		return nil, fault.New(fault.Malformed, "import-header", "the file has no column registrationId")
	}
	return &csvLines{rows, header, folder, profile}, nil
}

func (c *csvLines) next() (int, string, any, error) {
	row, err := c.rows.Read()
	if errors.Is(err, io.EOF) {
		return 0, "", nil, err
	}
	if parse := new(csv.ParseError); errors.As(err, &parse) {
		return parse.StartLine, "", nil, lineError{parse.Err}
	}
	if err != nil {
		return 0, "", nil, err
	}
	line, _ := c.rows.FieldPos(0)
	cells := map[string]string{}
	for i, name := range c.columns {
		cells[name] = strings.TrimSpace(row[i])
	}
	body, err := c.enrollment(cells)
	if err != nil {
		err = lineError{err}
	}
	return line, cells["registrationId"], body, err
}

func (c *csvLines) enrollment(cells map[string]string) (map[string]any, error) {
	body := map[string]any{}
	set := func(name string, v any, given bool) {
		if given {
			body[name] = v
		}
	}
	profile := cells["profile"]
	if profile == "" {
		profile = c.profile
	}
	set("credentialPolicyName", profile, profile != "")
	set("deviceId", cells["deviceId"], cells["deviceId"] != "")
	set("provisioningStatus", cells["status"], cells["status"] != "")
	set("iotHubs", strings.Fields(strings.ReplaceAll(cells["hubs"], ";", " ")), cells["hubs"] != "")
	pair := slots{c.beside(cells["certificate"]), c.beside(cells["secondaryCertificate"])}
	keys := map[string]any{}
	for _, name := range []string{"primaryKey", "secondaryKey"} {
		if cells[name] != "" {
			keys[name] = cells[name]
		}
	}
	named := slices.ContainsFunc(c.columns, func(name string) bool { return slices.Contains(csvColumns[1:5], name) })
	switch {
	case pair.given() && len(keys) > 0:
		return nil, errors.New("the line has a certificate and a key; a device has one kind")
	case !pair.given() && len(keys) == 0 && named:
		return nil, errors.New("the line has neither a certificate nor a key")
	case !pair.given():
		body["attestation"] = map[string]any{"type": "symmetricKey", "symmetricKey": keys}
		return body, nil
	}
	certs, err := pair.certificates()
	body["attestation"] = x509Attestation("clientCertificates", certs)
	return body, err
}

func (c *csvLines) beside(file string) string {
	if file == "" || filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(c.folder, file)
}

// jsonLines reads enrollments as the API takes them.
type jsonLines struct {
	lines *bufio.Scanner
	line  int
}

// maxLine is what the API takes of one enrollment.
const maxLine = 1 << 20

func newJSONLines(r io.Reader) *jsonLines {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	return &jsonLines{lines: lines}
}

func (j *jsonLines) next() (int, string, any, error) {
	for j.lines.Scan() {
		j.line++
		text := bytes.Clone(bytes.TrimSpace(j.lines.Bytes()))
		if len(text) == 0 {
			continue
		}
		var named struct{ RegistrationID string }
		if err := json.Unmarshal(text, &named); err != nil {
			return j.line, "", nil, lineError{fmt.Errorf("the line is not a JSON object of an enrollment: %w", err)}
		}
		if named.RegistrationID == "" {
			return j.line, "", nil, lineError{errors.New("the line has no registrationId")}
		}
		return j.line, named.RegistrationID, json.RawMessage(text), nil
	}
	if err := j.lines.Err(); err != nil {
		return j.line + 1, "", nil, fault.New(fault.Malformed, "import-line", "line %d cannot be read: %v", j.line+1, err)
	}
	return 0, "", nil, io.EOF
}

// exportCmd prints every enrollment as the API answers it.
type exportCmd struct{}

// Run prints NDJSON, page by page.
func (exportCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	return listing{output: output{Output: "ndjson"}, All: true}.print(ctx, api, s, k.table, k.resource, nil)
}
