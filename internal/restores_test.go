package internal_test

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
)

// restorers are the files that may restore outside package store, and what: the slots of an
// entry are kept as credentials, whose dates are read only where they are asked for.
var restorers = map[string][]string{"provisioning/slots.go": {"rotation.RestorePair"}}

// checkRestores reports uses of Restore… functions of floors 0 to 3 outside package store:
// such a function rebuilds a verified anchor, a pair or an issuer without the proof that made it.
func checkRestores(house []source) (broken []string) {
	for _, s := range house {
		if s.folder == "store" || matches(s.folder, testSupport) {
			continue
		}
		for file, parsed := range s.files {
			from := map[string]string{} // identifier -> folder, for imports of floors 0 to 3
			for _, spec := range parsed.Imports {
				p, _ := strconv.Unquote(spec.Path.Value)
				folder, own := strings.CutPrefix(p, module+"/")
				if floor := floorOf(folder); !own || floor < 0 || floor > below {
					continue
				}
				name := path.Base(folder)
				if spec.Name != nil {
					name = spec.Name.Name
				}
				if name == "." {
					broken = append(broken, fmt.Sprintf("%s imports %s with a dot, which hides whose Restore it calls", file, folder))
				}
				from[name] = folder
			}
			for _, use := range restores(parsed) {
				switch {
				case use.pkg == "" && floorOf(s.folder) <= below && !strings.HasPrefix(use.within, "Restore"):
					broken = append(broken, fmt.Sprintf("%s calls its own %s in %s", file, use.name, use.within))
				case from[use.pkg] != "" && !slices.Contains(restorers[file], from[use.pkg]+"."+use.name):
					broken = append(broken, fmt.Sprintf("%s uses %s.%s, which only package store may", file, from[use.pkg], use.name))
				}
			}
		}
	}
	return broken
}

// restore is one use of a name that starts with Restore: pkg.Name, or a call Name(…) in its own package.
type restore struct{ pkg, name, within string }

func restores(file *ast.File) (uses []restore) {
	for _, decl := range file.Decls {
		within := ""
		if f, ok := decl.(*ast.FuncDecl); ok {
			within = f.Name.Name
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if pkg, ok := n.X.(*ast.Ident); ok && strings.HasPrefix(n.Sel.Name, "Restore") {
					uses = append(uses, restore{pkg.Name, n.Sel.Name, within})
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && strings.HasPrefix(f.Name, "Restore") {
					uses = append(uses, restore{"", f.Name, within})
				}
			}
			return true
		})
	}
	return uses
}
