//go:build !noembed && (linux || darwin)

package embedded

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// process is a child that ends with this process, on Linux even after kill -9.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child has been reaped
	err  error         // how it ended; read after done
}

// startProcess starts cmd in a process group of its own (Ctrl-C in the terminal is for us to handle) with its output in
// log. On Linux the kernel sends the child onParentDeath when the thread that started it ends, so that thread is kept for
// the child's whole life.
func startProcess(cmd *exec.Cmd, log io.Writer, onParentDeath syscall.Signal) (*process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe for engine log: %w", err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	dieWithParent(cmd.SysProcAttr, onParentDeath)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine, after the child
		err := cmd.Start()
		w.Close()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		r.Close()
		return nil, err
	}
	go func() { // not waited for: grandchildren may hold the pipe a little longer than the child lives
		defer r.Close()
		_, _ = io.Copy(log, r)
	}()
	return p, nil
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// ended says whether the child is gone.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
