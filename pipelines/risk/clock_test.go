package risk

import (
	"testing"

	"pgregory.net/rapid"
)

// The partitions of tests see a handful of events each, over weeks: one far event is enough to move their clocks.
func init() { farVotes = 1 }

// A clock follows its own stream, whatever a minority of another time says, and moves to a new time within twice the votes
// once that is the majority.
func TestClockFollowsTheMajority(t *testing.T) {
	farVotes = 256 // no other test of this package runs beside this one: it is not parallel
	defer func() { farVotes = 1 }()
	rapid.Check(t, func(t *rapid.T) {
		day := int64(24 * hour)
		now := rapid.Int64Range(1000*day, 2000*day).Draw(t, "now")
		other := now + rapid.SampledFrom([]int64{-400 * day, -40 * day, 3 * day, 400 * day}).Draw(t, "other")
		every := rapid.IntRange(3, 50).Draw(t, "every")
		var c clock
		c.tick(now)
		for i := range 5000 {
			now += 1000
			c.tick(now)
			if i%every == 0 {
				c.tick(other)
			}
			if c.at < now-1000 || c.at > now+farAhead {
				t.Fatalf("the clock is at %d, the stream at %d", c.at, now)
			}
		}
		for range 2 * farVotes {
			other += 1000
			c.tick(other)
		}
		if c.at < other-2*farVotes*1000 || c.at > other {
			t.Fatalf("the clock is at %d, the stream has moved to %d", c.at, other)
		}
	})
}

func TestClockIsWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := clock{rapid.Int64Range(0, 1<<60).Draw(t, "at"), rapid.Int64Range(0, 300).Draw(t, "votes"), rapid.Int64Range(0, 1<<60).Draw(t, "low")}
		r := reader{rest: string(c.append(nil))}
		if got := r.clock(); got != c || r.bad || r.rest != "" {
			t.Fatalf("%+v is read as %+v", c, got)
		}
	})
}
