package gate

import (
	"context"
	"sync"
	"time"
)

// An inbox is where the client's goroutines leave what the loop must see before its next transaction: the newest
// assignment and the first failure. Leaving something ends the poll in hand.
type inbox struct {
	mu         sync.Mutex
	assignment *assignment
	err        error
	woken      bool               // something was left since the last poll began
	wakePoll   context.CancelFunc // ends the poll in hand; nil between polls
}

func newInbox() *inbox { return &inbox{} }

func (b *inbox) assign(a *assignment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.assignment = a // an older one was revoked before this one was made
	b.wakeLocked()
}

func (b *inbox) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	b.wakeLocked()
}

// wake ends the poll in hand, or the next one at once.
func (b *inbox) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wakeLocked()
}

func (b *inbox) wakeLocked() {
	b.woken = true
	if b.wakePoll != nil {
		b.wakePoll()
	}
}

func (b *inbox) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// takeAssignment returns the newest assignment that the loop has not seen, or nil.
func (b *inbox) takeAssignment() *assignment {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.assignment
	b.assignment = nil
	return a
}

// pollContext returns a context for one poll: it ends with ctx, after the given time, or when something is left here.
// It is nil, which polls without waiting, if something was left since the last poll began: the loop may have looked before
// it came, and a poll with a context that has ended would return nothing.
func (b *inbox) pollContext(ctx context.Context, wait time.Duration) (context.Context, func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.woken {
		b.woken = false
		return nil, func() {}
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	b.wakePoll = cancel
	return ctx, func() {
		b.mu.Lock()
		b.wakePoll = nil
		b.mu.Unlock()
		cancel()
	}
}
