package internal_test

import (
	"path"
	"strings"
	"testing"
	"testing/fstest"
)

// TestABadHouseIsNoticed gives each rule a house that keeps it and one that just breaks it.
func TestABadHouseIsNoticed(t *testing.T) {
	tests := map[string]struct {
		file, text string
		want       string // part of the only complaint; "" = none
	}{
		"a door may call the engine":         {"api/dps/a.go", `import "M/provisioning"`, ""},
		"the engine may not call a door":     {"provisioning/a.go", `import "M/api/dps"`, "floor 4 is above floor 3"},
		"a door may not call a door":         {"api/dps/a.go", `import "M/api/est"`, "siblings on floor 4"},
		"the mount may call the doors":       {"api/a.go", `import "M/api/est"`, ""},
		"doors share wire bits":              {"api/est/a.go", `import "M/api/internal/wire"`, ""},
		"a dialect imports the store":        {"store/sqlite/a.go", `import "M/store"`, ""},
		"the store imports no dialect":       {"store/a.go", `import "M/store/sqlite"`, "siblings"},
		"a hub driver imports no store":      {"hub/azure/a.go", `import "M/store"`, "siblings"},
		"everyone speaks the fault language": {"policies/a.go", `import "M/internal/fault"`, ""},
		"but not the device":                 {"device/a.go", `import "M/internal/fault"`, "imports no more of Muster"},
		"nor does anyone below use a device": {"api/dps/a.go", `import "M/device"`, "only cmd/*, test/*, bench/* may"},
		"a command uses the device client":   {"cmd/mustersim/a.go", `import "M/device"`, ""},
		"policies know no identity":          {"policies/a.go", `import "M/verify"`, "siblings on floor 0"},
		"rotation knows owners only":         {"rotation/a.go", `import "M/verify"`, "imports no more of Muster"},
		"a new package needs a place":        {"utils/a.go", ``, "no place in the house"},
		"a new door needs a place":           {"api/soap/a.go", ``, "no place in the house"},

		"the engine has no HTTP":           {"provisioning/a.go", `import "net/http"`, "transports and databases"},
		"nor its test server":              {"ca/a.go", `import "net/http/httptest"`, "transports and databases"},
		"nor SQL":                          {"rotation/a.go", `import "database/sql"`, "transports and databases"},
		"a door has HTTP":                  {"api/dps/a.go", `import "net/http"`, ""},
		"the device client has HTTP":       {"device/a.go", `import "net/http"`, ""},
		"the device client has no SQL":     {"device/a.go", `import "database/sql"`, "transports and databases"},
		"smallstep stands behind the ca":   {"ca/a.go", `import "github.com/smallstep/certificates/cas/softcas"`, ""},
		"and nowhere else":                 {"api/est/a.go", `import "github.com/smallstep/certificates/cas/softcas"`, "which only ca,"},
		"test support stays in tests":      {"store/a.go", `import "M/store/storetest"`, "test support"},
		"test support may use its own":     {"store/storetest/a.go", `import "M/internal/testpg"`, ""},
		"a test may use test support":      {"store/a_test.go", `import "M/internal/testpg"`, ""},
		"build tags hide nothing":          {"provisioning/b.go", "import \"net/http\"", "transports and databases"},
		"a json tag below the doors":       {"ca/a.go", "type T struct{ A int `json:\"a\"` }", "json tag"},
		"a json tag at a door":             {"api/dps/a.go", "type T struct{ A int `json:\"a\"` }", ""},
		"the store restores":               {"store/a.go", `import "M/rotation"; var p = rotation.RestorePair()`, ""},
		"the engine does not":              {"provisioning/a.go", `import "M/rotation"; var p = rotation.RestorePair()`, "which only package store may"},
		"nor under another name":           {"provisioning/a.go", `import r "M/rotation"; var p = r.RestorePair`, "which only package store may"},
		"nor with a dot":                   {"provisioning/a.go", `import . "M/rotation"; var p = 1`, "with a dot"},
		"nor a dialect":                    {"store/sqlite/a.go", `import "M/verify"; var p = verify.RestoreAnchor()`, "which only package store may"},
		"nor the package itself":           {"verify/a.go", "func RestoreA() {}\nfunc Prove() { RestoreA() }", "calls its own RestoreA in Prove"},
		"one restorer may use another":     {"verify/a.go", "func RestoreA() {}\nfunc RestoreB() { RestoreA() }", ""},
		"other libraries may restore":      {"cmd/muster/a.go", `import "os/signal"; var p = signal.RestoreAll`, ""},
		"data folders hold no packages":    {"ca/testdata/x/a.go", `import "net/http"`, ""},
		"neither do hidden ones":           {".cache/x/a.go", `import "net/http"`, ""},
		"neither do the console's modules": {"web/node_modules/x/a.go", `import "net/http"`, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pkg := path.Base(path.Dir(tt.file))
			doc := "// Package " + pkg + " is here.\n"
			if strings.HasPrefix(tt.file, "cmd/") {
				doc, pkg = "// Command "+pkg+" is here.\n", "main"
			}
			tag := ""
			if path.Base(tt.file) == "b.go" {
				tag = "//go:build never\n\n"
			}
			text := tag + doc + "package " + pkg + "\n" + strings.ReplaceAll(tt.text, `"M/`, `"`+module+"/")
			expect(t, fstest.MapFS{tt.file: {Data: []byte(text)}}, tt.want)
		})
	}
}

func TestABadPackageCommentIsNoticed(t *testing.T) {
	tests := map[string]struct {
		house map[string]string
		want  string
	}{
		"one sentence will do":   {map[string]string{"ca/a.go": "// Package ca issues.\npackage ca"}, ""},
		"none":                   {map[string]string{"ca/a.go": "package ca"}, "in 0 files"},
		"only a build tag":       {map[string]string{"ca/a.go": "//go:build linux\n\npackage ca"}, "in 0 files"},
		"two":                    {map[string]string{"ca/a.go": "// Package ca issues.\npackage ca", "ca/b.go": "// Package ca revokes.\npackage ca"}, "in 2 files"},
		"another package's name": {map[string]string{"ca/a.go": "// Package caa issues.\npackage ca"}, `starts "Package ca "`},
		"no sentence":            {map[string]string{"ca/a.go": "// Package ca thing\npackage ca"}, "no sentence"},
		"a command":              {map[string]string{"cmd/muster/a.go": "// Command muster serves.\npackage main"}, ""},
		"a command as a package": {map[string]string{"cmd/muster/a.go": "// Package main serves.\npackage main"}, `starts "Command muster "`},
		"a folder of tests":      {map[string]string{"internal/a_test.go": "package internal_test"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			house := fstest.MapFS{}
			for file, text := range tt.house {
				house[file] = &fstest.MapFile{Data: []byte(text)}
			}
			expect(t, house, tt.want)
		})
	}
}

func expect(t *testing.T, files fstest.MapFS, want string) {
	t.Helper()
	house, err := load(files)
	if err != nil {
		t.Fatal(err)
	}
	var broken []string
	for _, rule := range rules {
		broken = append(broken, rule.check(house)...)
	}
	if got := strings.Join(broken, "\n"); want == "" && got != "" || len(broken) > 1 || !strings.Contains(got, want) {
		t.Errorf("complaints:\n%s\nwant one with %q", got, want)
	}
}
