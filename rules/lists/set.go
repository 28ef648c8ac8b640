package lists

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"sluice/rules"
)

// Limits of a set.
const (
	// MaxLists bounds the lists: each is named by a rule that somebody wrote.
	MaxLists = 1000
	// MaxEntries bounds the entries of one list.
	MaxEntries = 1_000_000
	// MaxNames bounds the entries of kind name in one list: sanctions lists have some tens of thousands, and a name is
	// compared with many of them.
	MaxNames = 100_000
	// MaxBytes bounds a set's memory, as counted: the values and entryBytes for each entry.
	MaxBytes = 512 << 20
	// entryBytes is what a map spends on an entry besides its text, at most.
	entryBytes = 96
	// nameFactor is about how many times its length a name takes in the index of names, if it shares no word with others.
	nameFactor = 128
)

// never is the expiry of an entry that does not expire.
const never = math.MaxInt64

// Set holds lists and answers rules. It keeps what they ask for, not why an entry is listed. The zero Set is not ready;
// use NewSet. It is not safe for concurrent use.
type Set struct {
	lists   map[string]*list
	entries int
	bytes   int
	index   func() nameIndex // of a list; another in tests
}

var _ rules.Lists = (*Set)(nil)

// list is one list. Expiries are microseconds since 1970.
type list struct {
	values   map[string]int64
	prefixes byLength[string]
	v4, v6   byLength[netip.Prefix]
	names    nameTable
}

// byLength finds the keys that cover a value: for each length that occurs, one look at a map.
type byLength[K comparable] struct {
	lengths []int // ascending
	count   map[int]int
	expires map[K]int64
}

// NewSet returns an empty set.
func NewSet() *Set { return &Set{lists: map[string]*list{}, index: newNames} }

// Entries is how many entries the set holds, expired ones included.
func (s *Set) Entries() int { return s.entries }

// Bytes is about how much memory it takes.
func (s *Set) Bytes() int { return s.bytes }

// Names lists the lists that have entries, sorted.
func (s *Set) Names() []string {
	names := make([]string, 0, len(s.lists))
	for name := range s.lists {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Len is how many entries a list holds, expired ones included.
func (s *Set) Len(name string) int {
	l := s.lists[name]
	if l == nil {
		return 0
	}
	return l.len()
}

func (l *list) len() int {
	return len(l.values) + len(l.prefixes.expires) + len(l.v4.expires) + len(l.v6.expires) + l.names.len()
}

// Put adds an entry, or puts it in the place of the one with the same list, kind and value. The error says which limit it
// would go beyond, or what is wrong with it; the set is then as it was.
func (s *Set) Put(e Entry) error {
	if err := e.checkIdentity(); err != nil {
		return err
	}
	l := s.lists[e.List]
	if l == nil {
		l = &list{values: map[string]int64{}}
	}
	if !l.has(e) {
		if err := s.room(l, e); err != nil {
			return err
		}
		s.entries++
		s.bytes += size(e)
		s.lists[e.List] = l
	}
	l.put(e, micros(e.Expires), s.index)
	return nil
}

// room says whether one more entry fits.
func (s *Set) room(l *list, e Entry) error {
	switch {
	case l.len() == 0 && len(s.lists) >= MaxLists:
		return fmt.Errorf("there are %d lists already, the most allowed: remove one before adding %s", MaxLists, e.List)
	case l.len() >= MaxEntries:
		return fmt.Errorf("the list %s has %d entries, the most allowed: remove some, or use blocks and prefixes", e.List, MaxEntries)
	case e.Kind == Name && l.names.len() >= MaxNames:
		return fmt.Errorf("the list %s has %d names, the most allowed: remove some, or share them out to two lists", e.List, MaxNames)
	case s.bytes+size(e) > MaxBytes:
		return fmt.Errorf("all lists together take %d MiB, the most allowed: remove entries that are not needed", MaxBytes>>20)
	}
	return nil
}

func size(e Entry) int {
	if e.Kind == Name {
		return entryBytes + nameFactor*len(e.Value)
	}
	return entryBytes + len(e.Value)
}

// Remove takes an entry out, of which only List, Kind and Value matter; false if it was not there.
func (s *Set) Remove(e Entry) bool {
	l := s.lists[e.List]
	if l == nil || e.checkIdentity() != nil || !l.has(e) {
		return false
	}
	l.remove(e)
	s.entries--
	s.bytes -= size(e)
	if l.len() == 0 {
		delete(s.lists, e.List)
	}
	return true
}

// Listed says whether an entry of kind value, prefix or CIDR that has not expired at the time covers the value.
func (s *Set) Listed(name, value string, at time.Time) bool {
	l := s.lists[name]
	if l == nil || value == "" {
		return false
	}
	now := at.UnixMicro()
	if expires, ok := l.values[value]; ok && now < expires {
		return true
	}
	for _, n := range l.prefixes.lengths {
		if n > len(value) {
			break
		}
		if expires, ok := l.prefixes.expires[value[:n]]; ok && now < expires {
			return true
		}
	}
	return l.inBlock(value, now)
}

// inBlock says whether the value is an IP address within a block.
func (l *list) inBlock(value string, now int64) bool {
	if len(l.v4.lengths)+len(l.v6.lengths) == 0 {
		return false
	}
	addr, err := netip.ParseAddr(value)
	if err != nil {
		return false
	}
	addr = addr.Unmap().WithZone("")
	blocks := &l.v6
	if addr.Is4() {
		blocks = &l.v4
	}
	for _, bits := range blocks.lengths {
		block, err := addr.Prefix(bits)
		if err != nil {
			return false
		}
		if expires, ok := blocks.expires[block]; ok && now < expires {
			return true
		}
	}
	return false
}

// Similarity is how alike the name and the listed name most like it are, from 0 to 1; 0 if no name is listed.
func (s *Set) Similarity(name, person string, at time.Time) rules.Decimal {
	l := s.lists[name]
	if l == nil || person == "" {
		return rules.Decimal{}
	}
	return l.names.best(person, at.UnixMicro())
}

func (l *list) has(e Entry) bool {
	ok := false
	switch e.Kind {
	case Value:
		_, ok = l.values[e.Value]
	case Prefix:
		_, ok = l.prefixes.expires[e.Value]
	case CIDR:
		block := netip.MustParsePrefix(e.Value)
		_, ok = l.blocks(block).expires[block]
	case Name:
		ok = l.names.has(e.Value)
	}
	return ok
}

func (l *list) put(e Entry, expires int64, newIndex func() nameIndex) {
	switch e.Kind {
	case Value:
		l.values[e.Value] = expires
	case Prefix:
		l.prefixes.put(e.Value, len(e.Value), expires)
	case CIDR:
		block := netip.MustParsePrefix(e.Value)
		l.blocks(block).put(block, block.Bits(), expires)
	case Name:
		l.names.put(e.Value, expires, newIndex)
	}
}

func (l *list) remove(e Entry) {
	switch e.Kind {
	case Value:
		delete(l.values, e.Value)
	case Prefix:
		l.prefixes.remove(e.Value, len(e.Value))
	case CIDR:
		block := netip.MustParsePrefix(e.Value)
		l.blocks(block).remove(block, block.Bits())
	case Name:
		l.names.remove(e.Value)
	}
}

func (l *list) blocks(b netip.Prefix) *byLength[netip.Prefix] {
	if b.Addr().Is4() {
		return &l.v4
	}
	return &l.v6
}

func (t *byLength[K]) put(key K, length int, expires int64) {
	if t.expires == nil {
		t.expires, t.count = map[K]int64{}, map[int]int{}
	}
	if _, again := t.expires[key]; !again {
		if t.count[length]++; t.count[length] == 1 {
			at, _ := slices.BinarySearch(t.lengths, length)
			t.lengths = slices.Insert(t.lengths, at, length)
		}
	}
	t.expires[key] = expires
}

func (t *byLength[K]) remove(key K, length int) {
	delete(t.expires, key)
	if t.count[length]--; t.count[length] == 0 {
		delete(t.count, length)
		at, _ := slices.BinarySearch(t.lengths, length)
		t.lengths = slices.Delete(t.lengths, at, at+1)
	}
}

func micros(expires time.Time) int64 {
	if expires.IsZero() {
		return never
	}
	return expires.UnixMicro()
}
