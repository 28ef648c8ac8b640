//go:build !noembed && (linux || darwin)

package embedded

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Backoff of automatic restarts.
const (
	firstBackoff = time.Second
	lastBackoff  = 30 * time.Second
)

// engine is one child process that can be started again. Its methods do not run at the same time.
type engine interface {
	name() string
	start(context.Context) error
	stop(context.Context) error
	kill()
	child() *process
	logFile() *logFile
}

// supervisor serializes what happens to an engine and restarts one that died by itself, if asked to.
type supervisor struct {
	engine
	auto bool
	log  *slog.Logger

	mu    sync.Mutex
	run   int // counts what callers asked for, so that a watcher of an earlier run leaves; guarded by mu
	life  context.Context
	end   context.CancelFunc
	watch sync.WaitGroup
}

func newSupervisor(e engine, o Options) *supervisor {
	s := &supervisor{engine: e, auto: o.Supervise, log: o.Logger}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// start runs the engine; running already, it is stopped first.
func (s *supervisor) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run++
	if p := s.child(); p != nil && !p.ended() {
		stopping, cancel := stopContext(ctx)
		defer cancel()
		if err := s.engine.stop(stopping); err != nil {
			return err
		}
	}
	if err := s.engine.start(ctx); err != nil {
		return err
	}
	if s.auto {
		p, run := s.child(), s.run
		s.watch.Go(func() { s.keepAlive(p, run) })
	}
	return nil
}

// keepAlive starts the engine again whenever it ends by itself, until a caller asks for something else.
func (s *supervisor) keepAlive(p *process, run int) {
	for {
		select {
		case <-p.done:
		case <-s.life.Done():
			return
		}
		for backoff := firstBackoff; ; backoff = min(2*backoff, lastBackoff) {
			next, err := s.restart(run)
			if err == nil {
				p = next
				break
			}
			if sleep(s.life, backoff) != nil {
				return
			}
		}
		if p == nil {
			return
		}
	}
}

// restart starts the engine again; it returns nil, nil when a caller has asked for something else meanwhile.
func (s *supervisor) restart(run int) (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != run || s.life.Err() != nil {
		return nil, nil
	}
	s.log.Warn("engine ended by itself, starting it again", "engine", s.name(), "last", s.logFile().lastLine())
	if err := s.engine.start(s.life); err != nil {
		if s.life.Err() == nil {
			s.log.Error("engine did not come back", "engine", s.name(), "error", err)
		}
		return nil, err
	}
	s.log.Info("engine is back", "engine", s.name())
	return s.child(), nil
}

// kill ends the engine as kill -9 does, and leaves it down.
func (s *supervisor) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run++
	s.engine.kill()
}

// stop ends the engine and the supervision for good.
func (s *supervisor) stop(ctx context.Context) error {
	s.end()
	s.mu.Lock()
	s.run++
	err := s.engine.stop(ctx)
	s.mu.Unlock()
	s.watch.Wait()
	s.logFile().Close()
	return err
}
