package query

import (
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/fault"
)

const sample = `{"registrationId":"Press-1","provisioningStatus":"enabled","capabilities":{"iotEdge":false},"iotHubs":["a"],
	"initialTwin":{"tags":{"floor":3,"name":"O'Neill","null":null,"huge":1e400}}}`

func TestQueriesAndWhatTheyKeep(t *testing.T) {
	for text, want := range map[string]bool{
		"*": true, " * ": true, "SELECT *": true, "select\t*\nfrom enrollments": true, "SELECT*FROM x": true,
		"SELECT * WHERE registrationId='press-1'":                                            true,
		"SELECT * WHERE provisioningStatus='Enabled'":                                        false,
		"SELECT * WHERE RegistrationId='press-1'":                                            false,
		"SELECT * WHERE provisioningStatus!='disabled'":                                      true,
		"SELECT * WHERE capabilities.iotEdge = FALSE":                                        true,
		"SELECT * WHERE capabilities.iotEdge = 'false'":                                      false,
		"SELECT * WHERE capabilities.iotEdge != 'false'":                                     true,
		"SELECT * WHERE initialTwin.tags.floor = 3":                                          true,
		"SELECT * WHERE initialTwin.tags.floor = 3.0e0":                                      true,
		"SELECT * WHERE initialTwin.tags.floor = -3":                                         false,
		"SELECT * WHERE initialTwin.tags.huge = 3":                                           false,
		"SELECT * WHERE initialTwin.tags.huge != 3":                                          true,
		"SELECT * WHERE initialTwin.tags.name = 'O''Neill'":                                  true,
		`SELECT * WHERE initialTwin.tags.name = "O'Neill"`:                                   true,
		"SELECT * WHERE initialTwin.tags.null = 'x'":                                         false,
		"SELECT * WHERE registrationId.x = 'x'":                                              false,
		"SELECT * WHERE iotHubs = 'a'":                                                       false,
		"SELECT * WHERE initialTwin.tags.floor IN (1, 2, 3)":                                 true,
		"SELECT * WHERE initialTwin.tags.floor in ['3']":                                     false,
		"SELECT * WHERE registrationId='x' OR provisioningStatus='enabled'":                  true,
		"SELECT * WHERE registrationId='x' AND provisioningStatus='enabled'":                 false,
		"SELECT * WHERE registrationId='x' AND deviceId='y' OR capabilities.iotEdge=false":   true,
		"SELECT * WHERE registrationId='x' AND (deviceId='y' OR capabilities.iotEdge=false)": false,
	} {
		p, err := parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := (Query{where: p.where}).keeps([]byte(sample)); got != want {
			t.Errorf("%s: keeps the sample %v, want %v", text, got, want)
		}
	}
}

func TestQueriesThatAreNotAnswered(t *testing.T) {
	for _, text := range []string{
		"", " ", "SELECT", "* *", "SELECT * *", "SELECT a", "SELECT *, a", "DELETE *", "SELECT * FROM", "SELECT * FROM 5", "SELECT * FROM a, b",
		"SELECT * FROM a JOIN b", "SELECT * WHERE", "SELECT * WHERE a", "SELECT * WHERE a =", "SELECT * WHERE a = b", "SELECT * WHERE a = null",
		"SELECT * WHERE a > 5", "SELECT * WHERE 5 = 5", "SELECT * WHERE a == 5", "SELECT * WHERE a = 5 6", "SELECT * WHERE a = 5 AND", "SELECT * WHERE a = 5 OR",
		"SELECT * WHERE NOT a = 5", "SELECT * WHERE (a = 5", "SELECT * WHERE a = 5)", "SELECT * WHERE ()", "SELECT * WHERE a. = 5", "SELECT * WHERE .a = 5",
		"SELECT * WHERE a IN 5", "SELECT * WHERE a IN ()", "SELECT * WHERE a IN (5", "SELECT * WHERE a IN (5]", "SELECT * WHERE a IN (5 6)",
		"SELECT * WHERE a = 'x", `SELECT * WHERE a = "x'`, "SELECT * WHERE a = 1e999", "SELECT * WHERE a = 1-1", "SELECT * WHERE a = -", "SELECT * ORDER BY a",
		"SELECT * -- x", "SELECT * ; SELECT *", "SELECT * WHERE a = 'é' AND é = 'x'", "SELECT\x00*",
		"SELECT * WHERE " + strings.Repeat("(", 17) + "a=5" + strings.Repeat(")", 17),
		"SELECT * WHERE a = '" + strings.Repeat("x", maxQuery) + "'",
	} {
		if p, err := parse(text); !fault.Is(err, fault.Malformed) || fault.RuleOf(err) != "query" {
			t.Errorf("%.60q is read as %+v (%v)", text, p, err)
		}
	}
	if _, err := parse("SELECT * WHERE " + strings.Repeat("(", 16) + "a=5" + strings.Repeat(")", 16)); err != nil {
		t.Errorf("16 parentheses in one another: %v", err)
	}
}

func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"*", "SELECT * FROM enrollments", "SELECT * WHERE a.b = 'x' AND (c != 5 OR d IN ['x', \"y\"])", "select * where a <> true", "SELECT * WHERE a = '''", "((((",
	} {
		f.Add(seed)
	}
	item := fieldsOf([]byte(sample))
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parse(text)
		switch {
		case err != nil && fault.RuleOf(err) != "query":
			t.Errorf("refused by %v", err)
		case err == nil && p.where != nil:
			p.where.holds(item)
		}
	})
}
