// Package compose_test holds the compose file to what the binary, the engines and the rest of deploy expect. It starts no
// container.
package compose_test

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"sluice/deploy/config"
)

type file struct {
	Services map[string]service `yaml:"services"`
	Volumes  map[string]any     `yaml:"volumes"`
}

type service struct {
	Image       string            `yaml:"image"`
	Build       build             `yaml:"build"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Ports       []string          `yaml:"ports"`
	Volumes     []string          `yaml:"volumes"`
	DependsOn   map[string]any    `yaml:"depends_on"`
	Healthcheck struct {
		Test []string `yaml:"test"`
	} `yaml:"healthcheck"`
	ReadOnly bool   `yaml:"read_only"`
	Restart  string `yaml:"restart"`
}

type build struct {
	Context    string `yaml:"context"`
	Dockerfile string `yaml:"dockerfile"`
}

func load(t *testing.T, name string) file {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var f file
	// A key beside << overrides the merged one (YAML merge keys); the parser takes that for a duplicate.
	if err := yaml.UnmarshalWithOptions(data, &f, yaml.AllowDuplicateMapKey()); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return f
}

// Each service of the binary: what it runs. Part names are those of `sluice run`.
var sluiceServices = map[string]string{
	"gate": "run gate", "poster": "run poster", "results": "run results", "warehouse": "run warehouse", "tiers": "run tiers",
	"simulator": "simulate", "verify": "verify",
}

// The others: image and ports, of this machine only.
var engines = map[string][]string{
	"kafka": {"apache/kafka:4.", "127.0.0.1:9092:9092"}, "postgres": {"postgres:18", "127.0.0.1:5432:5432"},
	"clickhouse": {"clickhouse/clickhouse-server:26.7", "127.0.0.1:9000:9000", "127.0.0.1:8123:8123"},
	"prometheus": {"prom/prometheus:v3.", "127.0.0.1:9090:9090"}, "grafana": {"grafana/grafana:1", "127.0.0.1:3000:3000"},
}

func TestServices(t *testing.T) {
	t.Parallel()
	f := load(t, "compose.yml")
	want := slices.Sorted(maps.Keys(engines))
	want = append(want, slices.Collect(maps.Keys(sluiceServices))...)
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(f.Services)); !slices.Equal(got, want) {
		t.Fatalf("services %v, want %v", got, want)
	}
	for name, command := range sluiceServices {
		s := f.Services[name]
		if got := strings.Join(s.Command, " "); got != command || s.Build.Dockerfile != "deploy/compose/Dockerfile" || !s.ReadOnly {
			t.Errorf("%s runs %q of %q, read-only %v", name, got, s.Build.Dockerfile, s.ReadOnly)
		}
		if got := slices.Sorted(maps.Keys(s.DependsOn)); !slices.Equal(got, []string{"clickhouse", "kafka", "postgres"}) {
			t.Errorf("%s waits for %v", name, got)
		}
	}
	for name, w := range engines {
		s := f.Services[name]
		if !strings.HasPrefix(s.Image, w[0]) || !slices.Equal(s.Ports, w[1:]) || len(s.Healthcheck.Test) < 2 {
			t.Errorf("%s: image %s, ports %v, health check %v; want %v", name, s.Image, s.Ports, s.Healthcheck.Test, w)
		}
	}
	if rate, restart := f.Services["simulator"].Environment["SLUICE_RATE"], f.Services["verify"].Restart; rate == "" || restart != "no" {
		t.Errorf("the simulator's rate is %q, verify's restart %q", rate, restart)
	}
	for name, s := range f.Services {
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s opens %s to the world", name, p)
			}
		}
	}
}

// Every SLUICE_ variable is one that the binary reads, and the addresses are those of the services.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, c := range []any{config.Config{}, config.Simulation{}} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(c)) {
			known[field.Tag.Get("env")] = true
		}
	}
	for name := range sluiceServices {
		environment := load(t, "compose.yml").Services[name].Environment
		for variable := range environment {
			if !known[variable] {
				t.Errorf("%s is given %s, which the binary does not read", name, variable)
			}
		}
		for variable, want := range map[string]string{"SLUICE_KAFKA": "kafka:19092", "SLUICE_POSTGRES": "@postgres:5432/", "SLUICE_CLICKHOUSE": "@clickhouse:9000/", "SLUICE_HTTP": ":8080"} {
			if !strings.Contains(environment[variable], want) {
				t.Errorf("%s: %s is %q, want %q in it", name, variable, environment[variable], want)
			}
		}
		resolved := config.Config{Partitions: 12, Kafka: environment["SLUICE_KAFKA"], Postgres: defaults(environment["SLUICE_POSTGRES"]), ClickHouse: defaults(environment["SLUICE_CLICKHOUSE"])}
		if err := resolved.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

var variable = regexp.MustCompile(`\$\{\w+:-(\w+)\}`)

// defaults puts in what compose would for a variable that is not set.
func defaults(value string) string { return variable.ReplaceAllString(value, "$1") }

// Files mounted exist, named volumes are declared and used, and files meant for a folder that is mounted have a place.
func TestVolumes(t *testing.T) {
	t.Parallel()
	f := load(t, "compose.yml")
	used := map[string]bool{}
	for _, source := range []file{f, load(t, "clickhouse-datasource.yml")} {
		for name, s := range source.Services {
			for _, v := range s.Volumes {
				from, _, _ := strings.Cut(v, ":")
				if !strings.HasPrefix(from, ".") {
					used[from] = true
					continue
				}
				if _, err := os.Stat(from); err != nil {
					t.Errorf("%s mounts %s: %v", name, from, err)
				}
			}
		}
	}
	if got, want := slices.Sorted(maps.Keys(f.Volumes)), slices.Sorted(maps.Keys(used)); !slices.Equal(got, want) {
		t.Errorf("volumes declared %v, used %v", got, want)
	}
}

// Prometheus looks for exactly the services that run a part.
func TestPrometheusFindsEveryPart(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("..", "prometheus", "prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var prometheus struct {
		Scrape []struct {
			Job string `yaml:"job_name"`
			DNS []struct {
				Names []string `yaml:"names"`
				Port  int      `yaml:"port"`
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal(data, &prometheus); err != nil {
		t.Fatal(err)
	}
	var want []string
	for name, command := range sluiceServices {
		if strings.HasPrefix(command, "run ") {
			want = append(want, name)
		}
	}
	slices.Sort(want)
	got := slices.Sorted(slices.Values(prometheus.Scrape[0].DNS[0].Names))
	if prometheus.Scrape[0].Job != "sluice" || prometheus.Scrape[0].DNS[0].Port != 8080 || !slices.Equal(got, want) {
		t.Errorf("job %s, port %d, names %v; want %v", prometheus.Scrape[0].Job, prometheus.Scrape[0].DNS[0].Port, got, want)
	}
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"FROM golang:1.26", "CGO_ENABLED=0 go build -tags noembed", "FROM scratch", "USER 65532:65532", `ENTRYPOINT ["/sluice"]`, "ca-certificates.crt"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("the Dockerfile lacks %q", want)
		}
	}
}
