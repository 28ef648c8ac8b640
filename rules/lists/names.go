package lists

import (
	"fmt"

	"sluice/rules"
)

// MaxNameExpiries bounds the different times at which the names of one list expire: names are indexed by when they expire,
// since an index cannot tell which of its names still count.
const MaxNameExpiries = 64

// NameIndex finds how alike a name and the indexed name most like it are. What it answers depends only on what is in it.
type NameIndex interface {
	Add(name string)
	Remove(name string)
	Best(name string) rules.Decimal // 0 to 1; 0 if the index is empty
}

// nameTable is the names of one list: an index for each time at which some of them expire.
type nameTable struct {
	expires map[string]int64
	groups  map[int64]*nameGroup
}

type nameGroup struct {
	index NameIndex
	count int
}

func (t *nameTable) len() int { return len(t.expires) }

func (t *nameTable) has(name string) bool {
	_, ok := t.expires[name]
	return ok
}

// room says whether an entry may expire when it says.
func (t *nameTable) room(list string, expires int64) error {
	if t.groups[expires] == nil && len(t.groups) >= MaxNameExpiries {
		return fmt.Errorf("the names of list %s expire at %d different times, the most allowed: use the end of a month or year for some", list, MaxNameExpiries)
	}
	return nil
}

func (t *nameTable) put(name string, expires int64, newIndex func() NameIndex) {
	if before, again := t.expires[name]; again {
		if before == expires {
			return
		}
		t.remove(name)
	}
	if t.expires == nil {
		t.expires, t.groups = map[string]int64{}, map[int64]*nameGroup{}
	}
	g := t.groups[expires]
	if g == nil {
		g = &nameGroup{index: newIndex()}
		t.groups[expires] = g
	}
	g.index.Add(name)
	g.count++
	t.expires[name] = expires
}

func (t *nameTable) remove(name string) {
	expires := t.expires[name]
	delete(t.expires, name)
	g := t.groups[expires]
	g.index.Remove(name)
	if g.count--; g.count == 0 {
		delete(t.groups, expires)
	}
}

func (t *nameTable) best(name string, now int64) rules.Decimal {
	var best rules.Decimal
	for expires, g := range t.groups {
		if now < expires {
			if score := g.index.Best(name); score.Compare(best) > 0 {
				best = score
			}
		}
	}
	return best
}
