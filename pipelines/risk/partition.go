package risk

import (
	"cmp"
	"math"
	"slices"
)

// partition is what is kept of one owned partition.
type partition struct {
	id      int32
	private map[string]string // encoded entities of customers and their pairs
	past    identities
	clock   clock              // its time, by the events committed
	queue   map[int64][]string // each key once, by the hour it falls idle
	oldest  int64              // hour in the queue
	gone    []string           // keys forgotten, whose tombstones are not committed yet

	// Staged since the last Commit or Abort:
	staged   map[string]*working // every entity looked at
	changed  []*working          // those to write; by key when sorted
	sorted   bool
	ids      []identity
	seen     map[identity]struct{}
	clockNow clock
}

// working is an entity at hand in a transaction.
type working struct {
	key     string
	shared  bool
	changed bool
	blob    string // encoded, "" after a change
	entity  entity
	event   uint64 // number of the event that looked at it last
	queued  bool   // its key is in the queue
}

func newPartition(id int32) *partition {
	return &partition{id: id, private: map[string]string{}, queue: map[int64][]string{}, oldest: math.MaxInt64, staged: map[string]*working{},
		seen: map[identity]struct{}{}}
}

func (p *partition) set(key, blob string) {
	if blob == "" {
		delete(p.private, key)
	} else {
		p.private[key] = blob
	}
}

// now is the partition's time, the events staged included.
func (p *partition) now() int64 { return p.clockNow.at }

// toWrite lists the entities to write, by key.
func (p *partition) toWrite() []*working {
	if !p.sorted {
		slices.SortFunc(p.changed, func(a, b *working) int { return cmp.Compare(a.key, b.key) })
		p.sorted = true
	}
	return p.changed
}

// change notes that an entity is about to differ from what is committed.
func (p *partition) change(w *working) {
	if !w.changed {
		w.changed = true
		p.changed = append(p.changed, w)
		p.sorted = false
	}
	w.blob = ""
}

// maxFree bounds how many entities' memory is kept for reuse between transactions.
const maxFree = 1024

func (s *State) recycle(w *working) {
	if len(s.free) < maxFree {
		s.free = append(s.free, w)
	}
}

// stored is the committed form of an entity of an owned partition, "" if there is none.
func (s *State) stored(p *partition, key string, shared bool) string {
	if !shared {
		return p.private[key]
	}
	for _, part := range s.shared[key] {
		if part.partition == p.id {
			return part.blob
		}
	}
	return ""
}

// load brings an entity to hand. The key may be a scratch buffer.
func (s *State) load(p *partition, key []byte, shared bool) *working {
	w := p.staged[string(key)]
	if w == nil {
		if n := len(s.free); n > 0 {
			w, s.free = s.free[n-1], s.free[:n-1]
		} else {
			w = &working{}
		}
		w.key, w.shared, w.changed, w.event = string(key), shared, false, 0
		w.blob = s.stored(p, w.key, shared)
		w.entity.decode(w.blob, s.engine.definitions(w.key))
		w.queued = w.blob != ""
		p.staged[w.key] = w
	}
	// Whether the sweep has come by yet must not show: what is idle when an event first looks at it is as good as forgotten.
	if w.event != s.now.number {
		w.entity.forget(max(p.now(), s.now.ms))
	}
	w.event = s.now.number
	return w
}

// Idle entities. An entity whose newest event lies further back than the longest window of its key counts for nothing any
// more. Each key is queued once, by the hour in which it falls idle as far as was known when it was queued. After each
// transaction a few keys whose hour has passed are looked at: forgotten, or queued again.
const (
	hour         = 3_600_000 // milliseconds
	sweepAtLeast = 32        // keys looked at after a transaction, besides two for each entity it changed
)

func (s *State) idleHour(key, blob string) int64 {
	return (newestOf(blob) + s.engine.idle[prefix(key)]) / hour
}

func (s *State) enqueue(p *partition, key, blob string) {
	h := s.idleHour(key, blob)
	p.queue[h] = append(p.queue[h], key)
	p.oldest = min(p.oldest, h)
}

// requeue sorts the entities anew, for other windows.
func (s *State) requeue(p *partition) {
	clear(p.queue)
	p.oldest = math.MaxInt64
	for key, blob := range p.private {
		s.enqueue(p, key, blob)
	}
	for key, parts := range s.shared {
		for _, part := range parts {
			if part.partition == p.id {
				s.enqueue(p, key, part.blob)
			}
		}
	}
}

// sweep forgets some idle entities. Their tombstones go out with the next transaction.
func (s *State) sweep(p *partition, changed int) {
	budget := sweepAtLeast + 2*changed
	for now := p.clock.at / hour; p.oldest < now; {
		keys := p.queue[p.oldest]
		for len(keys) > 0 && budget > 0 {
			s.reconsider(p, keys[len(keys)-1])
			keys = keys[:len(keys)-1]
			budget--
		}
		if len(keys) > 0 {
			p.queue[p.oldest] = keys
			return
		}
		delete(p.queue, p.oldest)
		p.oldest = math.MaxInt64
		for h := range p.queue {
			p.oldest = min(p.oldest, h)
		}
	}
}

// reconsider forgets an entity, or queues it again if it has been active meanwhile.
func (s *State) reconsider(p *partition, key string) {
	shared := isShared(key)
	blob := s.stored(p, key, shared)
	switch {
	case blob == "":
	case s.idleHour(key, blob) > p.oldest:
		s.enqueue(p, key, blob)
	case shared:
		s.setPartial(p.id, key, "")
		p.gone = append(p.gone, key)
	default:
		p.set(key, "")
		p.gone = append(p.gone, key)
	}
}
