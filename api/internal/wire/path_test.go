package wire

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
)

func pathDoor() *testDoor {
	d := newTestDoor(slog.LevelError)
	echo := func(c *gin.Context) error {
		c.String(200, "%s|%s|%s|%s", c.FullPath(), c.Param("scope"), c.Param("id"), c.Param("op"))
		return nil
	}
	for _, path := range []string{"/:scope/registrations/:id/register", "/:scope/registrations/:id/operations/:op", "/:scope/registrations/:id", "/known/list", "/known/:id"} {
		d.Handle("GET", path, echo)
	}
	return d
}

func TestPathsAreFoldedAndIDsAreNot(t *testing.T) {
	tests := map[string]struct{ path, want string }{
		"as written":                    {"/S/registrations/Dev/register", "/:scope/registrations/:id/register|S|Dev|"},
		"fixed words in another case":   {"/S/REGISTRATIONS/Dev/Register", "/:scope/registrations/:id/register|S|Dev|"},
		"a slash at the end":            {"/S/registrations/Dev/", "/:scope/registrations/:id|S|Dev|"},
		"an id that is a fixed word":    {"/Registrations/Registrations/Register/REGISTER", "/:scope/registrations/:id/register|Registrations|Register|"},
		"a fixed word before an id":     {"/KNOWN/LIST", "/known/list|||"},
		"an id beside a fixed word":     {"/Known/Lists", "/known/:id||Lists|"},
		"an id with an encoded slash":   {"/S/Registrations/a%2FB", "/:scope/registrations/:id|S|a/B|"},
		"an encoded character":          {"/S/Registrations/a%42/", "/:scope/registrations/:id|S|aB|"},
		"two slashes at the end":        {"/S/registrations/Dev//", RuleNoRoute},
		"a slash too much inside":       {"/S//registrations/Dev", RuleNoRoute},
		"dots are no way up":            {"/S/x/../registrations/Dev", RuleNoRoute},
		"an operation":                  {"/S/registrations/Dev/Operations/Op.1-2", "/:scope/registrations/:id/operations/:op|S|Dev|Op.1-2"},
		"nothing":                       {"/", RuleNoRoute},
		"the authority form of a proxy": {"http://elsewhere/S/registrations/Dev", "/:scope/registrations/:id|S|Dev|"},
	}
	d := pathDoor()
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if w := d.serve("GET", tt.path); w.Body.String() != tt.want {
				t.Errorf("%s: %d %q, want %q", tt.path, w.Code, w.Body, tt.want)
			}
		})
	}
}

func TestTheCallersRequestIsLeftAlone(t *testing.T) {
	r := httptest.NewRequest("GET", "/S/REGISTRATIONS/Dev/", nil)
	pathDoor().ServeHTTP(httptest.NewRecorder(), r)
	if r.URL.Path != "/S/REGISTRATIONS/Dev/" {
		t.Errorf("the path became %q", r.URL.Path)
	}
}

func FuzzPaths(f *testing.F) {
	for _, seed := range []string{"/S/REGISTRATIONS/Dev/register/", "/S/registrations/a%2Fb", "//", "/%", "/known/%00"} {
		f.Add(seed)
	}
	d := pathDoor()
	f.Fuzz(func(t *testing.T, path string) {
		folded, matched := d.fold(path)
		if !strings.EqualFold(folded, path) && !strings.EqualFold(folded+"/", path) {
			t.Errorf("%q became %q", path, folded)
		}
		again, same := d.fold(folded)
		if matched != "" && (again != folded && again+"/" != folded || same != matched && again == folded) {
			t.Errorf("%q: %q (%s), then %q (%s)", path, folded, matched, again, same)
		}
	})
}
