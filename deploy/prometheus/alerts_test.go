// Package prometheus_test holds alerts, dashboard, runbooks and the list of metrics together: what one names, the others have.
package prometheus_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const (
	runbooks      = "../runbooks"
	dashboardFile = "../grafana/dashboards/sluice.json"
	grafanaAlerts = "../grafana/provisioning/alerting/sluice.yml"
	repository    = "../.."
)

var testFiles = []string{"alerts_test.yml", "alerts_hours_test.yml"}

type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func parse(t *testing.T, path string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, path)), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func alerts(t *testing.T) map[string]rule {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	parse(t, "alerts.yml", &file)
	all := map[string]rule{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if _, twice := all[r.Alert]; twice {
				t.Errorf("%s is there twice", r.Alert)
			}
			all[r.Alert] = r
		}
	}
	if len(all) == 0 {
		t.Fatal("no alerts")
	}
	return all
}

// metric is a line of METRICS.md.
type metric struct {
	kind   string
	labels []string
}

var metricLine = regexp.MustCompile("(?m)^\\| `(sluice_\\w+)` \\| (counter|gauge|histogram) \\| ([\\w, ]*)\\|")

func metrics(t *testing.T) map[string]metric {
	t.Helper()
	all := map[string]metric{}
	for _, m := range metricLine.FindAllStringSubmatch(read(t, "METRICS.md"), -1) {
		labels := strings.FieldsFunc(m[3], func(r rune) bool { return r == ',' || r == ' ' })
		all[m[1]] = metric{m[2], labels}
	}
	if len(all) < 20 {
		t.Fatalf("only %d metrics found in METRICS.md", len(all))
	}
	return all
}

var (
	selector  = regexp.MustCompile(`\b(sluice_\w+)(?:\{([^}]*)\})?`)
	matcher   = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	grouping  = regexp.MustCompile(`\b(?:by|without|on)\s*\(([^)]*)\)`)
	histogram = regexp.MustCompile(`^(.*)_(bucket|sum|count)$`)
)

// fromPrometheus are labels that Prometheus adds, at the scrape or for buckets.
var fromPrometheus = []string{"job", "instance", "service", "le"}

// checkQuery says what in a query names no metric or label of the list.
func checkQuery(t *testing.T, where, query string, known map[string]metric) {
	t.Helper()
	var labels []string
	for _, s := range selector.FindAllStringSubmatch(query, -1) {
		name := s[1]
		m, ok := known[name]
		if part := histogram.FindStringSubmatch(name); !ok && part != nil {
			m, ok = known[part[1]]
			ok = ok && m.kind == "histogram"
		} else if ok && m.kind == "histogram" {
			t.Errorf("%s: %s is a histogram and has no value of its own", where, name)
		}
		if !ok {
			t.Errorf("%s: METRICS.md has no %s", where, name)
			continue
		}
		labels = append(labels, m.labels...)
		for _, l := range matcher.FindAllStringSubmatch(s[2], -1) {
			if !slices.Contains(m.labels, l[1]) && !slices.Contains(fromPrometheus, l[1]) {
				t.Errorf("%s: %s has no label %s", where, name, l[1])
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(query, -1) {
		for _, l := range strings.FieldsFunc(g[1], func(r rune) bool { return r == ',' || r == ' ' }) {
			if !slices.Contains(labels, l) && !slices.Contains(fromPrometheus, l) {
				t.Errorf("%s: no metric of the query has the label %s", where, l)
			}
		}
	}
}

func TestAlertsUseListedMetrics(t *testing.T) {
	t.Parallel()
	known := metrics(t)
	for name, r := range alerts(t) {
		checkQuery(t, name, r.Expr, known)
		for text, annotation := range r.Annotations {
			for _, s := range selector.FindAllString(annotation, -1) {
				checkQuery(t, name+" "+text, s, known)
			}
		}
	}
}

// Every alert says what to do, how urgent it is, and has a page of its own; no page is left over.
func TestEveryAlertHasARunbook(t *testing.T) {
	t.Parallel()
	all, known := alerts(t), metrics(t)
	for name, r := range all {
		page := filepath.Join(runbooks, name+".md")
		if r.Annotations["runbook_url"] != "deploy/runbooks/"+name+".md" || r.Annotations["summary"] == "" || len(r.Annotations["description"]) < 60 {
			t.Errorf("%s: annotations %v", name, r.Annotations)
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q", name, s)
		}
		text := read(t, page)
		for _, want := range []string{"# " + name + "\n", "## What it means\n", "## Look here\n", "## Do this\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q", page, want)
			}
		}
		checkQuery(t, page, text, known)
		if !strings.Contains(read(t, filepath.Join(runbooks, "README.md")), "("+name+".md)") {
			t.Errorf("the list of runbooks lacks %s", name)
		}
	}
	pages, err := filepath.Glob(filepath.Join(runbooks, "Sluice*.md"))
	if err != nil || len(pages) != len(all) {
		t.Errorf("%d pages for %d alerts, %v", len(pages), len(all), err)
	}
}

// Every alert is shown to fire and shown to stay silent.
func TestEveryAlertIsTested(t *testing.T) {
	t.Parallel()
	type promtoolTest struct {
		Name  string `yaml:"name"`
		Exprs []struct {
			Samples []struct {
				Labels string `yaml:"labels"`
			} `yaml:"exp_samples"`
		} `yaml:"promql_expr_test"`
	}
	var tests []promtoolTest
	for _, name := range testFiles {
		var file struct {
			Tests []promtoolTest `yaml:"tests"`
		}
		parse(t, name, &file)
		tests = append(tests, file.Tests...)
	}
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range tests {
		name, what, _ := strings.Cut(test.Name, " ")
		fired := false
		for _, e := range test.Exprs {
			for _, s := range e.Samples {
				fired = fired || s.Labels == `{alertname="`+name+`"}`
			}
		}
		switch {
		case strings.HasPrefix(what, "fires"):
			fires[name] = fired
		case strings.HasPrefix(what, "does not fire"):
			silent[name] = !fired
		}
	}
	for name := range alerts(t) {
		if !fires[name] || !silent[name] {
			t.Errorf("%s: shown to fire %v, shown to stay silent %v", name, fires[name], silent[name])
		}
	}
}

func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("no promtool: go install github.com/prometheus/prometheus/cmd/promtool@v0.316.0")
	}
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, append([]string{"test", "rules"}, testFiles...)} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

type dashboard struct {
	UID    string  `json:"uid"`
	Panels []panel `json:"panels"`
}

type panel struct {
	ID      int    `json:"id"`
	Type    string `json:"type"`
	Title   string `json:"title"`
	GridPos struct{ X, Y, W, H int }
	Targets []struct {
		Expr       string `json:"expr"`
		Datasource struct {
			UID string `json:"uid"`
		} `json:"datasource"`
	} `json:"targets"`
}

func loadDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	d, known := loadDashboard(t), metrics(t)
	shown, ids, taken := map[string]bool{}, map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 {
			t.Errorf("%s: the id %d is taken", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies over %q or beyond the edge at %d, %d", p.Title, other, x, y)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			checkQuery(t, p.Title, target.Expr, known)
			for _, s := range selector.FindAllStringSubmatch(target.Expr, -1) {
				shown[histogram.ReplaceAllString(s[1], "$1")] = true
				shown[s[1]] = true
			}
			if target.Datasource.UID != "prometheus" {
				t.Errorf("%s reads from %q", p.Title, target.Datasource.UID)
			}
		}
	}
	for name, r := range alerts(t) { // who is woken finds the curve
		for _, s := range selector.FindAllStringSubmatch(r.Expr, -1) {
			if m := histogram.ReplaceAllString(s[1], "$1"); !shown[m] && !shown[s[1]] {
				t.Errorf("%s watches %s, which the dashboard does not show", name, m)
			}
		}
	}
}

// Grafana's rules ask what Prometheus's ask, stand beside a panel of the dashboard and lead to the same runbooks.
func TestGrafanaAlerts(t *testing.T) {
	t.Parallel()
	var file struct {
		Groups []struct {
			Rules []struct {
				UID, Title, Condition, For string
				DashboardUID               string            `yaml:"dashboardUid"`
				PanelID                    int               `yaml:"panelId"`
				Labels, Annotations        map[string]string `yaml:",omitempty"`
				Data                       []struct {
					RefID         string `yaml:"refId"`
					DatasourceUID string `yaml:"datasourceUid"`
					Model         struct {
						Expr, Expression string
					}
				}
			}
		}
	}
	parse(t, grafanaAlerts, &file)
	all, d, uids := alerts(t), loadDashboard(t), map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			want, ok := all[r.Title]
			if !ok || len(r.Data) != 2 {
				t.Errorf("%s: Prometheus has no such alert", r.Title)
				continue
			}
			if strings.TrimSpace(r.Data[0].Model.Expr) != strings.TrimSpace(want.Expr) {
				t.Errorf("%s asks\n%s\nPrometheus asks\n%s", r.Title, r.Data[0].Model.Expr, want.Expr)
			}
			if r.For != want.For && (r.For != "0s" || want.For != "") || r.Labels["severity"] != want.Labels["severity"] ||
				r.Annotations["runbook_url"] != want.Annotations["runbook_url"] {
				t.Errorf("%s: for %s, %v, %v", r.Title, r.For, r.Labels, r.Annotations)
			}
			if r.Data[0].DatasourceUID != "prometheus" || r.Data[1].Model.Expression != r.Data[0].RefID || r.Condition != r.Data[1].RefID {
				t.Errorf("%s: %+v", r.Title, r.Data)
			}
			if !slices.ContainsFunc(d.Panels, func(p panel) bool { return p.ID == r.PanelID && len(p.Targets) > 0 }) || r.DashboardUID != d.UID {
				t.Errorf("%s stands beside panel %d of %s", r.Title, r.PanelID, r.DashboardUID)
			}
			if uids[r.UID] || len(r.UID) > 40 { // Grafana's bound
				t.Errorf("%s: uid %s", r.Title, r.UID)
			}
			uids[r.UID] = true
		}
	}
	if len(uids) == 0 {
		t.Error("no rules")
	}
}

// declared finds a metric's name, as source code declares it, and the help text after it.
var declared = regexp.MustCompile(`"(sluice_[a-z_]+)",\s*(?:Help:\s*)?("(?:[^"\\]|\\.)*")`)

// METRICS.md and the source code have the same metrics, and parts that share one describe it in the same words: two
// descriptions of one name cannot be registered in one process.
func TestListedMetricsAreDeclared(t *testing.T) {
	t.Parallel()
	known, found := metrics(t), map[string]map[string]string{} // name → help → file
	for _, folder := range []string{"consumers", "producers", "deploy/settlement"} {
		err := filepath.WalkDir(filepath.Join(repository, folder), func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			for _, m := range declared.FindAllStringSubmatch(read(t, path), -1) {
				if found[m[1]] == nil {
					found[m[1]] = map[string]string{}
				}
				found[m[1]][m[2]] = path
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range known {
		if found[name] == nil {
			t.Errorf("METRICS.md lists %s, which no part declares", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if _, ok := known[name]; !ok {
			t.Errorf("METRICS.md lacks %s", name)
		}
		if len(found[name]) > 1 {
			t.Errorf("%s is described in different words, and cannot be registered twice: %v", name, found[name])
		}
	}
}
