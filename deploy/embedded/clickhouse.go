//go:build !noembed && (linux || darwin)

package embedded

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// clickhouse is the ClickHouse child and what is needed to start it again.
type clickhouse struct {
	servant
	library        string
	dir            string // tables
	config         string
	port, httpPort int
}

// newClickHouse lays out the data folder.
func newClickHouse(o Options, engine string) (*clickhouse, error) {
	c := &clickhouse{dir: filepath.Join(o.DataDir, "clickhouse"), port: o.ClickHousePort, httpPort: o.ClickHouseHTTPPort}
	found, err := filepath.Glob(filepath.Join(engine, "libchdb.*"))
	if err != nil || len(found) == 0 {
		return nil, &StartError{Engine: "ClickHouse", Err: fmt.Errorf("no library in %s", engine)}
	}
	c.library = found[0]
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("create ClickHouse data folder: %w", err)
	}
	if c.config, err = writeClickHouseConfig(o.DataDir); err != nil {
		return nil, err
	}
	log, err := openLog(filepath.Join(o.DataDir, "clickhouse.log"))
	if err != nil {
		return nil, err
	}
	c.servant = servant{engine: "ClickHouse", lockPath: clickHouseLock(o), log: log}
	return c, nil
}

// clickHouseLock is the lock that the child holds.
func clickHouseLock(o Options) string { return filepath.Join(o.DataDir, "clickhouse.lock") }

// start runs the child and waits until both ports answer.
func (c *clickhouse) start(ctx context.Context) error {
	return c.launch(ctx, childOrder{ClickHouse: &clickhouseOrder{Library: c.library, Args: []string{
		"clickhouse",
		"--config-file=" + c.config,
		"--path=" + c.dir,
		"--tcp_port=" + strconv.Itoa(c.port),
		"--http_port=" + strconv.Itoa(c.httpPort),
		"--listen_host=127.0.0.1",
		"--log-level=warning",
		"--input-format=LineAsString",
		"--structure=line String",
		"--query=SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; SELECT count() FROM table",
	}}}, c.dir, c.answers)
}

// answers asks over HTTP where the tables are: another program's ClickHouse on the port has them elsewhere.
func (c *clickhouse) answers(ctx context.Context) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", loopback(c.port))
	if err != nil {
		return false
	}
	conn.Close()
	ask := url.Values{"query": {"SELECT path FROM system.disks WHERE name = 'default'"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(c.httpPort)+"/?"+ask.Encode(), nil)
	if err != nil {
		return false
	}
	req.Close = true // an idle connection would hold up the child's end
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	return err == nil && filepath.Clean(strings.TrimSpace(string(b))) == filepath.Clean(c.dir)
}
