package gate

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A yield lets the group have its callbacks while a transaction ends. From a poll on they wait for AllowRebalance, so that
// what is decided is owned. But the end of a transaction waits for the group in turn: for a heartbeat, or for the news that the
// partitions are revoked or lost. A member that the coordinator has forgotten sends no heartbeat, and its news would wait
// for the end: both would wait for ever. So once the end has begun, the callbacks are let in; the session then aborts, or
// commits what no rebalance can take away any more (KIP-447).
type yield struct {
	mu     sync.Mutex
	ending bool
	wanted bool // a callback waits
}

// blocked is told that a callback waits.
func (y *yield) blocked(_ context.Context, client *kgo.Client) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.wanted = true
	if y.ending {
		client.AllowRebalance()
	}
}

// begin says that a transaction is about to end, done that it has.
func (y *yield) begin(client *kgo.Client) (done func()) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.ending = true
	if y.wanted {
		client.AllowRebalance()
	}
	return func() {
		y.mu.Lock()
		defer y.mu.Unlock()
		y.ending, y.wanted = false, false
	}
}
