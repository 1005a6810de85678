package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/passmuster/muster/internal/fault"
)

// profileCmd is `muster profile`: issuing profiles, their versions, and trying changes.
type profileCmd struct {
	connection
	List     profileListCmd     `cmd:"" help:"List issuing profiles."`
	Show     profileShowCmd     `cmd:"" help:"Show one."`
	Apply    profileApplyCmd    `cmd:"" help:"Create or replace one from a file."`
	Edit     profileEditCmd     `cmd:"" help:"Change one in an editor."`
	Test     profileTestCmd     `cmd:"" help:"Try a change on the last certificate requests; nothing is signed or written."`
	History  profileHistoryCmd  `cmd:"" help:"List its versions, newest first."`
	Diff     profileDiffCmd     `cmd:"" help:"Say what changed from one version to another."`
	Rollback profileRollbackCmd `cmd:"" help:"Write the settings of an old version as a new one."`
	Delete   profileDeleteCmd   `cmd:"" help:"Delete one that no entry names; its versions stay."`
}

var (
	profileTable = table{
		{"NAME", "name", false}, {"LIFETIME", "lifetime", false}, {"KEYS", "keys", false}, {"USAGES", "extKeyUsage", false}, {"KEYREUSE", "keyReuse", false},
		{"BACKDATE", "backdate", true}, {"MIN", "minLifetime", true}, {"MAX", "maxLifetime", true}, {"NAMES", "names", true}, {"EXTENSIONS", "extensions", true},
		{"KEYATTESTATION", "keyAttestation", true}, {"ATTESTEDEXTENSION", "keyAttestationExtension", true},
		{"UPDATED", "lastUpdatedDateTimeUtc", true}, {"ETAG", "etag", true},
	}
	profileVersionTable = table{
		{"VERSION", "version", false}, {"AT", "at", false}, {"ACTOR", "actor", false}, {"LIFETIME", "settings.lifetime", false}, {"SETTINGS", "settings", true},
	}
)

type profileListCmd struct{ listing }

// Run lists profiles.
func (c *profileListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, profileTable, "profiles", nil)
}

func getProfile(ctx context.Context, api *client, name string) (answer, error) {
	return api.do(ctx, call{method: http.MethodGet, at: []string{"profiles", name}, next: "muster profile list"})
}

type profileShowCmd struct {
	output
	Name    string `arg:"" help:"Its name."`
	Version int64  `placeholder:"N" help:"As it was in this version."`
}

// Run shows a profile.
func (c *profileShowCmd) Run(ctx context.Context, s streams, api *client) error {
	if c.Version != 0 {
		got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"profiles", c.Name, "versions", strconv.FormatInt(c.Version, 10)}, next: "muster profile history " + c.Name})
		if err != nil {
			return err
		}
		var v struct{ Settings json.RawMessage }
		if err := json.Unmarshal(got.body, &v); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		return c.one(s.Out, profileTable, v.Settings)
	}
	got, err := getProfile(ctx, api, c.Name)
	if err != nil {
		return err
	}
	return c.one(s.Out, profileTable, got.body)
}

// profileFile reads a profile from YAML, of which JSON is a part. What `muster profile
// show` adds to it is left out.
func profileFile(text []byte, from, name string) (map[string]any, error) {
	var body map[string]any
	if err := yaml.Unmarshal(text, &body); err != nil || body == nil {
		return nil, fault.New(fault.Malformed, "profile-file", "%s is not a profile in YAML or JSON: %v", from, err)
	}
	for _, added := range []string{"etag", "createdDateTimeUtc", "lastUpdatedDateTimeUtc"} {
		delete(body, added)
	}
	if said, ok := body["name"].(string); ok && name != "" && said != name {
		return nil, fault.New(fault.Malformed, "profile-file", "%s is about the profile %q, not %q", from, said, name)
	} else if !ok && name == "" {
		return nil, fault.New(fault.Malformed, "profile-file", "%s does not say the name of the profile", from)
	} else if !ok {
		body["name"] = name
	}
	return body, nil
}

func readProfileFile(file, name string) (map[string]any, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return profileFile(text, file, name)
}

type profileApplyCmd struct {
	output
	Name string `arg:"" optional:"" help:"Its name, if the file does not say it."`
	File string `short:"f" required:"" type:"existingfile" placeholder:"FILE" help:"The profile in YAML or JSON; what it leaves out is as in a new installation."`
}

// Run writes a profile.
func (c *profileApplyCmd) Run(ctx context.Context, s streams, api *client) error {
	body, err := readProfileFile(c.File, c.Name)
	if err != nil {
		return err
	}
	name := fmt.Sprint(body["name"])
	match := mustBeNew
	switch current, err := getProfile(ctx, api, name); {
	case err == nil:
		match = current.etag
	case !fault.Is(err, fault.NotFound):
		return err
	}
	return putProfile(ctx, s, api, c.output, name, match, body)
}

func putProfile(ctx context.Context, s streams, api *client, o output, name, match string, body map[string]any) error {
	got, err := api.do(ctx, call{method: http.MethodPut, at: []string{"profiles", name}, match: match, body: body})
	if err != nil {
		return err
	}
	return o.one(s.Out, profileTable, got.body)
}

type profileEditCmd struct {
	output
	Name string `arg:"" help:"Its name."`
}

// Run opens a profile in $VISUAL or $EDITOR and writes what comes back.
func (c *profileEditCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getProfile(ctx, api, c.Name)
	if err != nil {
		return err
	}
	var current bytes.Buffer
	if err := printYAML(&current, got.body); err != nil {
		return err
	}
	editor := os.Getenv("VISUAL")
	if editor == "" {
		editor = os.Getenv("EDITOR")
	}
	if editor == "" {
		return fault.New(fault.Malformed, "editor-missing", "no editor is named by VISUAL or EDITOR: muster profile show %s -o yaml, change that, and muster profile apply -f FILE", c.Name)
	}
	folder, err := os.MkdirTemp("", "muster-profile-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	file := filepath.Join(folder, "profile.yaml")
	if err := os.WriteFile(file, current.Bytes(), 0o600); err != nil {
		return err
	}
	words := append(strings.Fields(editor), file)
	edit := exec.CommandContext(ctx, words[0], words[1:]...)
	edit.Stdin, edit.Stdout, edit.Stderr = s.In, s.Err, s.Err
	if err := edit.Run(); err != nil {
		return fault.New(fault.Internal, "editor-failed", "the editor ended with an error, nothing was changed: %v", err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if bytes.Equal(text, current.Bytes()) {
		fmt.Fprintln(s.Err, "nothing was changed")
		return nil
	}
	body, err := profileFile(text, "what the editor wrote", c.Name)
	if err != nil {
		return err
	}
	return putProfile(ctx, s, api, c.output, c.Name, got.etag, body)
}

type profileTestCmd struct {
	output
	Name     string `arg:"" help:"Its name."`
	File     string `short:"f" required:"" type:"existingfile" placeholder:"FILE" help:"The profile as it would be, in YAML or JSON."`
	Last     int    `default:"1000" help:"At most so many of the last requests, 1 to 1000."`
	All      bool   `help:"Also requests that came under other profiles."`
	Examples int    `default:"20" help:"At most so many examples."`
}

// Validate keeps the numbers in their bounds.
func (c *profileTestCmd) Validate() error {
	if c.Last < 1 || c.Last > 1000 || c.Examples < 1 || c.Examples > 1000 {
		return errors.New("--last and --examples lie between 1 and 1000")
	}
	return nil
}

// profileTried is what the API says of a try.
type profileTried struct {
	Requests, Same, Changed, Refused, Admitted, LeftOut int
	RefusedBy                                           map[string]int
	Examples                                            []struct {
		RegistrationID string
		Before, After  *struct{ Rule, Detail string }
		Changes        []fieldChanged
	}
}

type fieldChanged struct {
	Field    string
	Old, New any
}

// Run tries a change. Its exit code is 10 when requests would be refused that are not now.
func (c *profileTestCmd) Run(ctx context.Context, s streams, api *client) error {
	body, err := readProfileFile(c.File, c.Name)
	if err != nil {
		return err
	}
	got, err := api.do(ctx, call{
		method: http.MethodPost, at: []string{"profiles", c.Name, "test"}, next: "muster profile list",
		body: map[string]any{"profile": body, "last": c.Last, "all": c.All, "examples": c.Examples},
	})
	if err != nil {
		return err
	}
	var t profileTried
	if err := json.Unmarshal(got.body, &t); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if c.Output == "table" || c.Output == "wide" {
		err = printRows(s.Out, t.rows())
	} else {
		err = c.one(s.Out, table{{"NAME", "name", false}}, got.body)
	}
	if err == nil && t.Refused > 0 {
		return quietExit{exitWarning}
	}
	return err
}

func (t profileTried) rows() [][]string {
	rules := make([]string, 0, len(t.RefusedBy))
	for _, rule := range slices.Sorted(maps.Keys(t.RefusedBy)) {
		rules = append(rules, fmt.Sprintf("%s %d", rule, t.RefusedBy[rule]))
	}
	rows := [][]string{
		{"requests tried", strconv.Itoa(t.Requests), ""},
		{"would be refused now", strconv.Itoa(t.Refused), strings.Join(rules, ", ")},
		{"would no longer be refused", strconv.Itoa(t.Admitted), ""},
		{"would get another certificate", strconv.Itoa(t.Changed), ""},
		{"the same", strconv.Itoa(t.Same), ""},
	}
	if t.LeftOut > 0 {
		rows = append(rows, []string{"under other profiles (--all)", strconv.Itoa(t.LeftOut), ""})
	}
	for _, x := range t.Examples {
		id := printable(x.RegistrationID)
		switch {
		case x.After != nil:
			rows = append(rows, []string{id, "refused", printable(x.After.Rule + ": " + x.After.Detail)})
		case x.Before != nil:
			rows = append(rows, []string{id, "admitted", printable("no longer " + x.Before.Rule)})
		}
		for _, change := range x.Changes {
			rows = append(rows, []string{id, change.Field, text(change.Old) + " → " + text(change.New)})
		}
	}
	return rows
}

type profileHistoryCmd struct {
	listing
	Name string `arg:"" help:"Its name; a deleted one has its versions still."`
}

// Run lists versions.
func (c *profileHistoryCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, profileVersionTable, "profiles/"+c.Name+"/versions", nil)
}

type profileDiffCmd struct {
	output
	Name string `arg:"" help:"Its name."`
	From int64  `placeholder:"N" help:"The older version (default: the one before)."`
	To   int64  `placeholder:"N" help:"The newer version (default: the newest)."`
}

// Run shows what changed: each field, with its old value behind a minus and its new one
// behind a plus.
func (c *profileDiffCmd) Run(ctx context.Context, s streams, api *client) error {
	query := filters()
	for name, n := range map[string]int64{"from": c.From, "to": c.To} {
		if n != 0 {
			query.Set(name, strconv.FormatInt(n, 10))
		}
	}
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"profiles", c.Name, "diff"}, query: query, next: "muster profile history " + c.Name})
	if err != nil {
		return err
	}
	if c.Output != "table" && c.Output != "wide" {
		return c.one(s.Out, table{{"NAME", "name", false}}, got.body)
	}
	var d struct{ Changes []fieldChanged }
	if err := json.Unmarshal(got.body, &d); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if len(d.Changes) == 0 {
		fmt.Fprintln(s.Err, "nothing changed")
	}
	for _, change := range d.Changes {
		fmt.Fprintln(s.Out, change.Field)
		for _, side := range []struct {
			sign  string
			value any
		}{{"-", change.Old}, {"+", change.New}} {
			if side.value == nil {
				continue
			}
			lines := []string{text(side.value)}
			if whole, ok := side.value.(string); ok { // a template has several
				lines = strings.Split(strings.TrimRight(whole, "\n"), "\n")
			}
			for _, line := range lines {
				fmt.Fprintf(s.Out, "  %s %s\n", side.sign, printable(line))
			}
		}
	}
	return nil
}

type profileRollbackCmd struct {
	output
	harm
	Name    string `arg:"" help:"Its name."`
	Version int64  `arg:"" help:"The version to go back to."`
}

// Run goes back to an old version.
func (c *profileRollbackCmd) Run(ctx context.Context, s streams, api *client) error {
	match := ""
	switch current, err := getProfile(ctx, api, c.Name); {
	case err == nil:
		match = current.etag
	case !fault.Is(err, fault.NotFound):
		return err
	}
	if err := c.confirmed(s, c.Name, fmt.Sprintf("profile %s will be again as in version %d", c.Name, c.Version)); err != nil {
		return err
	}
	got, err := api.do(ctx, call{
		method: http.MethodPost, at: []string{"profiles", c.Name, "rollback"}, match: match,
		body: map[string]any{"version": c.Version}, next: "muster profile history " + c.Name,
	})
	if err != nil {
		return err
	}
	return c.one(s.Out, profileTable, got.body)
}

type profileDeleteCmd struct {
	harm
	Name string `arg:"" help:"Its name."`
}

// Run deletes a profile.
func (c *profileDeleteCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getProfile(ctx, api, c.Name)
	if err != nil {
		return err
	}
	if err := c.confirmed(s, c.Name, fmt.Sprintf("profile %s will be deleted", c.Name)); err != nil {
		return err
	}
	if _, err := api.do(ctx, call{method: http.MethodDelete, at: []string{"profiles", c.Name}, match: got.etag}); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "profile %s deleted\n", c.Name)
	return nil
}
