// Package internal_test holds the house to its plan: which package may import which,
// who may bring sealed state back to life, and that every package says what it is for.
package internal_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/passmuster/muster"

// places is the house plan: every folder with Go code stands on one floor, and imports only
// go down. A new package has no place until it is given one here.
var places = []struct {
	floor   int
	folders []string
}{
	{5, []string{"cmd/*", "bench/*", "test/*"}},
	{4, []string{
		"api", "api/internal/*",
		"api/dps", "api/service", "api/est", "api/pki", "api/admin", "api/console", "api/mqtt", "api/acme", "api/certificates", "api/hub", "api/webhook", "api/log", "api/check", "api/nats",
		"store", "store/sqlite", "store/postgres",
		"hub/registry", "hub/azure", "hub/webhook", "hub/mosquitto",
		"ca/keys", "ca/ceremony", "ca/upstream/*", "ca/ctlog",
		"jobs", "internal/callout",
	}},
	{3, []string{"provisioning"}},
	{2, []string{"ca"}},
	{1, []string{"rotation"}},
	{0, []string{"verify", "verify/tpm", "policies", "device", "device/tpm", "web", "internal/fault", "internal/audit", "internal/seal", "internal/pgdsn", "internal/swtpm"}},
}

// testSupport is imported by _test.go files and by other test support only.
var testSupport = []string{"internal/testkit", "internal/testpg", "store/storetest", "hub/hubtest", "api/internal/apitest"}

// neighbours are the imports allowed between two packages of one floor.
var neighbours = [][2]string{
	{"api", "api/*"},
	{"api", "api/internal/*"},
	{"api/*", "api/internal/*"},
	{"api/internal/*", "api/internal/wire"},
	{"api/mqtt", "api/dps"}, // one protocol over two transports
	{"api/webhook", "internal/callout"},
	{"hub/*", "internal/callout"},
	{"store/*", "store"},
	{"bench/*", "test/instance"},
	{"test/*", "test/instance"},
	{"verify", "verify/tpm"},
	{"*", "internal/fault"},
	{"*/*", "internal/fault"},
}

// only narrows what the floors would allow: the folder imports no more of Muster than this.
var only = map[string][]string{
	"device":        {},
	"device/tpm":    {},
	"cmd/mustersim": {"device"},
	"rotation":      {"policies", "internal/fault", "internal/audit", "internal/seal"},
}

// users narrows who imports a folder, whatever the floors say.
var users = map[string][]string{
	"device":         {"cmd/*", "test/*", "bench/*"},
	"device/tpm":     {"cmd/*", "test/*", "bench/*"},
	"ca/ceremony":    {"cmd/*"},
	"internal/swtpm": {"bench/*"},
}

// below is the highest floor that keeps out of transports and databases.
const below = 3

// outside lists what floors 0 to 3 do not import themselves, by path prefix.
var outside = []string{
	"net/http", "net/rpc", "database/sql",
	"github.com/gin-gonic/", "github.com/danielgtaylor/huma/",
	"github.com/jackc/", "modernc.org/sqlite", "github.com/uptrace/", "github.com/pressly/goose", "github.com/riverqueue/",
	"github.com/mochi-mqtt/", "github.com/eclipse/",
	"github.com/nats-io/",
	"github.com/Azure/", "github.com/coder/websocket", "github.com/gorilla/websocket",
}

// speaksHTTP is the one package down there whose trade is the wire: the device's own client.
const speaksHTTP = "device"

// homes says which folders alone may import a library, by path prefix.
var homes = []struct {
	library string
	folders []string
}{
	{"github.com/smallstep/certificates/", []string{"ca", "ca/*", "ca/upstream/*", "api/acme"}},
	{"github.com/google/go-tpm/", []string{"verify/tpm", "device/tpm"}},
}

func matches(folder string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(pattern, folder)
		if err != nil {
			panic("internal error: bad pattern " + pattern)
		}
		return ok
	})
}

// floorOf answers -1 for a folder without a place.
func floorOf(folder string) int {
	for _, p := range places {
		if matches(folder, p.folders) {
			return p.floor
		}
	}
	return -1
}

// checkFloors reports every import that does not go down, and every package without a place.
func checkFloors(house []source) (broken []string) {
	report := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	for _, s := range house {
		support := matches(s.folder, testSupport)
		floor := floorOf(s.folder)
		if floor < 0 && !support {
			report("%s has no place in the house: give it a floor in internal/floors_test.go", s.folder)
			continue
		}
		own, foreign := s.imports()
		for _, to := range own {
			if support {
				continue
			}
			if matches(to, testSupport) {
				report("%s imports %s, which is test support", s.folder, to)
				continue
			}
			if why := upward(s.folder, to); why != "" {
				report("%s imports %s: %s", s.folder, to, why)
			}
		}
		for _, to := range foreign {
			for _, h := range homes {
				if strings.HasPrefix(to, h.library) && !support && !matches(s.folder, h.folders) {
					report("%s imports %s, which only %s may", s.folder, to, strings.Join(h.folders, ", "))
				}
			}
			if support || floor > below || s.folder == speaksHTTP && strings.HasPrefix(to, "net/http") {
				continue
			}
			for _, prefix := range outside {
				if strings.HasPrefix(to, prefix) {
					report("%s imports %s: floors 0 to %d keep out of transports and databases", s.folder, to, below)
				}
			}
		}
	}
	return broken
}

// upward says why from may not import to, or nothing.
func upward(from, to string) string {
	if allowed, narrowed := only[from]; narrowed && !slices.Contains(allowed, to) {
		return "it imports no more of Muster than [" + strings.Join(allowed, " ") + "]"
	}
	if allowed, narrowed := users[to]; narrowed && !matches(from, allowed) {
		return "only " + strings.Join(allowed, ", ") + " may"
	}
	here, there := floorOf(from), floorOf(to)
	if here > there {
		return ""
	}
	for _, pair := range neighbours {
		if here == there && matches(from, pair[:1]) && matches(to, pair[1:]) {
			return ""
		}
	}
	if here == there {
		return fmt.Sprintf("siblings on floor %d do not import each other", here)
	}
	return fmt.Sprintf("floor %d is above floor %d", there, here)
}

var rules = []struct {
	name  string
	check func([]source) []string
}{
	{"imports go down only", checkFloors},
	{"types below the doors carry no tags", checkTags},
	{"only the store restores", checkRestores},
	{"every package says what it is for", checkDocs},
}

func TestTheHouseStandsAsPlanned(t *testing.T) {
	root := os.DirFS("..")
	if _, err := fs.Stat(root, "go.mod"); errors.Is(err, fs.ErrNotExist) {
		t.Fatal("this test expects to run in the folder internal of the module")
	}
	house, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			for _, broken := range rule.check(house) {
				t.Error(broken)
			}
		})
	}
}
