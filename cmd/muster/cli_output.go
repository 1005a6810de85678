package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"golang.org/x/term"
	"gopkg.in/yaml.v3"
)

// output is how results are printed. Tables are aligned, with a header, on a terminal
// and plain tab-separated lines elsewhere; json is the API's JSON unchanged.
type output struct {
	Output string `short:"o" enum:"table,wide,json,ndjson,yaml,name" default:"table" help:"table, wide, json, ndjson, yaml or name."`
}

// column is one value of a resource: where it stands in the JSON.
type column struct {
	title string
	path  string // "attestation.type"
	wide  bool   // only with -o wide
}

// table says how a kind of resource is shown; the first column names it.
type table []column

func (t table) shown(wide bool) table {
	return slices.DeleteFunc(slices.Clone(t), func(c column) bool { return c.wide && !wide })
}

// one prints a single resource.
func (o output) one(w io.Writer, t table, raw json.RawMessage) error {
	switch o.Output {
	case "json":
		return printIndented(w, raw)
	case "ndjson":
		return printCompact(w, raw)
	case "yaml":
		return printYAML(w, raw)
	}
	r, err := decode(raw)
	if err != nil {
		return err
	}
	if o.Output == "name" {
		_, err := fmt.Fprintln(w, value(r, t[0].path))
		return err
	}
	rows := make([][]string, 0, len(t))
	for _, c := range t.shown(o.Output == "wide") {
		rows = append(rows, []string{strings.ToLower(c.title), value(r, c.path)})
	}
	return printRows(w, rows)
}

// many prints a list. next says that there is more than was asked for.
func (o output) many(w io.Writer, t table, items []json.RawMessage, next string) error {
	switch o.Output {
	case "json", "yaml":
		whole, err := json.Marshal(struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next,omitempty"`
		}{items, next})
		if err != nil {
			return err
		}
		if o.Output == "yaml" {
			return printYAML(w, whole)
		}
		return printIndented(w, whole)
	case "ndjson":
		for _, item := range items {
			if err := printCompact(w, item); err != nil {
				return err
			}
		}
		return nil
	case "name":
		t = t[:1]
	}
	t = t.shown(o.Output == "wide")
	var rows [][]string
	if isTerminal(w) && o.Output != "name" {
		header := make([]string, len(t))
		for i, c := range t {
			header[i] = c.title
		}
		rows = append(rows, header)
	}
	for _, item := range items {
		r, err := decode(item)
		if err != nil {
			return err
		}
		row := make([]string, len(t))
		for i, c := range t {
			row[i] = value(r, c.path)
		}
		rows = append(rows, row)
	}
	return printRows(w, rows)
}

func decode(raw json.RawMessage) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var r map[string]any
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return r, nil
}

// value is what stands at a dotted path, as text; "-" for nothing, so that lines keep
// their places.
func value(r map[string]any, path string) string {
	var v any = r
	for name := range strings.SplitSeq(path, ".") {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	if s := text(v); s != "" {
		return s
	}
	return "-"
}

func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return printable(v)
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case []any:
		words := make([]string, len(v))
		for i, e := range v {
			words[i] = text(e)
		}
		return strings.Join(words, ",")
	case map[string]any:
		raw, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return string(raw)
	}
	return fmt.Sprint(v)
}

// printable keeps what devices and certificates put into names from moving the cursor
// or making a second line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsPrint(r) && r != ' ' {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

func isTerminal(v any) bool {
	file, ok := v.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

func printRows(w io.Writer, rows [][]string) error {
	to := w
	aligned := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if isTerminal(w) {
		to = aligned
	}
	for _, row := range rows {
		if _, err := fmt.Fprintln(to, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return aligned.Flush()
}

func printIndented(w io.Writer, raw json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(raw), "", "  "); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(w)
	return err
}

func printCompact(w io.Writer, raw json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(w)
	return err
}

// printYAML writes JSON as YAML, its members in their order.
func printYAML(w io.Writer, raw json.RawMessage) error {
	var n yaml.Node
	if err := yaml.Unmarshal(raw, &n); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	plain(&n)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(&n); err != nil {
		return err
	}
	return e.Close()
}

// plain drops the braces and quotes that came with the JSON.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		plain(child)
	}
}
