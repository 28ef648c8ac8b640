package lists

import (
	"sluice/rules"
	"sluice/rules/names"
)

// nameIndex finds how alike a name and the indexed name most like it are, of those that hold: 0 to 1, and 0 if there is
// none. What it answers depends only on what is in it.
type nameIndex interface {
	Add(id, name string)
	Remove(id string)
	BestAmong(name string, holds func(id string) bool) (score rules.Decimal, id string)
}

func newNames() nameIndex { return names.New() }

// nameTable is the names of one list; a name is its own id in the index.
type nameTable struct {
	expires map[string]int64
	index   nameIndex
}

func (t *nameTable) len() int { return len(t.expires) }

func (t *nameTable) has(name string) bool {
	_, ok := t.expires[name]
	return ok
}

func (t *nameTable) put(name string, expires int64, newIndex func() nameIndex) {
	if t.expires == nil {
		t.expires, t.index = map[string]int64{}, newIndex()
	}
	if !t.has(name) {
		t.index.Add(name, name)
	}
	t.expires[name] = expires
}

func (t *nameTable) remove(name string) {
	delete(t.expires, name)
	t.index.Remove(name)
}

func (t *nameTable) best(name string, now int64) rules.Decimal {
	if t.len() == 0 {
		return rules.Decimal{}
	}
	score, _ := t.index.BestAmong(name, func(id string) bool { return now < t.expires[id] })
	return score
}
