//go:build !noembed && (linux || darwin)

package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	// startLimit is how long an engine may take to answer; recovery of a large log is the slow case.
	startLimit = 2 * time.Minute
	// answerLimit bounds one question to a starting engine: another program on its port may never answer.
	answerLimit = 2 * time.Second
	// readyPoll is how often a starting engine is asked.
	readyPoll = 20 * time.Millisecond
)

// servant is this program run again as an engine. It serves until its standard input closes, so it cannot outlive its
// parent, and holds a lock as long as it lives, whatever becomes of its parent.
type servant struct {
	engine   string
	lockPath string
	log      *logFile

	*process
	stdin io.WriteCloser // closing it ends the child
}

// launch runs the child in dir and waits until it answers.
func (s *servant) launch(ctx context.Context, order childOrder, dir string, answers func(context.Context) bool) error {
	if !childReady.Load() {
		return &StartError{Engine: s.engine, Err: errors.New("the program does not call embedded.ClickHouseChild first")}
	}
	cmd, err := s.command(order, dir)
	if err != nil {
		return err
	}
	lock, _, err := tryLock(s.lockPath)
	if err != nil {
		return &StartError{Engine: s.engine, Err: err}
	}
	defer lock.release() // the child keeps its copy
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe to %s: %w", s.engine, err)
	}
	defer r.Close()
	cmd.Stdin, cmd.ExtraFiles = r, []*os.File{lock.f}
	s.log.forget()
	// No signal on parent death: the closed pipe lets it close its data, and it watches the clock itself.
	if s.process, err = startProcess(cmd, s.log, 0); err != nil {
		w.Close()
		return &StartError{Engine: s.engine, Err: err}
	}
	s.stdin = w
	go func(p *process) { // holds w, which would close by itself once nobody holds the Engines
		<-p.done
		w.Close()
	}(s.process)
	if err := s.ready(ctx, answers); err != nil {
		s.kill()
		return &StartError{Engine: s.engine, Err: err, LastLine: s.log.lastLine(), LogFile: s.log.path}
	}
	return nil
}

// command is this program again, ordered to be an engine.
func (s *servant) command(order childOrder, dir string) (*exec.Cmd, error) {
	order.Parent = os.Getpid()
	text, err := json.Marshal(order)
	if err != nil {
		return nil, fmt.Errorf("order %s: %w", s.engine, err)
	}
	self, err := ownExecutable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.Command(self)
	cmd.Args = []string{"sluice: " + s.engine}
	cmd.Env = append(os.Environ(), childVariable+"="+string(text), "TZ=UTC")
	cmd.Dir = dir
	return cmd, nil
}

// stop lets the child close its data, and kills it when ctx ends first.
func (s *servant) stop(ctx context.Context) error {
	if s.process == nil {
		return nil
	}
	_, _ = s.stdin.Write([]byte(stopWord)) // ClickHouse reads it as a row to count, like anything else
	s.stdin.Close()
	select {
	case <-s.done:
	case <-ctx.Done():
		s.kill()
	}
	return nil
}

// stopWord tells an ordered end from the death of the parent, which closes standard input without it.
const stopWord = "stop\n"

// kill ends the child as kill -9 does.
func (s *servant) kill() {
	if s.process == nil {
		return
	}
	s.signal(syscall.SIGKILL)
	<-s.done
}

func (s *servant) name() string      { return s.engine }
func (s *servant) child() *process   { return s.process }
func (s *servant) logFile() *logFile { return s.log }

// answersSoon asks within answerLimit.
func answersSoon(ctx context.Context, answers func(context.Context) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	return answers(ctx)
}

// ready waits until the engine answers or its process has ended.
func (p *process) ready(ctx context.Context, answers func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for !answersSoon(ctx, answers) {
		if p.ended() {
			return fmt.Errorf("it ended: %v", p.err)
		}
		if err := sleep(ctx, readyPoll); err != nil {
			return err
		}
	}
	if p.ended() { // something else answered on its port
		return fmt.Errorf("it ended: %v", p.err)
	}
	return nil
}
