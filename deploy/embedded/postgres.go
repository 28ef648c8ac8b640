//go:build !noembed && (linux || darwin)

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// orphanFast and orphanHard are how long a Postgres left by a killed run gets for a clean shutdown, and then for
	// one without a checkpoint.
	orphanFast = 20 * time.Second
	orphanHard = 10 * time.Second
	// sharedMemoryLimit is how long backends of a killed Postgres may take to notice that it is gone.
	sharedMemoryLimit = 20 * time.Second
	// nobodyID is the numeric user of "nobody" where the user database does not know the name.
	nobodyID = 65534
)

// postgres is the Postgres child and what is needed to start it again.
type postgres struct {
	bin     string // folder of initdb and postgres
	dir     string // data folder
	port    int
	noFsync bool
	owner   *owner
	log     *logFile
	report  func(stage string, done, total int64)

	*process
}

// owner is the user that Postgres runs as instead of root; nil is this user.
type owner struct {
	name     string
	uid, gid int
	byHandle bool // its way to the data folder is barred, so it gets the open folder itself
}

// postgresOwner finds the user for Postgres, which refuses to run as root.
func postgresOwner(dataDir, engine string) (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	o := &owner{name: "nobody", uid: nobodyID, gid: nobodyID}
	if u, err := user.Lookup(o.name); err == nil {
		o.uid, _ = strconv.Atoi(u.Uid)
		o.gid, _ = strconv.Atoi(u.Gid)
	}
	if !openToAll(engine) {
		return nil, &CacheClosedError{Dir: engine, User: o.name}
	}
	o.byHandle = !openToAll(dataDir)
	if o.byHandle && ownFolder == "" {
		return nil, &OptionError{Name: "DataDir", Reason: fmt.Sprintf("%s is closed to user %s, as whom Postgres runs for root: "+
			"choose another folder with %s, or do not run as root", dataDir, o.name, FlagData)}
	}
	return o, nil
}

// newPostgres makes the data folder ready; initdb runs on first use.
func newPostgres(ctx context.Context, o Options, engine string) (*postgres, error) {
	own, err := postgresOwner(o.DataDir, engine)
	if err != nil {
		return nil, err
	}
	p := &postgres{bin: filepath.Join(engine, "bin"), dir: postgresDir(o), port: o.PostgresPort,
		noFsync: o.NoFsync, owner: own, report: o.Progress}
	if p.log, err = openLog(filepath.Join(o.DataDir, "postgres.log")); err != nil {
		return nil, err
	}
	if err := p.prepare(ctx); err != nil {
		p.log.Close()
		return nil, err
	}
	return p, nil
}

func postgresDir(o Options) string { return filepath.Join(o.DataDir, "postgres") }

func (p *postgres) prepare(ctx context.Context) error {
	_, err := os.Stat(filepath.Join(p.dir, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return p.initialize(ctx)
	}
	if err != nil {
		return fmt.Errorf("look at Postgres data: %w", err)
	}
	if p.owner != nil { // the folder may have been made by another user; a no-op otherwise
		return p.give(p.dir)
	}
	return nil
}

// initialize makes the data folder with initdb beside its place and renames it, so that a folder in place is whole.
func (p *postgres) initialize(ctx context.Context) error {
	p.report(StageInitPostgres, 0, 1)
	fresh := p.dir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("clear Postgres data: %w", err)
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return fmt.Errorf("create Postgres data: %w", err)
	}
	if p.owner != nil {
		if err := os.Chown(fresh, p.owner.uid, p.owner.gid); err != nil {
			return fmt.Errorf("give Postgres data to %s: %w", p.owner.name, err)
		}
	}
	args := []string{"--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"}
	if p.noFsync {
		args = append(args, "--no-sync")
	}
	if err := p.run(ctx, fresh, "initdb", args); err != nil {
		return err
	}
	if err := os.Rename(fresh, p.dir); err != nil {
		return fmt.Errorf("put Postgres data in place: %w", err)
	}
	p.report(StageInitPostgres, 1, 1)
	return nil
}

// run runs a program of the package to its end.
func (p *postgres) run(ctx context.Context, dir, program string, args []string) error {
	p.log.forget()
	proc, err := p.launch(dir, program, args, syscall.SIGKILL)
	if err == nil {
		select {
		case <-proc.done:
			err = proc.err
		case <-ctx.Done():
			proc.signal(syscall.SIGKILL)
			<-proc.done
			err = ctx.Err()
		}
	}
	if err != nil {
		return &StartError{Engine: "Postgres " + program, Err: err, LastLine: p.log.lastLine(), LogFile: p.log.path}
	}
	return nil
}

// launch starts a program of the package on a data folder, as the owner. Where the owner may not pass the folders above,
// the child is set into the open folder, which it then reaches as its own working folder.
func (p *postgres) launch(dir, program string, args []string, onParentDeath syscall.Signal) (*process, error) {
	cmd := exec.Command(filepath.Join(p.bin, program))
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/bin:/bin", "PGOPTIONS="}
	cmd.Dir = dir
	if p.owner != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(p.owner.uid), Gid: uint32(p.owner.gid)}}
		if p.owner.byHandle {
			f, err := os.Open(dir)
			if err != nil {
				return nil, fmt.Errorf("open Postgres data: %w", err)
			}
			defer f.Close()
			cmd.Dir, dir = folderByHandle(f), ownFolder
		}
	}
	cmd.Args = append([]string{cmd.Path, "-D", dir}, args...)
	return startProcess(cmd, p.log, onParentDeath)
}

// settings are for a machine that Postgres shares with everything else. What is committed is on disk.
func (p *postgres) settings() []string {
	s := []string{
		"listen_addresses=127.0.0.1",
		"port=" + strconv.Itoa(p.port),
		"unix_socket_directories=", // a socket path has a length limit that a deep data folder breaks
		"max_connections=200",
		"shared_buffers=512MB",
		"work_mem=16MB",
		"maintenance_work_mem=128MB",
		"max_wal_size=4GB",
		"min_wal_size=256MB",
		"wal_compression=pglz",
		"wal_level=minimal", // nothing replicates from an embedded Postgres
		"max_wal_senders=0",
		"checkpoint_timeout=15min",
		"synchronous_commit=on",
		"fsync=on",
		"full_page_writes=on",
		"random_page_cost=1.1",
		"jit=off", // statements here are short; compiling them costs more than it saves
		"timezone=UTC",
		"log_timezone=UTC",
		"log_min_messages=warning",
		"log_checkpoints=off",
	}
	if p.noFsync {
		s = append(s, "fsync=off")
	}
	return s
}

// start runs Postgres and waits until it answers. Backends of a killed one may still hold its shared memory for a moment.
func (p *postgres) start(ctx context.Context) error {
	deadline := time.Now().Add(sharedMemoryLimit)
	for {
		err := p.startOnce(ctx)
		if err == nil || ctx.Err() != nil || !p.log.mentions("pre-existing shared memory block") || time.Now().After(deadline) {
			return err
		}
		if err := sleep(ctx, lockPoll); err != nil {
			return err
		}
	}
}

func (p *postgres) startOnce(ctx context.Context) error {
	var args []string
	for _, s := range p.settings() {
		args = append(args, "-c", s)
	}
	p.log.forget()
	var err error
	// SIGINT is the fast shutdown: open transactions are aborted and the next start has nothing to recover.
	if p.process, err = p.launch(p.dir, "postgres", args, syscall.SIGINT); err == nil {
		if err = p.ready(ctx, p.answers); err == nil {
			return nil
		}
		p.kill()
	}
	return &StartError{Engine: "Postgres", Err: err, LastLine: p.log.lastLine(), LogFile: p.log.path}
}

func (p *postgres) answers(ctx context.Context) bool {
	if !p.listens() {
		return false // what answers on the port may be another program's
	}
	conn, err := pgx.Connect(ctx, p.url())
	if err != nil {
		return false
	}
	defer conn.Close(ctx)
	return conn.Ping(ctx) == nil
}

// listens says whether this very process has said in its pid file that it is ready (Postgres sources, "pidfile.h": the
// first line is the pid, the eighth the status).
func (p *postgres) listens() bool {
	b, err := os.ReadFile(filepath.Join(p.dir, "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(b), "\n")
	const status = 7
	return len(lines) > status && strings.TrimSpace(lines[0]) == strconv.Itoa(p.cmd.Process.Pid) && strings.TrimSpace(lines[status]) == "ready"
}

func (p *postgres) url() string {
	return "postgres://postgres@" + loopback(p.port) + "/postgres?sslmode=disable"
}

// stop is the fast shutdown, or one without a checkpoint when ctx ends first.
func (p *postgres) stop(ctx context.Context) error {
	if p.process == nil {
		return nil
	}
	p.signal(syscall.SIGINT)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	p.signal(syscall.SIGQUIT)
	select {
	case <-p.done:
	case <-time.After(time.Second / 2):
		p.kill()
	}
	return nil
}

// kill ends Postgres as kill -9 does; its backends notice and leave.
func (p *postgres) kill() {
	if p.process == nil {
		return
	}
	p.signal(syscall.SIGKILL)
	<-p.done
}

// stopOrphan stops a Postgres that a killed run left on this data folder, and waits until it is gone.
func stopOrphan(ctx context.Context, dataDir string, report func(string, int64, int64)) error {
	if orphan(dataDir) == 0 {
		return nil
	}
	report(StageRecover, 0, 0)
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, orphanFast}, {syscall.SIGQUIT, orphanHard}, {syscall.SIGKILL, orphanHard}} {
		if pid := orphan(dataDir); pid != 0 {
			_ = syscall.Kill(pid, step.signal)
		}
		for deadline := time.Now().Add(step.wait); time.Now().Before(deadline); {
			if orphan(dataDir) == 0 {
				return nil
			}
			if err := sleep(ctx, readyPoll); err != nil {
				return err
			}
		}
	}
	return &StartError{Engine: "Postgres", Err: fmt.Errorf("process %d of an earlier run does not end", orphan(dataDir))}
}

// orphan is the pid of a Postgres that runs on this data folder, or 0. The pid file alone proves nothing: the number may
// belong to another program by now.
func orphan(dataDir string) int {
	b, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 {
		return 0
	}
	name, dir := commandOf(pid)
	if name != "postgres" || !sameFolder(dir, dataDir) {
		return 0
	}
	return pid
}

func sameFolder(a, b string) bool {
	sa, errA := os.Stat(a)
	sb, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(sa, sb)
}

// give makes the owner the owner of everything in dir, if it is not yet.
func (p *postgres) give(dir string) error {
	st, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at Postgres data: %w", err)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) == p.owner.uid {
		return nil
	}
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		return os.Lchown(path, p.owner.uid, p.owner.gid)
	})
	if err == nil {
		err = os.Chown(dir, p.owner.uid, p.owner.gid) // last: it marks the whole as given
	}
	if err != nil {
		return fmt.Errorf("give Postgres data to %s: %w", p.owner.name, err)
	}
	return nil
}

func (p *postgres) name() string      { return "Postgres" }
func (p *postgres) child() *process   { return p.process }
func (p *postgres) logFile() *logFile { return p.log }
