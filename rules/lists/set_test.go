package lists

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/rules"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// sameStart is a nameIndex that counts how many of ten letters two names share at their start.
type sameStart map[string]string

func newSameStart() nameIndex { return sameStart{} }

func (s sameStart) Add(id, name string) { s[id] = name }
func (s sameStart) Remove(id string)    { delete(s, id) }

func (s sameStart) BestAmong(name string, holds func(string) bool) (best rules.Decimal, bestID string) {
	for id, n := range s {
		if score := alike(n, name); holds(id) && score.Compare(best) > 0 {
			best, bestID = score, id
		}
	}
	return best, bestID
}

func alike(a, b string) rules.Decimal {
	n := 0
	for n < min(len(a), len(b), 10) && a[n] == b[n] {
		n++
	}
	return rules.Decimal{Coefficient: int64(n), Exponent: 1}
}

// naive answers by looking at every entry.
type naive map[string]Entry

func (m naive) covers(list, value string, at time.Time, covers func(Entry) bool) bool {
	for _, e := range m {
		if e.List == list && (e.Expires.IsZero() || at.Before(e.Expires)) && covers(e) {
			return true
		}
	}
	return false
}

func (m naive) listed(list, value string, at time.Time) bool {
	return m.covers(list, value, at, func(e Entry) bool {
		switch e.Kind {
		case Value:
			return e.Value == value
		case Prefix:
			return strings.HasPrefix(value, e.Value)
		case CIDR:
			addr, err := netip.ParseAddr(value)
			return err == nil && netip.MustParsePrefix(e.Value).Contains(addr.Unmap().WithZone(""))
		}
		return false
	})
}

func (m naive) similarity(list, name string, at time.Time) (best rules.Decimal) {
	m.covers(list, name, at, func(e Entry) bool {
		if score := alike(e.Value, name); e.Kind == Name && score.Compare(best) > 0 {
			best = score
		}
		return false
	})
	return best
}

// A small world, so that entries meet: values of a few letters, addresses in a few blocks.
var (
	aList = rapid.SampledFrom([]string{"watch", "deny"})
	word  = rapid.StringMatching(`[ab]{1,5}`)
	addr4 = rapid.Custom(func(t *rapid.T) string {
		return netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 1).Draw(t, "b")), byte(rapid.IntRange(0, 3).Draw(t, "c")), byte(rapid.IntRange(0, 255).Draw(t, "d"))}).String()
	})
	addr6 = rapid.Custom(func(t *rapid.T) string {
		return netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 7: byte(rapid.IntRange(0, 3).Draw(t, "h")), 15: byte(rapid.IntRange(0, 3).Draw(t, "p"))}).String()
	})
	block = rapid.Custom(func(t *rapid.T) string {
		addr, most := addr4.Draw(t, "addr"), 32
		if rapid.Bool().Draw(t, "six") {
			addr, most = addr6.Draw(t, "addr"), 128
		}
		return netip.PrefixFrom(netip.MustParseAddr(addr), rapid.IntRange(0, most).Draw(t, "bits")).String()
	})
	value  = rapid.OneOf(word, addr4, addr6, rapid.SampledFrom([]string{"::ffff:10.0.0.7", "2001::1%eth0", ""}))
	moment = rapid.Custom(func(t *rapid.T) time.Time {
		return noon.Add(time.Duration(rapid.IntRange(0, 4).Draw(t, "h")) * time.Hour)
	})
	anEntry = rapid.Custom(func(t *rapid.T) Entry {
		kind := Kind(rapid.IntRange(0, 3).Draw(t, "kind"))
		text := rapid.OneOf(word, addr4, addr6)
		if kind == CIDR {
			text = rapid.OneOf(block, addr4, addr6)
		}
		e, err := New(aList.Draw(t, "list"), kind, text.Draw(t, "text"))
		if err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "expires?") {
			e.Expires = moment.Draw(t, "expires")
		}
		return e
	})
)

// Whatever is put and removed, in whatever order, the set answers as a look at every entry does.
func TestSetAnswersAsTheModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, m := NewSet(), naive{}
		s.index = newSameStart
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			e := anEntry.Draw(t, "entry")
			if rapid.IntRange(0, 2).Draw(t, "step") > 0 {
				if err := s.Put(e); err != nil {
					t.Fatal(err)
				}
				m[e.Key()] = e
			} else {
				_, there := m[e.Key()]
				if s.Remove(e) != there {
					t.Fatalf("Remove(%s) says %v", e.Key(), !there)
				}
				delete(m, e.Key())
			}
		}
		if s.Entries() != len(m) {
			t.Fatalf("%d entries, want %d", s.Entries(), len(m))
		}
		for range 20 {
			list, v, at := aList.Draw(t, "list"), value.Draw(t, "value"), moment.Draw(t, "at")
			if got, want := s.Listed(list, v, at), v != "" && m.listed(list, v, at); got != want {
				t.Fatalf("Listed(%s, %q, %s) = %v; entries %v", list, v, at, got, m)
			}
			if got, want := s.Similarity(list, v, at), m.similarity(list, v, at); got.Compare(want) != 0 {
				t.Fatalf("Similarity(%s, %q, %s) = %s, want %s; entries %v", list, v, at, got, want, m)
			}
		}
		for _, e := range m {
			s.Remove(e)
		}
		if s.Entries() != 0 || s.Bytes() != 0 || len(s.Names()) != 0 {
			t.Fatalf("emptied, it has %d entries, %d bytes, lists %v", s.Entries(), s.Bytes(), s.Names())
		}
	})
}

// An entry that would go beyond a limit changes nothing; one that is there already may be put again.
func TestSetKeepsItsLimits(t *testing.T) {
	t.Parallel()
	s := NewSet()
	one, _ := New("names", Name, "one")
	if err := s.Put(one); err != nil {
		t.Fatal(err)
	}
	s.bytes = MaxBytes
	two, _ := New("names", Name, "and another")
	if err := s.Put(two); err == nil || !strings.Contains(err.Error(), "remove") {
		t.Errorf("beyond the memory: %v", err)
	}
	if err := s.Put(one); err != nil {
		t.Errorf("put again: %v", err)
	}
	for i := range MaxLists {
		s.lists["l"+string(rune(i))] = &list{values: map[string]int64{"x": never}}
	}
	s.bytes = 0
	three, _ := New("another", Value, "x")
	if err := s.Put(three); err == nil {
		t.Error("a list too many is taken")
	}
}
