//go:build !noembed && (linux || darwin)

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
)

// running is what Engines keeps to itself.
type running struct {
	lock       *folderLock
	order      kafkaOrder // of the Kafka in this process
	kafka      *supervisor
	postgres   *supervisor
	clickhouse *supervisor

	stopOnce sync.Once
	stopErr  error
}

// Start runs the engines that o asks for and returns when all of them answer. The first run fetches what is missing with
// npm. What a user can put right comes back as one of this package's error types, each a single line; nothing is left
// running then. ctx bounds the start alone: the engines run until Stop.
func Start(ctx context.Context, o Options) (*Engines, error) {
	o, err := o.checked()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.DataDir, 0o755); err != nil {
		return nil, &OptionError{Name: "DataDir", Reason: fmt.Sprintf("cannot be created (%v): choose another with %s", err, FlagData)}
	}
	lock, pid, err := tryLock(filepath.Join(o.DataDir, lockName))
	if errors.Is(err, errLocked) {
		return nil, &DataInUseError{Dir: o.DataDir, PID: pid}
	}
	if err != nil {
		return nil, err
	}
	e := &Engines{running: running{lock: lock}}
	if err := e.start(ctx, serialProgress(o)); err != nil {
		stopping, cancel := stopContext(context.WithoutCancel(ctx))
		defer cancel()
		return nil, errors.Join(err, e.Stop(stopping))
	}
	return e, nil
}

// serialProgress makes the calls of o.Progress follow one another.
func serialProgress(o Options) Options {
	var mu sync.Mutex
	report := o.Progress
	o.Progress = func(stage string, done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		report(stage, done, total)
	}
	return o
}

// start prepares the engines one after the other, so that what a user must put right comes first, and then starts them
// side by side.
func (e *Engines) start(ctx context.Context, o Options) error {
	if err := waitForOrphans(ctx, o); err != nil {
		return err
	}
	asked := o
	o, err := choosePorts(o)
	if err != nil {
		return err
	}
	pgDir, chDir, err := fetchEngines(ctx, o)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	if o.Kafka {
		g.Go(func() error {
			return onPorts(asked, o, kafkaName, func(o Options) error { return e.startKafka(ctx, o) })
		})
	}
	if o.Postgres {
		g.Go(func() error {
			return onPorts(asked, o, postgresName, func(o Options) error { return e.startPostgres(ctx, o, pgDir) })
		})
	}
	if o.ClickHouse {
		g.Go(func() error {
			return onPorts(asked, o, clickHouseName, func(o Options) error { return e.startClickHouse(ctx, o, chDir) })
		})
	}
	return g.Wait()
}

// waitForOrphans lets engines of a killed run end, whose ports and data this run needs.
func waitForOrphans(ctx context.Context, o Options) error {
	if o.Postgres {
		if err := stopOrphan(ctx, postgresDir(o), o.Progress); err != nil {
			return err
		}
	}
	if o.Kafka {
		if err := waitForChild(ctx, "Kafka", kafkaLock(o), o.Progress); err != nil {
			return err
		}
	}
	if o.ClickHouse {
		return waitForChild(ctx, "ClickHouse", clickHouseLock(o), o.Progress)
	}
	return nil
}

// waitForChild waits until the child of a killed run has let go of its lock, which it does within orphanLimit.
func waitForChild(ctx context.Context, engine, lockPath string, report func(string, int64, int64)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*orphanLimit, errors.New("its process of an earlier run does not end"))
	defer cancel()
	lock, err := waitLock(ctx, lockPath, func() { report(StageRecover, 0, 0) })
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return &StartError{Engine: engine, Err: err}
	}
	lock.release()
	return nil
}

// enginePort is a port of an engine: where the options keep it, and the flag that names it.
type enginePort struct {
	engine, serves string // "ClickHouse", "ClickHouse's HTTP"
	wanted         bool
	port           *int
	flag           string
}

func (o *Options) ports() []enginePort {
	return []enginePort{
		{kafkaName, kafkaName, o.Kafka, &o.KafkaPort, FlagKafkaPort},
		{postgresName, postgresName, o.Postgres, &o.PostgresPort, FlagPostgresPort},
		{clickHouseName, clickHouseName, o.ClickHouse, &o.ClickHousePort, FlagClickHousePort},
		{clickHouseName, "ClickHouse's HTTP", o.ClickHouse, &o.ClickHouseHTTPPort, FlagClickHouseHTTPPort},
	}
}

// The engines, as errors name them.
const (
	kafkaName      = "Kafka"
	postgresName   = "Postgres"
	clickHouseName = "ClickHouse"
)

// choosePorts checks the given ports and picks the others.
func choosePorts(o Options) (Options, error) {
	for _, p := range o.ports() {
		if !p.wanted {
			continue
		}
		port, err := choosePort(p.serves, *p.port, p.flag)
		if err != nil {
			return o, err
		}
		*p.port = port
	}
	return o, nil
}

// portTries bounds how often an engine is started because its ports were taken before it listened on them.
const portTries = 5

// onPorts starts an engine. Between choosing a port and listening on it another program may take it: then one that was
// picked is picked again; for one that the user named there is no other.
func onPorts(asked, o Options, engine string, start func(Options) error) error {
	for try := 1; ; try++ {
		if o.chosen != nil {
			o.chosen(engine, o)
		}
		err := start(o)
		if err == nil || try == portTries {
			return err
		}
		taken, other := retake(asked, &o, engine, err)
		if other != nil {
			return other
		}
		if !taken {
			return err
		}
	}
}

// retake picks those ports of an engine again that others listen on, and says whether there was one.
func retake(asked Options, o *Options, engine string, failed error) (bool, error) {
	var said *PortTakenError
	known := errors.As(failed, &said)
	taken := false
	named := asked.ports()
	for i, p := range o.ports() {
		if p.engine != engine || portFree(*p.port) && !(known && said.Port == *p.port) {
			continue
		}
		if *named[i].port != 0 {
			return true, &PortTakenError{Engine: p.serves, Port: *p.port, Flag: p.flag}
		}
		port, err := choosePort(p.serves, 0, p.flag)
		if err != nil {
			return true, err
		}
		*p.port, taken = port, true
	}
	return taken, nil
}

// supervise watches over an engine, in place of one that found its ports taken.
func supervise(place **supervisor, with engine, o Options) *supervisor {
	if old := *place; old != nil {
		_ = old.stop(context.Background()) // it does not run: this closes its log
	}
	*place = newSupervisor(with, o)
	return *place
}

// fetchEngines makes sure that the engines are in the cache and returns their folders.
func fetchEngines(ctx context.Context, o Options) (pgDir, chDir string, err error) {
	if !o.Postgres && !o.ClickHouse {
		return "", "", nil
	}
	cache := o.CacheDir
	if cache == "" {
		if cache, err = DefaultCacheDir(); err != nil {
			return "", "", err
		}
	}
	if o.Postgres {
		p, err := postgresPackage(platform())
		if err != nil {
			return "", "", err
		}
		if pgDir, err = fetched(ctx, p, cache, o.Progress); err != nil {
			return "", "", err
		}
	}
	if o.ClickHouse {
		p, err := clickhousePackage(platform())
		if err != nil {
			return "", "", err
		}
		if chDir, err = fetched(ctx, p, cache, o.Progress); err != nil {
			return "", "", err
		}
	}
	return pgDir, chDir, nil
}

func (e *Engines) startKafka(ctx context.Context, o Options) error {
	if o.KafkaInProcess {
		e.order = newKafkaOrder(o)
		c, err := openKafka(e.order, o.Logger)
		if err != nil {
			return err
		}
		e.Fake, e.KafkaAddrs = c, c.ListenAddrs()
		return nil
	}
	k, err := newKafkaChild(o)
	if err != nil {
		return err
	}
	e.KafkaAddrs = []string{loopback(o.KafkaPort)}
	return supervise(&e.kafka, k, o).start(ctx)
}

func (e *Engines) startPostgres(ctx context.Context, o Options, dir string) error {
	p, err := newPostgres(ctx, o, dir)
	if err != nil {
		return err
	}
	e.PostgresURL = p.url()
	return supervise(&e.postgres, p, o).start(ctx)
}

func (e *Engines) startClickHouse(ctx context.Context, o Options, dir string) error {
	c, err := newClickHouse(o, dir)
	if err != nil {
		return err
	}
	e.ClickHouseURL = "clickhouse://default@" + loopback(c.port) + "/default"
	e.AnalystURL = "clickhouse://analyst@" + loopback(c.port) + "/default"
	e.ClickHouseHTTP = "http://" + loopback(c.httpPort)
	return supervise(&e.clickhouse, c, o).start(ctx)
}

// Stop ends the engines cleanly, side by side, within StopLimit; what does not end by then is killed. It may be called
// again and returns the same.
func (e *Engines) Stop(ctx context.Context) error {
	e.stopOnce.Do(func() { e.stopErr = e.stop(ctx) })
	return e.stopErr
}

func (e *Engines) stop(ctx context.Context) error {
	ctx, cancel := stopContext(ctx)
	defer cancel()
	var g errgroup.Group
	for _, s := range []*supervisor{e.kafka, e.postgres, e.clickhouse} {
		if s != nil {
			g.Go(func() error { return s.stop(ctx) })
		}
	}
	if e.Fake != nil {
		g.Go(func() error { closeKafka(e.Fake, e.order); return nil })
	}
	err := g.Wait()
	e.lock.release()
	return err
}

// KillClickHouse ends the ClickHouse child as kill -9 does and leaves it down until RestartClickHouse.
func (e *Engines) KillClickHouse() error { return kill(e.clickhouse, "ClickHouse") }

// RestartClickHouse starts ClickHouse on its old ports, stopping it first if it runs, and waits until it answers.
func (e *Engines) RestartClickHouse(ctx context.Context) error {
	return restart(ctx, e.clickhouse, "ClickHouse")
}

// KillPostgres ends Postgres as kill -9 does and leaves it down until RestartPostgres.
func (e *Engines) KillPostgres() error { return kill(e.postgres, "Postgres") }

// RestartPostgres starts Postgres on its old port, stopping it first if it runs, and waits until it answers.
func (e *Engines) RestartPostgres(ctx context.Context) error {
	return restart(ctx, e.postgres, "Postgres")
}

func kill(s *supervisor, name string) error {
	if s == nil {
		return &OptionError{Name: name, Reason: "is not embedded here"}
	}
	s.kill()
	return nil
}

func restart(ctx context.Context, s *supervisor, name string) error {
	if s == nil {
		return &OptionError{Name: name, Reason: "is not embedded here"}
	}
	return s.start(ctx)
}
