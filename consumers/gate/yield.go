package gate

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A yield lets the group have its callbacks while a transaction ends. From a poll on they wait for AllowRebalance, so that
// what is decided is owned. But the end of a transaction waits for the group in turn: for a heartbeat, or for the news that the
// partitions are revoked or lost. A member that the coordinator has forgotten sends no heartbeat, and its news would wait
// for the end: both would wait for ever. So when the end does not come, the callbacks are let in; the session then aborts,
// or commits what no rebalance can take away any more (KIP-447).
type yield struct {
	mu     sync.Mutex
	stuck  bool // the end has not come
	wanted bool // a callback waits
}

// endPatience is how long an end may take before callbacks are let in. An ordinary one takes milliseconds; letting them
// in at once would abort what an ordinary rebalance lets commit.
const endPatience = time.Second

// blocked is told that a callback waits.
func (y *yield) blocked(_ context.Context, client *kgo.Client) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.wanted = true
	if y.stuck {
		client.AllowRebalance()
	}
}

// begin says that a transaction is about to end, done that it has.
func (y *yield) begin(client *kgo.Client) (done func()) {
	ended := false
	timer := time.AfterFunc(endPatience, func() {
		y.mu.Lock()
		defer y.mu.Unlock()
		if ended {
			return
		}
		y.stuck = true
		if y.wanted {
			client.AllowRebalance()
		}
	})
	return func() {
		timer.Stop()
		y.mu.Lock()
		defer y.mu.Unlock()
		ended, y.stuck, y.wanted = true, false, false
	}
}
