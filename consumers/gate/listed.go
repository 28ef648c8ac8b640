package gate

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/rules/lists"
)

// listing is what the topic "lists" says, and what of it was refused since the last word about it.
type listing struct {
	set     *lists.Set
	told    map[string]bool // lists that have a metric
	changed bool
	refused int
	first   error // why the first of them was refused
	key     string
}

// applyListEntry takes one record of the topic "lists", for the next transaction on. An entry that cannot be read, or for
// which there is no room, is left out.
func (g *gate) applyListEntry(r *kgo.Record) {
	e, removed, err := lists.Decode(r.Key, r.Value)
	switch {
	case err == nil && removed:
		g.lists.set.Remove(e)
	case err == nil:
		err = g.lists.set.Put(e)
	}
	if err != nil {
		if g.lists.refused++; g.lists.refused == 1 {
			g.lists.first, g.lists.key = err, string(r.Key)
		}
	}
	g.lists.changed = true
}

// tellLists says what has become of the entries applied.
func (g *gate) tellLists() {
	l := &g.lists
	if !l.changed {
		return
	}
	if l.refused > 0 {
		g.Log.Error("entries of lists were refused; they cover nothing", "entries", l.refused, "first", l.key, "error", l.first)
		g.metrics.listsRefused.Add(float64(l.refused))
	}
	for list := range l.told {
		if l.set.Len(list) == 0 {
			g.metrics.listEntries.DeleteLabelValues(list)
			delete(l.told, list)
		}
	}
	for _, list := range l.set.Names() {
		g.metrics.listEntries.WithLabelValues(list).Set(float64(l.set.Len(list)))
		l.told[list] = true
	}
	l.changed, l.refused, l.first = false, 0, nil
}
