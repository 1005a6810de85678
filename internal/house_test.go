package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// source is one folder with Go files.
type source struct {
	folder string
	files  map[string]*ast.File // by path; test files are left out
	tests  int
}

func (s source) name() string {
	for _, f := range s.files {
		return f.Name.Name
	}
	return ""
}

// imports yields each direct import once: Muster's own as a folder, others as a path.
func (s source) imports() (own, foreign []string) {
	seen := map[string]bool{}
	for _, f := range s.files {
		for _, spec := range f.Imports {
			p, _ := strconv.Unquote(spec.Path.Value)
			if seen[p] {
				continue
			}
			seen[p] = true
			if folder, ok := strings.CutPrefix(p, module+"/"); ok {
				own = append(own, folder)
			} else {
				foreign = append(foreign, p)
			}
		}
	}
	slices.Sort(own)
	slices.Sort(foreign)
	return own, foreign
}

// load parses every folder of the module, whatever its build tags.
func load(house fs.FS) ([]source, error) {
	byFolder := map[string]*source{}
	files := token.NewFileSet()
	err := fs.WalkDir(house, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(p)
		if d.IsDir() {
			hidden := p != "." && (base[0] == '.' || base[0] == '_')
			if hidden || base == "testdata" || base == "node_modules" || base == "bin" {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(p) != ".go" || base[0] == '.' || base[0] == '_' {
			return nil
		}
		folder := path.Dir(p)
		if byFolder[folder] == nil {
			byFolder[folder] = &source{folder: folder, files: map[string]*ast.File{}}
		}
		if strings.HasSuffix(base, "_test.go") {
			byFolder[folder].tests++
			return nil
		}
		text, err := fs.ReadFile(house, p)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(files, p, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		byFolder[folder].files[p] = parsed
		return nil
	})
	var all []source
	for _, s := range byFolder {
		if len(s.files) > 0 {
			all = append(all, *s)
		}
	}
	slices.SortFunc(all, func(a, b source) int { return strings.Compare(a.folder, b.folder) })
	return all, err
}
