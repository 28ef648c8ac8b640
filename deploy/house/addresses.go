package house

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/deploy/config"
)

// addressesFile says, in the data folder, where the engines of the house that holds it are, so that `verify`, `replay`
// and `run` find them without flags.
const addressesFile = "addresses.json"

// attachLimit bounds the look whether a house is running: its engines are on this machine.
const attachLimit = 2 * time.Second

// Addresses of the engines in use.
type Addresses struct {
	Kafka          []string `json:"kafka,omitempty"`
	Postgres       string   `json:"postgres,omitempty"`
	ClickHouse     string   `json:"clickhouse,omitempty"`
	ClickHouseHTTP string   `json:"clickhouse_http,omitempty"` // "" unless embedded
	Analyst        string   `json:"analyst,omitempty"`         // ClickHouse URL that may only read; "" unless embedded
}

func given(c config.Config) Addresses {
	return Addresses{Kafka: c.Brokers(), Postgres: c.Postgres, ClickHouse: c.ClickHouse}
}

func (a *Addresses) missing(needs Engine) Engine {
	var m Engine
	if len(a.Kafka) == 0 {
		m |= Kafka
	}
	if a.Postgres == "" {
		m |= Postgres
	}
	if a.ClickHouse == "" {
		m |= ClickHouse
	}
	return m & needs
}

// fill takes over what is not set.
func (a *Addresses) fill(from Addresses) {
	if len(a.Kafka) == 0 {
		a.Kafka = from.Kafka
	}
	if a.Postgres == "" {
		a.Postgres = from.Postgres
	}
	if a.ClickHouse == "" {
		a.ClickHouse, a.ClickHouseHTTP, a.Analyst = from.ClickHouse, from.ClickHouseHTTP, from.Analyst
	}
}

func (a *Addresses) write(dir string) error {
	b, err := json.MarshalIndent(a, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, addressesFile), b, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the engines' addresses: %w", err)
	}
	return nil
}

func readAddresses(dir string) (Addresses, bool) {
	var a Addresses
	b, err := os.ReadFile(filepath.Join(dir, addressesFile))
	return a, err == nil && json.Unmarshal(b, &a) == nil
}

// alive says whether the engines of a file of addresses still answer: after kill -9 the file stays, they do not.
func (a *Addresses) alive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, attachLimit)
	defer cancel()
	return len(a.Kafka) > 0 && reachKafka(ctx, a.Kafka) == nil
}

// String lists the engines of the set.
func (e Engine) String() string { return e.join("Kafka", "Postgres", "ClickHouse") }

func (e Engine) flags() string { return e.join("--kafka", "--postgres", "--clickhouse") }

func (e Engine) join(names ...string) string {
	var have []string
	for i, name := range names {
		if e&(1<<i) != 0 {
			have = append(have, name)
		}
	}
	return strings.Join(have, " and ")
}

// reach asks every engine needed for an answer until reachLimit: one that is just restarting is waited for.
func (a *Addresses) reach(ctx context.Context, needs Engine) error {
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	for {
		err := a.answers(ctx, needs)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(reachPause):
		}
	}
}

// answers asks each engine needed once.
func (a *Addresses) answers(ctx context.Context, needs Engine) error {
	ctx, cancel := context.WithTimeout(ctx, attachLimit)
	defer cancel()
	answer := func(name, address, flag string, err error) error {
		if err == nil {
			return nil
		}
		return fmt.Errorf("%s at %s does not answer (%s): start it, or correct %s", name, config.Redact(address), oneLine(err), flag)
	}
	var errs []error
	if needs&Kafka != 0 {
		errs = append(errs, answer("Kafka", strings.Join(a.Kafka, ","), "--kafka", reachKafka(ctx, a.Kafka)))
	}
	if needs&Postgres != 0 {
		errs = append(errs, answer("Postgres", a.Postgres, "--postgres", reachPostgres(ctx, a.Postgres)))
	}
	if needs&ClickHouse != 0 {
		errs = append(errs, answer("ClickHouse", a.ClickHouse, "--clickhouse", reachClickHouse(ctx, a.ClickHouse)))
	}
	return errors.Join(errs...)
}

func reachKafka(ctx context.Context, brokers []string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RequestRetries(1), kgo.DialTimeout(attachLimit))
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Ping(ctx)
}

func reachPostgres(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func reachClickHouse(ctx context.Context, url string) error {
	options, err := clickhouse.ParseDSN(url)
	if err != nil {
		return err
	}
	options.Auth.Database = "" // the house's own may not exist yet
	conn, err := clickhouse.Open(options)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return conn.Ping(ctx)
}

// oneLine folds an error of a client library, which may have several lines, into one.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
