package risk

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Bounds of the memory of identities.
const (
	// identitiesKept is how many of a partition's newest events are remembered by source and id: the same event again
	// among them is a duplicate. 262,144 is two minutes of 2,000 events/s in one partition, and days of an ordinary one.
	identitiesKept = 1 << 18
	// chunkIDs is how many identities one gate.state record holds at most (2 KiB): the newest chunk is written again with
	// each transaction, a full one never.
	chunkIDs = 128
	chunks   = identitiesKept / chunkIDs
)

// identity is 128 bits of SHA-256 over an event's source and id.
type identity [16]byte

func identityOf(source, id string) identity {
	var b [320]byte
	text := binary.AppendUvarint(b[:0], uint64(len(source)))
	text = append(text, source...)
	text = append(text, id...)
	sum := sha256.Sum256(text)
	return identity(sum[:16])
}

// identities is the memory of one partition: a ring of chunks, forgotten a chunk at a time, and a hash table of what is in
// them. It starts small and grows to 6 MiB.
type identities struct {
	head  uint64 // how many identities were ever added
	ring  []chunk
	table []uint32 // slot + 1 of the identities by hash, linear probing; 0: empty
	used  int
}

type chunk struct {
	start uint64 // number of the first
	ids   []identity
}

// firstKept is the number of the oldest identity remembered once head have been added. Chunks are forgotten whole, when
// their place in the ring is needed, so that what is remembered is what is on disk.
func firstKept(head uint64) uint64 {
	full := (head + chunkIDs - 1) / chunkIDs * chunkIDs
	if full < identitiesKept {
		return 0
	}
	return full - identitiesKept
}

// has says whether an identity is remembered, when more have been staged on top.
func (r *identities) has(id identity, staged int) bool {
	slot, ok := r.slot(id)
	return ok && r.number(slot) >= firstKept(r.head+uint64(staged))
}

func (r *identities) number(slot uint32) uint64 {
	return r.ring[slot/chunkIDs].start + uint64(slot%chunkIDs)
}

func (r *identities) id(slot uint32) identity { return r.ring[slot/chunkIDs].ids[slot%chunkIDs] }

func home(id identity, size int) int { return int(binary.LittleEndian.Uint32(id[:4])) & (size - 1) }

func (r *identities) slot(id identity) (uint32, bool) {
	if len(r.table) == 0 {
		return 0, false
	}
	for i := home(id, len(r.table)); r.table[i] != 0; i = (i + 1) & (len(r.table) - 1) {
		if slot := r.table[i] - 1; r.id(slot) == id {
			return slot, true
		}
	}
	return 0, false
}

// add remembers one more identity.
func (r *identities) add(id identity) {
	at := int(r.head / chunkIDs % chunks)
	if r.head%chunkIDs == 0 {
		r.clear(at)
		r.ring[at].start = r.head
	}
	r.put(at, id)
	r.head++
}

// put appends an identity to a chunk and enters it into the table. One that is there already (events before a restart
// may repeat what a ring restored in another order had) points to the newer place.
func (r *identities) put(at int, id identity) {
	c := &r.ring[at]
	c.ids = append(c.ids, id)
	slot := uint32(at*chunkIDs + len(c.ids) - 1)
	r.used++
	if r.used*2 > len(r.table) {
		r.grow()
		return
	}
	r.enter(id, slot)
}

func (r *identities) enter(id identity, slot uint32) {
	i := home(id, len(r.table))
	for r.table[i] != 0 {
		if other := r.table[i] - 1; r.id(other) == id {
			if r.number(slot) > r.number(other) {
				r.table[i] = slot + 1
			}
			r.used--
			return
		}
		i = (i + 1) & (len(r.table) - 1)
	}
	r.table[i] = slot + 1
}

// grow doubles the table and enters everything again.
func (r *identities) grow() {
	r.table = make([]uint32, max(2*len(r.table), 2*chunkIDs))
	r.used = 0
	for at := range r.ring {
		for i, id := range r.ring[at].ids {
			r.used++
			r.enter(id, uint32(at*chunkIDs+i))
		}
	}
}

// clear forgets a chunk.
func (r *identities) clear(at int) {
	for len(r.ring) <= at {
		r.ring = append(r.ring, chunk{})
	}
	for i, id := range r.ring[at].ids {
		if slot, ok := r.slot(id); ok && slot == uint32(at*chunkIDs+i) {
			r.remove(id)
		}
	}
	r.ring[at].ids = r.ring[at].ids[:0]
}

// remove takes an identity out of the table and closes the gap (Knuth, The Art of Computer Programming 6.4, algorithm R).
func (r *identities) remove(id identity) {
	mask := len(r.table) - 1
	i := home(id, len(r.table))
	for r.id(r.table[i]-1) != id {
		i = (i + 1) & mask
	}
	r.used--
	for j := (i + 1) & mask; r.table[j] != 0; j = (j + 1) & mask {
		want := home(r.id(r.table[j]-1), len(r.table))
		if (j-want)&mask >= (j-i)&mask {
			r.table[i] = r.table[j]
			i = j
		}
	}
	r.table[i] = 0
}

// records yields the chunks that staged identities change, as they will be: the number of the first, the partition's clock,
// the identities.
func (r *identities) records(staged []identity, now clock, yield func(at int, value []byte)) {
	for head, rest := r.head, staged; len(rest) > 0; {
		at := int(head / chunkIDs % chunks)
		before := int(head % chunkIDs)
		n := min(chunkIDs-before, len(rest))
		value := []byte{formatVersion}
		value = binary.AppendUvarint(value, head-uint64(before))
		value = now.append(value)
		if before > 0 {
			for _, id := range r.ring[at].ids[:before] {
				value = append(value, id[:]...)
			}
		}
		for _, id := range rest[:n] {
			value = append(value, id[:]...)
		}
		yield(at, value)
		head, rest = head+uint64(n), rest[n:]
	}
}

// restore takes a chunk's record, the newest of its place or one that a newer will replace. It returns the clock in it, and
// whether it is the latest so far.
func (r *identities) restore(at int, value []byte) (now clock, last bool, err error) {
	rd := reader{rest: string(value)}
	format := rd.take(1)
	start := uint64(rd.number())
	now = rd.clock()
	if rd.bad || format[0] != formatVersion || len(rd.rest)%len(identity{}) != 0 || len(rd.rest) > chunkIDs*len(identity{}) ||
		at < 0 || at >= chunks || start%chunkIDs != 0 || start/chunkIDs%chunks != uint64(at) {
		return clock{}, false, fmt.Errorf("identities %d: %w", at, errCorrupt)
	}
	r.clear(at)
	r.ring[at].start = start
	for len(rd.rest) > 0 {
		r.put(at, identity([]byte(rd.take(len(identity{})))))
	}
	end := start + uint64(len(r.ring[at].ids))
	last = end >= r.head
	r.head = max(r.head, end)
	return now, last, nil
}
