package risk

import (
	"cmp"
	"slices"
)

// partition is what is kept of one owned partition.
type partition struct {
	id      int32
	private map[string]string // encoded entities of customers and their pairs
	past    identities
	newest  int64              // time of the newest event, milliseconds since 1970
	queue   map[int64][]string // keys by how old their newest event is, to find the idle ones
	gone    []string           // keys forgotten, whose tombstones are not committed yet

	// Staged since the last Commit or Abort:
	staged    map[string]*working // every entity looked at
	changed   []*working          // those to write; by key when sorted
	sorted    bool
	ids       []identity
	seen      map[identity]struct{}
	newestNow int64
}

// working is an entity at hand in a transaction.
type working struct {
	key     string
	shared  bool
	changed bool
	blob    string // encoded, "" after a change
	entity  entity
	before  int64 // bucket it was queued in, -1: none
}

func newPartition(id int32) *partition {
	return &partition{id: id, private: map[string]string{}, queue: map[int64][]string{}, staged: map[string]*working{},
		seen: map[identity]struct{}{}}
}

func (p *partition) set(key, blob string) {
	if blob == "" {
		delete(p.private, key)
	} else {
		p.private[key] = blob
	}
}

// newestStaged is the time of the newest event, those staged included.
func (p *partition) newestStaged() int64 { return max(p.newest, p.newestNow) }

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
const maxFree = 4096

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
		w.key, w.shared, w.changed, w.before = string(key), shared, false, -1
		w.blob = s.stored(p, w.key, shared)
		w.entity.decode(w.blob, s.engine)
		if w.blob != "" {
			w.before = s.bucket(w.entity.newest)
		}
		p.staged[w.key] = w
	}
	// Whether the sweep has come by yet must not show: an idle entity is as good as forgotten.
	if w.entity.newest < s.idleBefore(p.newestStaged()) {
		w.entity.newest, w.entity.series = 0, w.entity.series[:0]
	}
	return w
}

// Idle entities. An entity whose newest event lies further back than the longest window (and its coarse edge) counts for
// nothing any more. Keys are queued in buckets of an eighth of that window by their newest event, and a few of the
// buckets that have aged out are looked through after each transaction.
const (
	bucketsPerWindow = 8
	minBucket        = 60_000 // milliseconds
	sweepAtLeast     = 32     // keys looked at after a transaction, besides two for each entity it changed
)

func (s *State) idleBefore(newest int64) int64 {
	w := s.engine.longest.Milliseconds()
	return newest - w - w/tilesPerWindow
}

func (s *State) bucket(newest int64) int64 {
	return newest / max(minBucket, s.engine.longest.Milliseconds()/bucketsPerWindow)
}

func (s *State) enqueue(p *partition, key, blob string) {
	b := s.bucket(newestOf(blob))
	p.queue[b] = append(p.queue[b], key)
}

// enqueueMoved queues an entity again when its newest event has moved to another bucket; the old entry is stale.
func (s *State) enqueueMoved(p *partition, w *working) {
	if b := s.bucket(w.entity.newest); b != w.before {
		w.before = b
		p.queue[b] = append(p.queue[b], w.key)
	}
}

// requeue sorts the entities anew, for other buckets.
func (s *State) requeue(p *partition) {
	clear(p.queue)
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
	last := s.bucket(s.idleBefore(p.newest)) // not ripe itself
	for _, b := range ripe(p.queue, last) {
		keys := p.queue[b]
		for len(keys) > 0 && budget > 0 {
			key := keys[len(keys)-1]
			keys = keys[:len(keys)-1]
			budget--
			blob := s.stored(p, key, isShared(key))
			if blob == "" || s.bucket(newestOf(blob)) != b {
				continue
			}
			if isShared(key) {
				s.setPartial(p.id, key, "")
			} else {
				p.set(key, "")
			}
			p.gone = append(p.gone, key)
		}
		if len(keys) > 0 {
			p.queue[b] = keys
			return
		}
		delete(p.queue, b)
	}
}

// ripe lists the buckets before last, oldest first.
func ripe(queue map[int64][]string, last int64) []int64 {
	var all []int64
	for b := range queue {
		if b < last {
			all = append(all, b)
		}
	}
	slices.Sort(all)
	return all
}
