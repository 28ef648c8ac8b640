//go:build !noembed && (linux || darwin)

package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// startLimit is how long an engine may take to answer; recovery of a large log is the slow case.
	startLimit = 2 * time.Minute
	// readyPoll is how often a starting engine is asked.
	readyPoll = 20 * time.Millisecond
)

// clickhouse is the ClickHouse child and what is needed to start it again.
type clickhouse struct {
	library        string
	dir            string // tables
	config         string
	port, httpPort int
	lockPath       string
	log            *logFile

	*process
	stdin io.Closer // closing it ends the child
}

// newClickHouse lays out the data folder.
func newClickHouse(o Options, engine string) (*clickhouse, error) {
	c := &clickhouse{dir: filepath.Join(o.DataDir, "clickhouse"), lockPath: clickHouseLock(o),
		port: o.ClickHousePort, httpPort: o.ClickHouseHTTPPort}
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
	c.log, err = openLog(filepath.Join(o.DataDir, "clickhouse.log"))
	return c, err
}

// clickHouseLock is the lock that the child holds as long as it lives, whatever becomes of its parent.
func clickHouseLock(o Options) string { return filepath.Join(o.DataDir, "clickhouse.lock") }

// start runs the child and waits until both ports answer.
func (c *clickhouse) start(ctx context.Context) error {
	if !childReady.Load() {
		return &StartError{Engine: "ClickHouse", Err: errors.New("the program does not call embedded.ClickHouseChild first")}
	}
	cmd, err := c.command()
	if err != nil {
		return err
	}
	lock, _, err := tryLock(c.lockPath)
	if err != nil {
		return &StartError{Engine: "ClickHouse", Err: err}
	}
	defer lock.release() // the child keeps its copy
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe to ClickHouse: %w", err)
	}
	defer r.Close()
	cmd.Stdin, cmd.ExtraFiles = r, []*os.File{lock.f}
	c.log.forget()
	// No signal on parent death: the closed pipe lets it close its tables, and it watches the clock itself.
	c.process, err = startProcess(cmd, c.log, 0)
	if err != nil {
		w.Close()
		return &StartError{Engine: "ClickHouse", Err: err}
	}
	c.stdin = w
	go func(p *process) { // holds w, which would close by itself once nobody holds the Engines
		<-p.done
		w.Close()
	}(c.process)
	if err := c.ready(ctx); err != nil {
		c.kill()
		return &StartError{Engine: "ClickHouse", Err: err, LastLine: c.log.lastLine(), LogFile: c.log.path}
	}
	return nil
}

// command is this program again, ordered to be ClickHouse.
func (c *clickhouse) command() (*exec.Cmd, error) {
	order, err := json.Marshal(childOrder{Library: c.library, Parent: os.Getpid(), Args: []string{
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
	}})
	if err != nil {
		return nil, fmt.Errorf("order ClickHouse: %w", err)
	}
	self, err := ownExecutable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.Command(self)
	cmd.Args = []string{"sluice-clickhouse"}
	cmd.Env = append(os.Environ(), childVariable+"="+string(order), "TZ=UTC")
	cmd.Dir = c.dir
	return cmd, nil
}

// ready waits until the native and the HTTP port answer.
func (c *clickhouse) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for !c.answers(ctx) {
		if c.ended() {
			return fmt.Errorf("it ended: %v", c.err)
		}
		if err := sleep(ctx, readyPoll); err != nil {
			return err
		}
	}
	if c.ended() { // something else answered on its ports
		return fmt.Errorf("it ended: %v", c.err)
	}
	return nil
}

func (c *clickhouse) answers(ctx context.Context) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", loopback(c.port))
	if err != nil {
		return false
	}
	conn.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(c.httpPort)+"/ping", nil)
	if err != nil {
		return false
	}
	req.Close = true // an idle connection would hold up the child's end
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 16))
	return err == nil && strings.HasPrefix(string(b), "Ok.")
}

// stop lets the child close its tables, and kills it when ctx ends first.
func (c *clickhouse) stop(ctx context.Context) error {
	if c.process == nil {
		return nil
	}
	c.stdin.Close()
	select {
	case <-c.done:
	case <-ctx.Done():
		c.kill()
	}
	return nil
}

// kill ends the child as kill -9 does.
func (c *clickhouse) kill() {
	if c.process == nil {
		return
	}
	c.signal(syscall.SIGKILL)
	<-c.done
}

func (c *clickhouse) name() string      { return "ClickHouse" }
func (c *clickhouse) child() *process   { return c.process }
func (c *clickhouse) logFile() *logFile { return c.log }
