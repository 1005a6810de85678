package main

import (
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/passmuster/muster/internal/fault"
)

func TestAnUpstreamThatCannotBeOpenedIsNamed(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"a type that there is not": {"factory: {type: ejbca}", "upstreams.factory: type: stepca, vault or google, not \"ejbca\""},
		"no type":                  {"factory: {url: https://ca.example}", "upstreams.factory: type:"},
		"no section":               {"factory: yes", "upstreams.factory:"},
	} {
		var u upstreamsConfig
		if err := yaml.Unmarshal([]byte(c.text), &u); err != nil {
			t.Fatal(err)
		}
		if _, err := u.open(); fault.RuleOf(err) != "config" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestASectionIsReadStrictly(t *testing.T) {
	var into struct {
		URL string `yaml:"url"`
	}
	if err := (section{[]byte("url: https://ca.example\n")}).into(&into); err != nil || into.URL != "https://ca.example" {
		t.Error(into, err)
	}
	if err := (section{[]byte("url: https://ca.example\nurI: x\n")}).into(&into); err == nil {
		t.Error("an unknown key is taken")
	}
}
