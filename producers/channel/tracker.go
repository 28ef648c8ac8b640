package channel

import (
	"sync"
	"sync/atomic"
)

// Tracker knows up to which position everything published is acknowledged, although acknowledgements come in any order:
// what is published between two marks is one span, and a span counts when it and those before it have no event open.
// Sent and Mark belong to one goroutine; the functions that Sent returns, and Settled, may be called from any.
type Tracker[P any] struct {
	mu     sync.Mutex
	closed []*span[P] // marked, oldest first

	open   *span[P]
	failed atomic.Pointer[error] // the first failure
}

type span[P any] struct {
	end  P
	left atomic.Int64 // events open, and one as long as the span is not marked
}

// Sent notes an event about to be published and returns what to call with the outcome.
func (t *Tracker[P]) Sent() func(error) {
	if t.open == nil {
		t.open = &span[P]{}
		t.open.left.Store(1)
	}
	s := t.open
	s.left.Add(1)
	return func(err error) {
		if err != nil {
			t.failed.CompareAndSwap(nil, &err) // the span stays open: it is never acknowledged
			return
		}
		s.left.Add(-1)
	}
}

// Mark says that all before position p has been sent.
func (t *Tracker[P]) Mark(p P) {
	s := t.open
	if s == nil {
		s = &span[P]{}
		s.left.Store(1)
	}
	t.open = nil
	s.end = p
	s.left.Add(-1)
	t.mu.Lock()
	t.closed = append(t.closed, s)
	t.mu.Unlock()
}

// Settled returns the newest marked position up to which all is acknowledged, false if that has not moved since the call
// before.
func (t *Tracker[P]) Settled() (p P, moved bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.closed) > 0 && t.closed[0].left.Load() == 0 {
		p, moved = t.closed[0].end, true
		t.closed = t.closed[1:]
	}
	return p, moved
}

// Err returns the first failure, nil if there is none.
func (t *Tracker[P]) Err() error {
	if err := t.failed.Load(); err != nil {
		return *err
	}
	return nil
}
