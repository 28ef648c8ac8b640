package poster

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// errCut is what a connection answers once it has been cut.
var errCut = errors.New("cut by the test")

// knife cuts a connection at its nth use: the nth time bytes are written or read. One that lets a write arrive counts
// writes alone, whose order is the batch's, so that no write is passed over, the commit included.
type knife struct {
	uses  atomic.Int64 // left until the cut
	after bool         // a write arrives before the connection is cut
	cut   atomic.Bool
}

// dial connects as the poster does, through the knife.
func (k *knife) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &cutConn{conn, k}, nil
}

type cutConn struct {
	net.Conn
	knife *knife
}

func (c *cutConn) falls() bool {
	if c.knife.uses.Add(-1) >= 0 {
		return false
	}
	c.knife.cut.Store(true)
	return true
}

func (c *cutConn) Write(b []byte) (int, error) {
	if c.falls() {
		if c.knife.after {
			_, _ = c.Conn.Write(b)
			// A closed connection may take unread bytes with it: the server has read them for sure once it answers. What
			// has no answer (the rows of a COPY) is waited for in vain.
			_ = c.Conn.SetReadDeadline(time.Now().Add(answerLimit))
			_, _ = c.Conn.Read(make([]byte, 1))
		}
		c.Conn.Close()
		return 0, errCut
	}
	return c.Conn.Write(b)
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && !c.knife.after && c.falls() {
		c.Conn.Close()
		return 0, errCut
	}
	return n, err
}

// answerLimit is how long a knife waits for the answer to what it has let through.
const answerLimit = time.Second

// wire forwards connections to an address, until it is told to hold everything back.
type wire struct {
	listener net.Listener
	target   string

	mu   sync.Mutex
	open chan struct{} // closed while bytes pass
}

func newWire(t testing.TB, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, target: target, open: make(chan struct{})}
	close(w.open)
	t.Cleanup(func() { l.Close(); w.release() })
	go w.serve()
	return w
}

// dial goes through the wire wherever the caller wants to go.
func (w *wire) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, w.listener.Addr().String())
}

func (w *wire) serve() {
	for {
		from, err := w.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", w.target)
		if err != nil {
			from.Close()
			continue
		}
		go w.pass(from, to)
		go w.pass(to, from)
	}
}

func (w *wire) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		open := w.open
		w.mu.Unlock()
		<-open
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// hold lets nothing pass any more; both sides see a peer that has fallen silent.
func (w *wire) hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = make(chan struct{})
}

func (w *wire) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.open:
	default:
		close(w.open)
	}
}
