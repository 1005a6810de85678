package internal_test

import (
	"fmt"
	"go/ast"
	"io/fs"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// command is a node of the command tree, read from the struct tags of cmd/muster as kong
// reads them.
type command struct {
	children map[string]*command
	flags    map[string]bool // long names, and "-o" for short ones
	args     bool            // takes arguments
	standard *command        // the child that is meant where none is named; nil: none is
}

// commandTree reads the type cli of cmd/muster.
func commandTree(t *testing.T, house fs.FS) *command {
	t.Helper()
	sub, err := fs.Sub(house, "cmd/muster")
	if err != nil {
		t.Fatal(err)
	}
	found, err := load(sub)
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]*ast.StructType{}
	for _, s := range found {
		for _, file := range s.files {
			ast.Inspect(file, func(n ast.Node) bool {
				if spec, ok := n.(*ast.TypeSpec); ok {
					if fields, ok := spec.Type.(*ast.StructType); ok {
						types[spec.Name.Name] = fields
					}
				}
				return true
			})
		}
	}
	root := &command{flags: map[string]bool{"--help": true, "-h": true}}
	root.read(types, types["cli"])
	if len(root.children) == 0 {
		t.Fatal("cmd/muster has no type cli with commands")
	}
	return root
}

func (c *command) read(types map[string]*ast.StructType, fields *ast.StructType) {
	if fields == nil {
		return
	}
	for _, f := range fields.Fields.List {
		var tag reflect.StructTag
		if f.Tag != nil {
			text, _ := strconv.Unquote(f.Tag.Value)
			tag = reflect.StructTag(text)
		}
		typeName, _ := f.Type.(*ast.Ident)
		inner := (*ast.StructType)(nil)
		if typeName != nil {
			inner = types[typeName.Name]
		}
		_, embedded := tag.Lookup("embed")
		if len(f.Names) == 0 || embedded {
			c.read(types, inner)
			continue
		}
		for _, name := range f.Names {
			c.add(types, name.Name, tag, inner)
		}
	}
}

func (c *command) add(types map[string]*ast.StructType, field string, tag reflect.StructTag, inner *ast.StructType) {
	name := tag.Get("name")
	if name == "" {
		name = dashed(field)
	}
	_, isCommand := tag.Lookup("cmd")
	_, isArgument := tag.Lookup("arg")
	switch {
	case !unicode.IsUpper(rune(field[0])) || tag.Get("kong") == "-":
	case isCommand:
		child := &command{flags: maps.Clone(c.flags)}
		child.read(types, inner)
		if c.children == nil {
			c.children = map[string]*command{}
		}
		c.children[name] = child
		if tag.Get("default") == "withargs" {
			c.standard = child
		}
	case isArgument:
		c.args = true
	default:
		c.flags["--"+name] = true
		if short := tag.Get("short"); short != "" {
			c.flags["-"+short] = true
		}
	}
}

var (
	wordEnd     = regexp.MustCompile(`([a-z0-9])([A-Z])`)
	acronymEnd  = regexp.MustCompile(`([A-Z])([A-Z][a-z])`)
	placeholder = regexp.MustCompile(`^[A-Z][A-Z0-9_|.…]*$`)
)

// dashed is a field's name as kong makes a flag of it.
func dashed(field string) string {
	return strings.ToLower(wordEnd.ReplaceAllString(acronymEnd.ReplaceAllString(field, "$1-$2"), "$1-$2"))
}

// leaves are the commands that do something, by their full names.
func (c *command) leaves(prefix string) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(c.children)) {
		if child := c.children[name]; child == c.standard {
			names = append(names, prefix)
		} else if len(child.children) == 0 {
			names = append(names, prefix+" "+name)
		} else {
			names = append(names, child.leaves(prefix+" "+name)...)
		}
	}
	return names
}

// check says what is wrong with a command line: an unknown command, or a flag it has not.
func (c *command) check(line string) error {
	at := c
	for _, word := range strings.Fields(line)[1:] {
		flag, _, _ := strings.Cut(strings.Trim(word, "[]()…"), "=")
		if at.standard != nil && at.children[word] == nil {
			at = at.standard
		}
		switch child := at.children[word]; {
		case child != nil:
			at = child
		case len(flag) > 1 && flag[0] == '-':
			if !at.flags[flag] {
				return fmt.Errorf("there is no flag %s", flag)
			}
		case len(at.children) > 0 && !placeholder.MatchString(word):
			return fmt.Errorf("there is no command %s", word)
		}
	}
	return nil
}

// commands are the lines of fenced blocks that run muster, without what a shell does
// with their output.
func (p page) commands() (lines []string) {
	for _, b := range p.blocks {
		joined := strings.ReplaceAll(strings.Join(b.lines, "\n"), "\\\n", " ")
		for line := range strings.SplitSeq(joined, "\n") {
			line = strings.TrimPrefix(strings.TrimSpace(line), "$ ")
			line = strings.TrimPrefix(line, "./bin/")
			line = strings.TrimPrefix(line, "bin/")
			if line != "muster" && !strings.HasPrefix(line, "muster ") {
				continue
			}
			for _, end := range []string{" | ", " > ", " >> ", " && ", " ; ", " & ", " # "} {
				line, _, _ = strings.Cut(line+" ", end)
			}
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
	}
	return lines
}
