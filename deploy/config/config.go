// Package config is the one configuration of every command: what can be said by flag can be said by environment, and
// `sluice config` prints what is in force. It opens and reads nothing.
package config

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"reflect"
	"strings"
	"text/tabwriter"
	"time"

	"sluice/consumers/stream"
)

// Config is what every command understands. The struct tags are read by kong; the environment variable of a flag is
// SLUICE_ and its name.
type Config struct {
	Data string `help:"Folder of the embedded engines' data." default:".sluice" env:"SLUICE_DATA" group:"engines"`

	Kafka      string `help:"Your Kafka: host:port, several with commas. Empty: embedded." env:"SLUICE_KAFKA" group:"engines" placeholder:"HOST:PORT"`
	Postgres   string `help:"Your Postgres: postgres://user:password@host:port/database. Empty: embedded." env:"SLUICE_POSTGRES" group:"engines" placeholder:"URL"`
	ClickHouse string `name:"clickhouse" help:"Your ClickHouse, native protocol: clickhouse://user:password@host:9000/database. Empty: embedded." env:"SLUICE_CLICKHOUSE" group:"engines" placeholder:"URL"`

	KafkaPort          int `help:"Port of the embedded Kafka." default:"9092" env:"SLUICE_KAFKA_PORT" group:"engines"`
	PostgresPort       int `help:"Port of the embedded Postgres." default:"5432" env:"SLUICE_POSTGRES_PORT" group:"engines"`
	ClickHousePort     int `name:"clickhouse-port" help:"Native port of the embedded ClickHouse." default:"9000" env:"SLUICE_CLICKHOUSE_PORT" group:"engines"`
	ClickHouseHTTPPort int `name:"clickhouse-http-port" help:"HTTP port of the embedded ClickHouse." default:"8123" env:"SLUICE_CLICKHOUSE_HTTP_PORT" group:"engines"`

	Partitions  int32  `help:"Partitions of each topic that does not exist yet." default:"12" env:"SLUICE_PARTITIONS" group:"engines"`
	Replication int16  `help:"Replicas of each topic that does not exist yet; 0 leaves it to the broker." default:"0" env:"SLUICE_REPLICATION" group:"engines"`
	Prefix      string `help:"Put before every topic, group and transactional id, so that several houses share a Kafka." env:"SLUICE_PREFIX" group:"engines"`

	Instance string `help:"Name of this process among the gates of one Kafka; one that starts again under its name goes on at once. Empty: random; for up, 'up'." env:"SLUICE_INSTANCE" group:"deciding"`

	HTTP  string `name:"http" help:"Address of the status page, /metrics, /healthz and /readyz. 'none' for no page. Default: 127.0.0.1:8080 for up, none for run." env:"SLUICE_HTTP" group:"watching" placeholder:"HOST:PORT"`
	Rules string `help:"Ruleset published when none is live yet: a file, or a shipped pack: default, fraud, credit, aml, sanctions, compliance, empty. Not said: default; for the replay of an AMLSim folder, empty." env:"SLUICE_RULES" group:"deciding" placeholder:"FILE|PACK"`

	Postings string `help:"Posting rules: which fees, points and taxes follow from which payment; a file, or a shipped pack: standard, rewards. Not said: what the book was last posted by; for a new book, standard." env:"SLUICE_POSTINGS" group:"deciding" placeholder:"FILE|PACK"`

	RequireReview bool `help:"Nothing goes live without a test and the approval of a second person: rules publish is refused. Once a house was started with it, its rulebook keeps it." env:"SLUICE_REQUIRE_REVIEW" group:"deciding"`

	Channels   string `help:"Payment channels published when none ever were: a file, or the shipped one, standard. Empty: the house chooses no channel until a file is published." env:"SLUICE_CHANNELS" group:"deciding" placeholder:"FILE|standard"`
	Settlement string `help:"Terms of settlement: calendars, cut-offs, cycles, reserves, fees of channels. Empty: the shipped ones, T+1 and nothing held back." env:"SLUICE_SETTLEMENT" group:"deciding" placeholder:"FILE"`

	LogLevel  string `help:"debug, info, warn or error." default:"info" enum:"debug,info,warn,error" env:"SLUICE_LOG_LEVEL" group:"watching"`
	LogFormat string `help:"text or json." default:"text" enum:"text,json" env:"SLUICE_LOG_FORMAT" group:"watching"`
}

// Simulation is what the simulated channels understand.
type Simulation struct {
	Rate      int       `help:"Events a second; 0 publishes none." default:"200" env:"SLUICE_RATE" group:"simulating"`
	Seed      uint64    `help:"The same seed gives the same events." default:"1" env:"SLUICE_SEED" group:"simulating"`
	Customers int       `help:"Number of simulated customers." default:"10000" env:"SLUICE_CUSTOMERS" group:"simulating"`
	Start     time.Time `help:"First simulated day, 2026-01-31. Default: 400 days before the first run." format:"2006-01-02" env:"SLUICE_START" group:"simulating" placeholder:"DATE"`
}

// Limits of the configuration.
const (
	// MaxPartitions bounds the partitions of a topic: each costs memory and a share of every batch.
	MaxPartitions = 1024
	// MaxRate bounds the simulated events a second.
	MaxRate = 1_000_000
	// MaxCustomers bounds the simulated population, which is kept in memory.
	MaxCustomers = 10_000_000
)

// DefaultData is the folder of the embedded engines' data where none is said.
const DefaultData = ".sluice"

// DefaultHTTP is where `up` shows its status page.
const DefaultHTTP = "127.0.0.1:8080"

// Check bounds every setting; the error is one line that says what to do.
func (c *Config) Check() error {
	if c.Partitions < 1 || c.Partitions > MaxPartitions {
		return fmt.Errorf("--partitions %d: give 1 to %d", c.Partitions, MaxPartitions)
	}
	for _, p := range []struct {
		flag string
		port int
	}{{"kafka-port", c.KafkaPort}, {"postgres-port", c.PostgresPort}, {"clickhouse-port", c.ClickHousePort}, {"clickhouse-http-port", c.ClickHouseHTTPPort}} {
		if p.port < 0 || p.port > 65535 {
			return fmt.Errorf("--%s %d: give 1 to 65535, or 0 for any free port", p.flag, p.port)
		}
	}
	for _, broker := range c.Brokers() {
		if _, _, err := net.SplitHostPort(broker); err != nil {
			return fmt.Errorf("--kafka %q: give host:port, such as localhost:9092", broker)
		}
	}
	if err := checkURL("--postgres", c.Postgres, "postgres://user:password@host:5432/database", "postgres", "postgresql"); err != nil {
		return err
	}
	return checkURL("--clickhouse", c.ClickHouse, "clickhouse://user:password@host:9000/database", "clickhouse", "tcp")
}

// Check bounds every setting.
func (s *Simulation) Check() error {
	if s.Rate < 0 || s.Rate > MaxRate {
		return fmt.Errorf("--rate %d: give 0 to %d events a second", s.Rate, MaxRate)
	}
	if s.Customers < 1 || s.Customers > MaxCustomers {
		return fmt.Errorf("--customers %d: give 1 to %d", s.Customers, MaxCustomers)
	}
	return nil
}

func checkURL(flag, value, example string, schemes ...string) error {
	if value == "" {
		return nil
	}
	u, err := url.Parse(value)
	if err == nil && u.Host != "" {
		for _, s := range schemes {
			if u.Scheme == s {
				return nil
			}
		}
	}
	return fmt.Errorf("%s %q: give an address such as %s", flag, Redact(value), example)
}

// Brokers returns the addresses in --kafka, none if it is embedded.
func (c *Config) Brokers() []string {
	return strings.FieldsFunc(c.Kafka, func(r rune) bool { return r == ',' || r == ' ' })
}

// Logger returns the log of the command, which writes to w.
func (c *Config) Logger(w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// Stream returns what the parts need to know of Kafka; brokers are those in use.
func (c *Config) Stream(brokers []string, clientID string, log *slog.Logger) stream.Config {
	return stream.Config{Brokers: brokers, Prefix: c.Prefix, Partitions: c.Partitions, Replication: c.Replication, ClientID: clientID, Log: log}
}

// Print writes every setting with its environment variable and its value, passwords hidden.
func Print(w io.Writer, configs ...any) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "FLAG\tENVIRONMENT\tVALUE\tMEANING")
	for _, c := range configs {
		v := reflect.Indirect(reflect.ValueOf(c))
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name := f.Tag.Get("name")
			if name == "" {
				name = kebab(f.Name)
			}
			value := fmt.Sprint(v.Field(i).Interface())
			if t, ok := v.Field(i).Interface().(time.Time); ok {
				value = ""
				if !t.IsZero() {
					value = t.Format(time.DateOnly)
				}
			}
			fmt.Fprintf(table, "--%s\t%s\t%s\t%s\n", name, f.Tag.Get("env"), Redact(value), f.Tag.Get("help"))
		}
	}
	return table.Flush()
}

// Redact hides the password in an address.
func Redact(value string) string {
	u, err := url.Parse(value)
	if err != nil || u.User == nil {
		return value
	}
	return u.Redacted()
}

func kebab(name string) string {
	var b strings.Builder
	for i, r := range name {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('-')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
