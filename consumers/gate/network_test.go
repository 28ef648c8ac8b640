package gate

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A network is what a gate's connections run over, so that a test can cut it. It reads the frames of Kafka's protocol: a
// request has its key in bytes 4 and 5, and a response answers the request of its connection that is oldest.
type network struct {
	mu     sync.Mutex
	dead   bool
	conns  map[*conn]struct{}
	onSent func(key int16) fate // decides what becomes of the response to a request; may be nil
}

// A fate is what becomes of a response.
type fate uint8

const (
	arrives fate = iota
	cut          // the request is carried out, then the whole network dies
	garbled      // the request is carried out, then its answer says UNKNOWN_SERVER_ERROR
)

func (n *network) option() kgo.Opt { return kgo.Dialer(n.dial) }

func (n *network) dial(ctx context.Context, nw, host string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, nw, host)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead {
		c.Close()
		return nil, errors.New("the network is dead")
	}
	wrapped := &conn{Conn: c, n: n}
	if n.conns == nil {
		n.conns = map[*conn]struct{}{}
	}
	n.conns[wrapped] = struct{}{}
	return wrapped, nil
}

// kill cuts every connection, for good.
func (n *network) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dead = true
	for c := range n.conns {
		c.Conn.Close()
	}
}

type conn struct {
	net.Conn
	n     *network
	mu    sync.Mutex
	fates []fate // of the responses to come
	frame []byte // rest of the response being read
}

func (c *conn) Write(b []byte) (int, error) {
	if len(b) >= 6 {
		f := arrives
		if c.n.onSent != nil {
			f = c.n.onSent(int16(binary.BigEndian.Uint16(b[4:])))
		}
		c.mu.Lock()
		c.fates = append(c.fates, f)
		c.mu.Unlock()
	}
	return c.Conn.Write(b)
}

func (c *conn) Read(b []byte) (int, error) {
	if len(c.frame) == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.frame)
	c.frame = c.frame[n:]
	return n, nil
}

// next reads one whole response and deals with it as its fate says.
func (c *conn) next() error {
	size := make([]byte, 4)
	if _, err := io.ReadFull(c.Conn, size); err != nil {
		return err
	}
	frame := make([]byte, 4+binary.BigEndian.Uint32(size))
	copy(frame, size)
	if _, err := io.ReadFull(c.Conn, frame[4:]); err != nil {
		return err
	}
	c.mu.Lock()
	f := c.fates[0]
	c.fates = c.fates[1:]
	c.mu.Unlock()
	switch f {
	case cut:
		c.n.kill()
		return net.ErrClosed
	case garbled: // an EndTxn response v3+: size 4, correlation 4, tags 1, throttle 4, then the error code
		binary.BigEndian.PutUint16(frame[13:], 0xffff)
	}
	c.frame = frame
	return nil
}
