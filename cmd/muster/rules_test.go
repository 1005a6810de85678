package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const rulesFolder = "../../deploy/prometheus"

// promtool is what scripts/promtool.sh finds, or fetches.
func promtool(t *testing.T) string {
	t.Helper()
	path, err := exec.Command("../../scripts/promtool.sh").Output()
	if err != nil {
		if os.Getenv("MUSTER_REQUIRE_EXTERNAL") == "1" {
			t.Fatalf("no promtool: scripts/promtool.sh: %v", err)
		}
		t.Skip("no promtool: scripts/promtool.sh cannot fetch it")
	}
	return strings.TrimSpace(string(path))
}

func TestTheAlertRulesHold(t *testing.T) {
	t.Parallel()
	tool := promtool(t)
	for _, args := range [][]string{{"check", "rules", "muster.rules.yml"}, {"test", "rules", "muster.rules.test.yml"}} {
		cmd := exec.Command(tool, args...)
		cmd.Dir = rulesFolder
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

var (
	metricWord = regexp.MustCompile(`\bmuster_[a-z_]+`)
	alertName  = regexp.MustCompile(`(?m)^ *- alert: (\w+)$`)
	describes  = regexp.MustCompile(`fqName: "([^"]+)"`)
)

// words are the different matches in a file.
func words(t *testing.T, pattern *regexp.Regexp, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
		found = append(found, m[len(m)-1])
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func TestEveryMetricOfTheRulesIsOneOfOurs(t *testing.T) {
	t.Parallel()
	o := newOps(false)
	o.watch(nil)
	o.watchJobs(nil)
	o.watchCertificate(nil)
	ours := map[string]bool{}
	descs := make(chan *prometheus.Desc)
	go func() {
		o.registry.Describe(descs)
		close(descs)
	}()
	for d := range descs {
		ours[describes.FindStringSubmatch(d.String())[1]] = true
	}
	for _, name := range words(t, metricWord, filepath.Join(rulesFolder, "muster.rules.yml")) {
		if !ours[name] {
			t.Errorf("the rules name %s, which nobody reports", name)
		}
	}
	const page = "../../docs/reference/metrics.md"
	said := words(t, metricWord, page)
	for name := range ours {
		if strings.HasPrefix(name, "muster_") && !slices.Contains(said, name) {
			t.Errorf("%s does not have %s", page, name)
		}
	}
}

func TestEveryAlertIsExplainedAndTested(t *testing.T) {
	t.Parallel()
	alerts := words(t, alertName, filepath.Join(rulesFolder, "muster.rules.yml"))
	if len(alerts) < 10 {
		t.Fatalf("the rules have %d alerts: are they still read?", len(alerts))
	}
	for _, file := range []string{"../../docs/reference/alerts.md", filepath.Join(rulesFolder, "muster.rules.test.yml")} {
		for _, name := range alerts {
			if len(words(t, regexp.MustCompile(`\b`+name+`\b`), file)) == 0 {
				t.Errorf("%s does not have %s", file, name)
			}
		}
	}
}

// What the horizon reports is there once something was surveyed.
func TestTheHorizonIsInTheMetrics(t *testing.T) {
	s := newDevServer(t)
	want := []string{`muster_certificates_expiring{id_scope="`, `muster_certificates_ended{`, `muster_expiry_survey_timestamp_seconds{`, `muster_rotation_overdue{`,
		`muster_issuer_awaits_successor{`, `muster_crl_lifetime_seconds{`, `muster_server_certificate_not_after_timestamp_seconds `, `muster_disallowance_remaining{id_scope="`}
	for tries := 0; ; tries++ {
		text := s.ops("/metrics")
		missing := slices.DeleteFunc(slices.Clone(want), func(name string) bool { return strings.Contains(text, "\n"+name) })
		if len(missing) == 0 {
			return
		}
		if tries == 600 {
			t.Fatalf("missing: %q", missing)
		}
		time.Sleep(50 * time.Millisecond) // a server of its own: nothing tells us
	}
}
