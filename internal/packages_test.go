package internal_test

import (
	"fmt"
	"go/ast"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// checkTags reports struct tags on floors 0 to 3: a type there that knows how it is stored
// or sent would be decided by its door. The device's client is a door of its own.
func checkTags(house []source) (broken []string) {
	for _, s := range house {
		if floorOf(s.folder) > below || floorOf(s.folder) < 0 || s.folder == speaksHTTP {
			continue
		}
		for file, parsed := range s.files {
			ast.Inspect(parsed, func(n ast.Node) bool {
				field, ok := n.(*ast.Field)
				if !ok || field.Tag == nil {
					return true
				}
				text, _ := strconv.Unquote(field.Tag.Value)
				for _, key := range []string{"json", "db", "bun", "yaml", "form", "uri"} {
					if _, tagged := reflect.StructTag(text).Lookup(key); tagged {
						broken = append(broken, fmt.Sprintf("%s has a field with a %s tag", file, key))
					}
				}
				return true
			})
		}
	}
	return broken
}

// checkDocs asks each package for a comment, in one file, whose first sentence says what it is.
func checkDocs(house []source) (broken []string) {
	for _, s := range house {
		var docs []string
		for file, parsed := range s.files {
			if parsed.Doc != nil && strings.TrimSpace(parsed.Doc.Text()) != "" {
				docs = append(docs, file)
			}
		}
		slices.Sort(docs)
		if len(docs) != 1 {
			broken = append(broken, fmt.Sprintf("%s has its package comment in %d files, want 1: %v", s.folder, len(docs), docs))
			continue
		}
		start := "Package " + s.name() + " "
		if s.name() == "main" {
			start = "Command " + path.Base(s.folder) + " "
		}
		text := strings.Join(strings.Fields(s.files[docs[0]].Doc.Text()), " ")
		if !strings.HasPrefix(text, start) || !strings.Contains(text, ".") {
			broken = append(broken, fmt.Sprintf("%s: the package comment is no sentence that starts %q", docs[0], start))
		}
	}
	return broken
}
