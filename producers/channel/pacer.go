package channel

import (
	"context"
	"time"
)

// Bounds of a pacer.
const (
	// least is the shortest sleep: timers are no finer, so that quick rates go in small batches.
	least = 2 * time.Millisecond
	// most is what a pacer makes up for after a stall; what is lost beyond stays lost, so that there is no flood.
	most = 100 * time.Millisecond
)

// Pacer holds a publisher to a rate. It is not safe for concurrent use.
type Pacer struct {
	interval time.Duration
	next     time.Time
}

// NewPacer returns a pacer of so many events a second; 0 or less: it never waits.
func NewPacer(rate float64) *Pacer {
	p := &Pacer{}
	if rate > 0 {
		p.interval = time.Duration(float64(time.Second) / rate)
	}
	return p
}

// Wait waits until the next event is due. It fails with ctx's error.
func (p *Pacer) Wait(ctx context.Context) error {
	if p.interval == 0 {
		return ctx.Err()
	}
	ahead := p.due(time.Now())
	if ahead < least {
		return ctx.Err()
	}
	return Sleep(ctx, ahead)
}

// due takes the next event's turn and returns how long after now it is.
func (p *Pacer) due(now time.Time) time.Duration {
	if earliest := now.Add(-most); p.next.Before(earliest) {
		p.next = earliest
		if p.interval > most { // a slow rate makes up for nothing
			p.next = now
		}
	}
	ahead := p.next.Sub(now)
	p.next = p.next.Add(p.interval)
	return ahead
}

// Sleep waits for d. It fails with ctx's error if ctx ends before.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
