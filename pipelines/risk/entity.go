package risk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"sluice/rules"
)

// Bounds of what is kept of one entity.
const (
	// tilesPerWindow is how finely a window slides: a tile is 1/96 of it, 15 minutes of a day.
	tilesPerWindow = 96
	// maxTiles bounds the tiles of a window and its delay together: a delay of more than three windows makes them larger.
	maxTiles = 4 * tilesPerWindow
	// maxMembers is up to how many distinct values are counted exactly; beyond it the value not seen for longest is
	// forgotten, so that the count stays at maxMembers (in each partition, for a shared entity).
	maxMembers = 256
	// formatVersion starts every encoded entity.
	formatVersion = 1
)

// entity is what is kept of one customer, device, pair …: a series for each aggregate that has seen something.
type entity struct {
	newest int64 // time of the newest event added, milliseconds since 1970
	series []series
}

// series is one aggregate of one entity, in one currency where it adds up money.
type series struct {
	id       uint32 // definition
	currency uint16 // packed ISO 4217 code, 0 where there is none
	def      *definition
	newest   int64    // the latest tile that something was added to
	tiles    []tile   // ascending; empty for distinct and cycle
	members  []member // ascending by hash, then hops; for distinct and cycle
}

// tile holds what happened in 1/96 of a window. What a and b are depends on the function: Count: a events. Sum, Min, Max:
// b minor units. Avg: both. Stddev: both, and the sum of the squares. Since: the first and the last event, milliseconds into
// the tile. Age has one tile, the latest; a is when the first event was, milliseconds since 1970.
type tile struct {
	index   int64 // time / tile
	a, b    int64
	squares uint128
}

// member is one distinct value, and in which tiles it was seen first and last. For cycle it is an account whose money has
// come here: over how many hops, in which tile it left there and in which it came.
type member struct {
	hash        uint64 // memberBits of it
	first, last int64
	hops        uint8
}

// memberBits is how much of a value's hash is kept: among 256 values two look alike once in 10^10.
const memberBits = 48

// find returns the series of a definition and currency, nil if there is none.
func (e *entity) find(id uint32, currency uint16) *series {
	for i := range e.series {
		if e.series[i].id == id && e.series[i].currency == currency {
			return &e.series[i]
		}
	}
	return nil
}

// open is find, with an empty series if there is none yet.
func (e *entity) open(d *definition, currency uint16) *series {
	if s := e.find(d.id, currency); s != nil {
		return s
	}
	if len(e.series) < cap(e.series) {
		e.series = e.series[:len(e.series)+1] // keeps the room of a series that was here before
	} else {
		e.series = append(e.series, series{})
	}
	s := &e.series[len(e.series)-1]
	s.clear(d, currency)
	return s
}

// clear makes the series an empty one of a definition; it keeps its room.
func (s *series) clear(d *definition, currency uint16) {
	*s = series{id: d.id, currency: currency, def: d, tiles: s.tiles[:0], members: s.members[:0]}
}

// forget drops the series that are idle when the newest event of their partition was at ms.
func (e *entity) forget(ms int64) {
	kept := 0
	for i := range e.series {
		if e.series[i].idle(ms) {
			continue
		}
		if kept != i {
			e.series[kept], e.series[i] = e.series[i], e.series[kept]
		}
		kept++
	}
	e.series = e.series[:kept]
}

// idle says whether the window has passed over everything in the series when the newest event of its partition was at ms.
// It depends on nothing but the series itself, so that what else is kept of the entity does not show.
func (s *series) idle(ms int64) bool { return (s.newest+s.def.keep+1)*s.def.tile < ms }

// advance moves the series on to a tile: what is older than it keeps is dropped.
func (s *series) advance(index int64) {
	if index <= s.newest {
		return
	}
	s.newest = index
	oldest := index - s.def.keep
	gone := 0
	for gone < len(s.tiles) && s.tiles[gone].index < oldest {
		gone++
	}
	if gone > 0 {
		s.tiles = append(s.tiles[:0], s.tiles[gone:]...)
	}
	for i := range s.members {
		if s.fades(&s.members[i]) < oldest {
			s.members = slices.DeleteFunc(s.members, func(m member) bool { return s.fades(&m) < oldest })
			return
		}
	}
}

// fades is the tile that a member leaves the window with.
func (s *series) fades(m *member) int64 {
	if s.def.fn == rules.Cycle {
		return m.first // the money left its first account there
	}
	return m.last
}

// at returns the tile of an index, a new one if there is none.
func (s *series) at(index int64) (t *tile, fresh bool) {
	i := len(s.tiles)
	for i > 0 && s.tiles[i-1].index > index { // nearly always the last
		i--
	}
	if i > 0 && s.tiles[i-1].index == index {
		return &s.tiles[i-1], false
	}
	s.tiles = slices.Insert(s.tiles, i, tile{index: index})
	return &s.tiles[i], true
}

// add counts an event at ms; amount and hash as the function needs them.
func (s *series) add(ms, amount int64, hash uint64) {
	index := ms / s.def.tile
	s.advance(index)
	if s.def.fn == rules.Distinct {
		s.meet(hash, index)
		return
	}
	if s.def.fn == rules.Age {
		s.age(ms, index)
		return
	}
	t, fresh := s.at(index)
	into := ms - index*s.def.tile
	switch s.def.fn {
	case rules.Count:
		t.a++
	case rules.Sum:
		t.b = saturatingAdd(t.b, amount)
	case rules.Avg:
		t.a++
		t.b = saturatingAdd(t.b, amount)
	case rules.Stddev:
		t.a++
		t.b = saturatingAdd(t.b, amount)
		t.squares = t.squares.add(square(amount))
	case rules.Min:
		if fresh || amount < t.b {
			t.b = amount
		}
	case rules.Max:
		t.b = max(t.b, amount)
	case rules.Since:
		if fresh {
			t.a = into
		}
		t.a, t.b = min(t.a, into), max(t.b, into)
	}
}

// age notes when the entity was seen first, and in which tile last: once that has left the window, prune forgets both.
func (s *series) age(ms, index int64) {
	if len(s.tiles) == 0 {
		s.tiles = append(s.tiles, tile{index: index, a: ms})
		return
	}
	t := &s.tiles[0]
	t.index, t.a = max(t.index, index), min(t.a, ms)
}

// saturatingAdd adds amounts, which are positive; a sum beyond int64 stays at its end.
func saturatingAdd(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// meet notes a distinct value.
func (s *series) meet(hash uint64, index int64) {
	i, found := slices.BinarySearchFunc(s.members, hash, func(m member, h uint64) int {
		switch {
		case m.hash < h:
			return -1
		case m.hash > h:
			return 1
		}
		return 0
	})
	if found {
		m := &s.members[i]
		m.first, m.last = min(m.first, index), max(m.last, index)
		return
	}
	s.members = slices.Insert(s.members, i, member{hash: hash, first: index, last: index})
	if len(s.members) <= maxMembers {
		return
	}
	oldest := 0
	for i := range s.members {
		if s.members[i].last < s.members[oldest].last {
			oldest = i
		}
	}
	s.members = slices.Delete(s.members, oldest, oldest+1)
}

// encode appends the entity's compact form:
//
//	version, newest, then for each series: id (4 bytes), currency, length, tiles or members
//
// Numbers are varints; tiles are written as gaps, members as how many tiles ago.
func (e *entity) encode(out []byte) []byte {
	out = append(out, formatVersion)
	out = binary.AppendUvarint(out, uint64(e.newest))
	var body [64]byte
	for i := range e.series {
		s := &e.series[i]
		payload := s.encode(body[:0], e.newest/s.def.tile)
		out = binary.LittleEndian.AppendUint32(out, s.id)
		out = binary.AppendUvarint(out, uint64(s.currency))
		out = binary.AppendUvarint(out, uint64(len(payload)))
		out = append(out, payload...)
	}
	return out
}

func (s *series) encode(out []byte, newest int64) []byte {
	if s.def.keepsMembers() {
		for _, m := range s.members {
			if s.def.fn == rules.Cycle {
				out = append(out, m.hops)
			}
			out = append(out, byte(m.hash), byte(m.hash>>8), byte(m.hash>>16), byte(m.hash>>24), byte(m.hash>>32), byte(m.hash>>40))
			out = binary.AppendUvarint(out, uint64(newest-m.last))
			out = binary.AppendUvarint(out, uint64(m.last-m.first))
		}
		return out
	}
	for i, t := range s.tiles {
		if i == 0 {
			out = binary.AppendUvarint(out, uint64(newest-t.index))
		} else {
			out = binary.AppendUvarint(out, uint64(t.index-s.tiles[i-1].index))
		}
		if usesA(s.def.fn) {
			out = binary.AppendUvarint(out, uint64(t.a))
		}
		if usesB(s.def.fn) {
			out = binary.AppendUvarint(out, uint64(t.b))
		}
		if s.def.fn == rules.Stddev {
			out = binary.AppendUvarint(out, t.squares.hi)
			out = binary.AppendUvarint(out, t.squares.lo)
		}
	}
	return out
}

// keepsMembers says whether the function is kept as members, not tiles.
func (d *definition) keepsMembers() bool { return d.fn == rules.Distinct || d.fn == rules.Cycle }

func usesA(f rules.Func) bool {
	return f == rules.Count || f == rules.Avg || f == rules.Stddev || f == rules.Since || f == rules.Age
}
func usesB(f rules.Func) bool { return f != rules.Count && f != rules.Age }

var errCorrupt = errors.New("cut short or not an entity")

// newestOf reads an encoded entity's newest time alone.
func newestOf(blob string) int64 {
	if len(blob) == 0 {
		return 0
	}
	r := reader{rest: blob[1:]}
	return r.number()
}

// check says whether bytes are an entity of a format this program reads.
func check(blob string) error {
	if blob == "" || blob[0] != formatVersion {
		return fmt.Errorf("entity of an unknown format: %w", errCorrupt)
	}
	r := reader{rest: blob[1:]}
	r.number()
	for len(r.rest) > 0 && !r.bad {
		r.take(4)
		r.number()
		r.take(int(r.number()))
	}
	if r.bad {
		return errCorrupt
	}
	return nil
}

// reader reads varints from an encoded entity.
type reader struct {
	rest string
	bad  bool
}

func (r *reader) number() int64 {
	if len(r.rest) > 0 && r.rest[0] < 0x80 { // most are
		n := int64(r.rest[0])
		r.rest = r.rest[1:]
		return n
	}
	return r.longNumber()
}

func (r *reader) longNumber() int64 {
	var n uint64
	for i := 0; i < len(r.rest) && i < binary.MaxVarintLen64; i++ {
		b := r.rest[i]
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			r.rest = r.rest[i+1:]
			return int64(n)
		}
	}
	r.bad, r.rest = true, ""
	return 0
}

func (r *reader) take(n int) string {
	if n < 0 || n > len(r.rest) {
		r.bad, r.rest = true, ""
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

// header reads the start of a series.
func (r *reader) header() (id uint32, currency uint16, payload string) {
	b := r.take(4)
	if r.bad {
		return 0, 0, ""
	}
	id = uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
	currency = uint16(r.number())
	return id, currency, r.take(int(r.number()))
}

// decode reads an entity that check has passed. Series that have no definition any more are left out.
func (e *entity) decode(blob string, definitions map[uint32]*definition) {
	e.newest, e.series = 0, e.series[:0]
	if blob == "" {
		return
	}
	r := reader{rest: blob[1:]}
	e.newest = r.number()
	for len(r.rest) > 0 {
		id, currency, payload := r.header()
		if d := definitions[id]; d != nil {
			e.open(d, currency).decode(payload, e.newest/d.tile)
		}
	}
}

// decodeOne reads one series of an encoded entity; false if it has none.
func (s *series) decodeOne(blob string, d *definition, currency uint16) bool {
	if blob == "" {
		return false
	}
	r := reader{rest: blob[1:]}
	newest := r.number()
	for len(r.rest) > 0 {
		id, cur, payload := r.header()
		if id == d.id && cur == currency {
			s.clear(d, currency)
			s.decode(payload, newest/d.tile)
			return true
		}
	}
	return false
}

func (s *series) decode(payload string, newest int64) {
	r := reader{rest: payload}
	if s.def.keepsMembers() {
		for len(r.rest) > 0 {
			hops := "\x00"
			if s.def.fn == rules.Cycle {
				hops = r.take(1)
			}
			h := r.take(memberBits / 8)
			if r.bad {
				return
			}
			m := member{hops: hops[0], hash: uint64(h[0]) | uint64(h[1])<<8 | uint64(h[2])<<16 | uint64(h[3])<<24 | uint64(h[4])<<32 | uint64(h[5])<<40}
			m.last = newest - r.number()
			m.first = m.last - r.number()
			s.newest = max(s.newest, m.last)
			s.members = append(s.members, m)
		}
		return
	}
	a, b, squares := usesA(s.def.fn), usesB(s.def.fn), s.def.fn == rules.Stddev
	index := int64(0)
	for len(r.rest) > 0 {
		if gap := r.number(); len(s.tiles) == 0 {
			index = newest - gap
		} else {
			index += gap
		}
		s.newest = max(s.newest, index)
		s.tiles = append(s.tiles, tile{index: index})
		t := &s.tiles[len(s.tiles)-1]
		if a {
			t.a = r.number()
		}
		if b {
			t.b = r.number()
		}
		if squares {
			t.squares.hi = uint64(r.number())
			t.squares.lo = uint64(r.number())
		}
	}
}

// hashOf is FNV-1a with a final mix, memberBits of it. It must be the same in every process, for ever.
func hashOf(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h ^= uint64(s[i])
		h *= 1099511628211
	}
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	h ^= h >> 29
	return h & (1<<memberBits - 1)
}
