package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

// tpmGroupFlags choose attestation by TPMs.
type tpmGroupFlags struct {
	EndorsementKeys string   `type:"existingfile" placeholder:"FILE" help:"CSV of the endorsement keys whose TPMs are admitted: a header line (of sha256, endorsementKey, registrationId), then a key each."`
	TPMCA           []string `name:"tpm-ca" placeholder:"NAME" help:"Verified trust anchor above the manufacturer that certifies the TPMs; a second one is the secondary."`
	TPMManufacturer []string `name:"tpm-manufacturer" placeholder:"ID" help:"What the certificate has to say of its TPM, as id:4E544300. Repeatable: one of them."`
	TPMModel        []string `name:"tpm-model" placeholder:"MODEL" help:"Likewise."`
	TPMVersion      []string `name:"tpm-version" placeholder:"VERSION" help:"Likewise, of its firmware."`
}

func (f tpmGroupFlags) conditions() map[string][]string {
	return map[string][]string{"manufacturers": f.TPMManufacturer, "models": f.TPMModel, "versions": f.TPMVersion}
}

func (f tpmGroupFlags) given() bool { return f.EndorsementKeys != "" || f.certified() }

func (f tpmGroupFlags) certified() bool {
	return len(f.TPMCA)+len(f.TPMManufacturer)+len(f.TPMModel)+len(f.TPMVersion) > 0
}

// listed are the keys of the file that is named, nil without.
func (f tpmGroupFlags) listed() ([]map[string]string, error) {
	if f.EndorsementKeys == "" {
		return nil, nil
	}
	return readListedKeys(f.EndorsementKeys)
}

func (f tpmGroupFlags) attestation() (map[string]any, error) {
	members := map[string]any{}
	switch {
	case len(f.TPMCA) > 2:
		return nil, errors.New("a group has two slots: at most two --tpm-ca")
	case f.EndorsementKeys != "":
		members["listed"] = true
	case len(f.TPMCA) > 0:
		refs := map[string]any{}
		for i, name := range f.TPMCA {
			refs[[]string{"primary", "secondary"}[i]] = name
		}
		members["caReferences"] = refs
	}
	for name, words := range f.conditions() {
		if len(words) > 0 {
			if len(f.TPMCA) == 0 {
				return nil, errors.New("--tpm-manufacturer, --tpm-model and --tpm-version go with --tpm-ca")
			}
			members[name] = words
		}
	}
	return map[string]any{"type": "tpm", "tpm": members}, nil
}

// groupEKCmd is `muster group endorsement-keys`.
type groupEKCmd struct {
	List   groupEKListCmd   `cmd:"" help:"List them."`
	Add    groupEKAddCmd    `cmd:"" help:"Put the keys of a CSV on the list."`
	Remove groupEKRemoveCmd `cmd:"" help:"Take the keys of a CSV off the list: their TPMs register no more."`
}

var listedKeyTable = table{{"SHA256", "sha256", false}, {"REGISTRATION", "registrationId", false}, {"SINCE", "sinceDateTimeUtc", false}}

type groupEKListCmd struct {
	listing
	ID string `arg:"" help:"Group id."`
}

// Run lists the endorsement keys of a group.
func (c *groupEKListCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	return c.print(ctx, api, s, listedKeyTable, k.resource+"/"+c.ID+"/endorsementKeys", nil)
}

type groupEKAddCmd struct {
	ID   string `arg:"" help:"Group id."`
	File string `arg:"" type:"existingfile" help:"CSV with a header line (of sha256, endorsementKey, registrationId)."`
}

// Run puts keys on a group's list.
func (c *groupEKAddCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	keys, err := readListedKeys(c.File)
	if err != nil {
		return err
	}
	return changeKeys(ctx, s, api, k, c.ID, "add", keys)
}

type groupEKRemoveCmd struct {
	harm
	ID   string `arg:"" help:"Group id."`
	File string `arg:"" type:"existingfile" help:"CSV with a header line, of which sha256 counts."`
}

// Run takes keys off a group's list.
func (c *groupEKRemoveCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	keys, err := readListedKeys(c.File)
	if err != nil {
		return err
	}
	var digests []string
	for i, key := range keys {
		if key["sha256"] == "" {
			return fault.New(fault.Malformed, "import-format", "key %d of %s has no sha256", i+1, c.File)
		}
		digests = append(digests, key["sha256"])
	}
	if err := c.confirmed(s, c.ID, fmt.Sprintf("%d TPMs will register no more in %s", len(digests), c.ID)); err != nil {
		return err
	}
	if err := changeKeys(ctx, s, api, k, c.ID, "remove", digests); err != nil {
		return err
	}
	fmt.Fprintln(s.Err, goesOn)
	return nil
}

// maxKeysAtOnce is what the API takes in one call.
const maxKeysAtOnce = 1000

// changeKeys adds or removes keys, as many in a call as the API takes.
func changeKeys[T any](ctx context.Context, s streams, api *client, k entryKind, group, member string, keys []T) error {
	var added, removed, listed int64
	for page := range slices.Chunk(keys, maxKeysAtOnce) {
		got, err := api.do(ctx, call{method: http.MethodPost, at: []string{k.resource, group, "endorsementKeys"}, body: map[string]any{member: page}, next: k.command + " list"})
		if err != nil {
			return err
		}
		var c struct{ Added, Removed, Listed int64 }
		if err := json.Unmarshal(got.body, &c); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		added, removed, listed = added+c.Added, removed+c.Removed, c.Listed
	}
	fmt.Fprintf(s.Err, "%d added, %d removed: group %s lists %d endorsement keys\n", added, removed, group, listed)
	return nil
}

// listedKeyColumns are what a CSV of endorsement keys may have.
var listedKeyColumns = []string{"sha256", "endorsementKey", "registrationId"}

// readListedKeys reads a CSV of endorsement keys, all of it before anything is sent.
func readListedKeys(name string) (keys []map[string]string, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	rows := csv.NewReader(file)
	rows.TrimLeadingSpace = true
	header, err := rows.Read()
	if err != nil {
		return nil, fault.New(fault.Malformed, "import-format", "%s has no header line", name).Because(err)
	}
	for _, column := range header {
		if !slices.Contains(listedKeyColumns, column) {
			return nil, fault.New(fault.Malformed, "import-format", "%s has a column %q; there are %s", name, column, strings.Join(listedKeyColumns, ", "))
		}
	}
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return keys, nil
		}
		if err != nil {
			return nil, fault.New(fault.Malformed, "import-format", "%s: %v", name, err)
		}
		key := map[string]string{}
		for i, value := range row {
			if value != "" {
				key[header[i]] = value
			}
		}
		keys = append(keys, key)
	}
}
