package risk

import "encoding/binary"

// Bounds of a partition's clock, in milliseconds of event time.
const (
	// farAhead and farBehind are how far an event may lie from the clock to be taken for the partition's time: a day ahead,
	// which quiet partitions come to, and behind what the longest window sees.
	farAhead  = 24 * hour
	farBehind = 31 * 24 * hour
)

// farVotes is how many more events must lie far from the clock than near it before it follows them: a few events of another
// time among the partition's own (somebody's first try beside a replay of last year) must not make it forget everybody.
// Tests, whose partitions see a handful of events, set it to one.
var farVotes int64 = 256

// clock is the time of a partition, by its events: what lies further back than its window has fallen idle. It is a function
// of the events in their order, and kept in gate.state.
type clock struct {
	at    int64 // milliseconds since 1970; 0 before the first event
	votes int64 // events far from at, less those near it, not below 0
	low   int64 // the least time of those counted in votes
}

// tick tells the clock of an event.
func (c *clock) tick(ms int64) {
	switch {
	case c.at == 0:
		c.at = ms
	case ms <= c.at+farAhead && ms >= c.at-farBehind:
		c.at = max(c.at, ms)
		c.votes = max(c.votes-1, 0)
	default:
		if c.votes == 0 || ms < c.low {
			c.low = ms
		}
		if c.votes++; c.votes >= farVotes {
			*c = clock{at: c.low}
		}
	}
}

// append writes the clock.
func (c *clock) append(out []byte) []byte {
	out = binary.AppendUvarint(out, uint64(c.at))
	out = binary.AppendUvarint(out, uint64(c.votes))
	return binary.AppendUvarint(out, uint64(c.low))
}

func (r *reader) clock() clock { return clock{r.number(), r.number(), r.number()} }
