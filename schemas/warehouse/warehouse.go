// Package warehouse holds what crosses into ClickHouse: the tables, views and materialized views, and the one place that
// connects to it. Changes go forward only and run on a working system; it reads and writes no rows of the business.
package warehouse

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

//go:embed *.sql
var files embed.FS

const (
	// DefaultTierRefresh is how often customer_tiers is computed anew.
	DefaultTierRefresh = time.Minute
	// applyTimeout bounds Apply: its statements touch no data.
	applyTimeout = time.Minute
	// dialTimeout bounds making one connection.
	dialTimeout = 5 * time.Second
	// readTimeout is the longest silence of the server; it sends progress every tenth of a second while it works.
	readTimeout = 30 * time.Second
)

// urlForm shows a user what a URL looks like.
const urlForm = "clickhouse://user:password@host:9000/database"

// A Migration is one forward-only step: a file of statements, each of which may run again.
type Migration struct {
	Version    int    // from 1, gapless
	Name       string // "customer_days"
	Statements []string
}

// Migrations lists the steps in order. It panics if the embedded files are misnamed: a mistake in the program.
func Migrations() []Migration {
	names, err := fs.Glob(files, "*.sql") // sorted
	if err != nil {
		panic(err)
	}
	var all []Migration
	for i, name := range names {
		number, rest, _ := strings.Cut(strings.TrimSuffix(path.Base(name), ".sql"), "_")
		if version, err := strconv.Atoi(number); err != nil || version != i+1 {
			panic("warehouse: " + name + " is not number " + strconv.Itoa(i+1))
		}
		text, err := files.ReadFile(name)
		if err != nil {
			panic(err)
		}
		all = append(all, Migration{Version: i + 1, Name: rest, Statements: statements(string(text))})
	}
	return all
}

var (
	comment       = regexp.MustCompile(`(?m)^--.*\n`)
	minorPerMajor = regexp.MustCompile(`\{minor_per_major:(\w+)\}`)
)

// statements splits a file at the semicolons that end a line.
func statements(text string) []string {
	text = comment.ReplaceAllString(text, "")
	text = minorPerMajor.ReplaceAllString(text, "multiIf($1 IN ("+quoted(noDecimals)+"), 1, $1 IN ("+quoted(threeDecimals)+"), 1000, 100)")
	var all []string
	for s := range strings.SplitSeq(text, ";\n") {
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
	}
	return all
}

// Currencies whose number of decimals is not two, as in package events.
const (
	noDecimals    = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
	threeDecimals = "BHD IQD JOD KWD LYD OMR TND"
)

func quoted(codes string) string { return "'" + strings.ReplaceAll(codes, " ", "', '") + "'" }

// Options says what may differ between installations.
type Options struct {
	// TierRefresh is how often customer_tiers is computed anew, in whole seconds. 0: DefaultTierRefresh.
	TierRefresh time.Duration
}

// Open connects to the database that a URL names, "clickhouse://user:password@host:9000/database". It does not dial yet.
// An error says what is wrong with the URL.
func Open(url string) (driver.Conn, error) {
	o, err := parse(url)
	if err != nil {
		return nil, err
	}
	return open(o)
}

func parse(url string) (*clickhouse.Options, error) {
	if !strings.HasPrefix(url, "clickhouse://") {
		return nil, errors.New("the ClickHouse URL does not start with clickhouse://; it looks like " + urlForm)
	}
	o, err := clickhouse.ParseDSN(url)
	if err != nil {
		return nil, fmt.Errorf("ClickHouse URL: %w; it looks like %s", err, urlForm)
	}
	return o, nil
}

func open(o *clickhouse.Options) (driver.Conn, error) {
	if o.DialTimeout == 0 {
		o.DialTimeout = dialTimeout
	}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = readTimeout
	}
	if o.Compression == nil {
		o.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	}
	conn, err := clickhouse.Open(o)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse at %v: %w", o.Addr, err)
	}
	return conn, nil
}

// Apply creates or brings forward everything in the database that the URL names, the database itself included. Steps
// already taken are skipped, so that it may run at every start and in several processes at once.
func Apply(ctx context.Context, url string, opt Options) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if err := createDatabase(ctx, url); err != nil {
		return err
	}
	conn, err := Open(url)
	if err != nil {
		return err
	}
	defer conn.Close()
	const versions = `CREATE TABLE IF NOT EXISTS schema_versions (
    version UInt32 COMMENT 'Number of the step',
    name String COMMENT 'Its name',
    applied DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When'
) ENGINE = ReplacingMergeTree ORDER BY version COMMENT 'Steps of the schema that were taken'`
	if err := conn.Exec(ctx, versions); err != nil {
		return fmt.Errorf("create schema_versions: %w", err)
	}
	var done uint32
	if err := conn.QueryRow(ctx, "SELECT max(version) FROM schema_versions").Scan(&done); err != nil {
		return fmt.Errorf("read schema_versions: %w", err)
	}
	for _, m := range Migrations() {
		if m.Version <= int(done) {
			continue
		}
		if err := apply(ctx, conn, m); err != nil {
			return err
		}
	}
	return setTierRefresh(ctx, conn, opt.TierRefresh)
}

// createDatabase creates the database if there is none of the name. It asks on a connection that names no database: the
// embedded ClickHouse aborts when a native connection names one that does not exist.
func createDatabase(ctx context.Context, url string) error {
	o, err := parse(url)
	if err != nil {
		return err
	}
	name := o.Auth.Database
	o.Auth.Database = ""
	conn, err := open(o)
	if err != nil {
		return err
	}
	defer conn.Close()
	var engine string
	err = conn.QueryRow(ctx, "SELECT max(engine) FROM system.databases WHERE name = if(? = '', currentDatabase(), ?)", name, name).Scan(&engine)
	if err != nil {
		return fmt.Errorf("reach ClickHouse at %v: %w", o.Addr, err)
	}
	if engine != "" {
		return refreshable(name, engine)
	}
	if err := conn.Exec(ctx, "CREATE DATABASE IF NOT EXISTS `"+strings.ReplaceAll(name, "`", "")+"`"); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// refreshable says whether a database may hold customer_tiers_refresh.
func refreshable(name, engine string) error {
	switch engine {
	case "Atomic", "Replicated", "Shared":
		return nil
	}
	return fmt.Errorf("ClickHouse database %q has engine %s, which holds no refreshable views: name another in the URL, such as …/sluice; it is created if missing", name, engine)
}

func apply(ctx context.Context, conn driver.Conn, m Migration) error {
	for _, s := range m.Statements {
		if err := conn.Exec(ctx, s); err != nil {
			head, _, _ := strings.Cut(s, "\n")
			return fmt.Errorf("schema step %d %s: %s: %w", m.Version, m.Name, head, err)
		}
	}
	if err := conn.Exec(ctx, "INSERT INTO schema_versions (version, name) VALUES (?, ?)", m.Version, m.Name); err != nil {
		return fmt.Errorf("record schema step %d: %w", m.Version, err)
	}
	return nil
}

// setTierRefresh sets how often customer_tiers is computed, if it is otherwise.
func setTierRefresh(ctx context.Context, conn driver.Conn, every time.Duration) error {
	if every <= 0 {
		every = DefaultTierRefresh
	}
	want := "REFRESH EVERY " + schedule(every) + " TO"
	var create string
	if err := conn.QueryRow(ctx, "SHOW CREATE TABLE customer_tiers_refresh").Scan(&create); err != nil {
		return fmt.Errorf("read the schedule of customer_tiers: %w", err)
	}
	if strings.Contains(create, want) {
		return nil
	}
	if err := conn.Exec(ctx, "ALTER TABLE customer_tiers_refresh MODIFY REFRESH EVERY "+schedule(every)); err != nil {
		return fmt.Errorf("set the schedule of customer_tiers: %w", err)
	}
	return nil
}

// schedule writes a time as ClickHouse itself does: "1 MINUTE 30 SECOND".
func schedule(every time.Duration) string {
	seconds := max(1, int64(every/time.Second))
	var words []string
	for _, u := range []struct {
		name    string
		seconds int64
	}{{"DAY", 86400}, {"HOUR", 3600}, {"MINUTE", 60}, {"SECOND", 1}} {
		if n := seconds / u.seconds; n > 0 {
			words = append(words, strconv.FormatInt(n, 10)+" "+u.name)
			seconds %= u.seconds
		}
	}
	return strings.Join(words, " ")
}
