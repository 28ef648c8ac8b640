package risk

// view is an entity as one event sees it: what its own partition has staged, and what others know of a shared one. Others do
// not change while an event is decided, so each entity is looked up once an event, however many aggregates are read of it.
type view struct {
	own    *working
	staged []*working // by other partitions owned here
	newest []int64    // of their partitions, by index of staged
	kept   []kept     // committed by other partitions owned here, or followed
}

// kept is another partition's encoded part; newest is its partition's newest event if that is owned here, 0 otherwise.
type kept struct {
	blob   string
	newest int64
}

// look finds an entity, for the event in hand.
func (s *State) look(key []byte, shared bool) *view {
	for i := range s.views {
		if v := &s.views[i]; v.own.key == string(key) {
			return v
		}
	}
	if len(s.views) < cap(s.views) {
		s.views = s.views[:len(s.views)+1] // keeps the room of a view that was here before
	} else {
		s.views = append(s.views, view{})
	}
	v := &s.views[len(s.views)-1]
	v.own, v.staged, v.newest, v.kept = s.load(s.now.partition, key, shared), v.staged[:0], v.newest[:0], v.kept[:0]
	if shared {
		s.lookElsewhere(v)
	}
	return v
}

// lookElsewhere finds what other partitions know: staged here, committed here, or followed.
func (s *State) lookElsewhere(v *view) {
	for _, id := range s.order {
		p := s.owned[id]
		if p == s.now.partition || len(p.staged) == 0 {
			continue
		}
		if w := p.staged[v.own.key]; w != nil {
			v.staged, v.newest = append(v.staged, w), append(v.newest, p.now())
		}
	}
	for _, part := range s.shared[v.own.key] {
		if part.partition == s.now.partition.id {
			continue
		}
		newest := int64(0)
		if p := s.owned[part.partition]; p != nil {
			if p.staged[v.own.key] != nil {
				continue
			}
			newest = p.now()
		}
		v.kept = append(v.kept, kept{part.blob, newest})
	}
}

// gather adds one series of an entity to the reading, over the partial sums of all partitions. What is idle in an owned
// partition counts as forgotten, as in load.
func (s *State) gather(key []byte, shared bool, d *definition, currency uint16) {
	v := s.look(key, shared)
	if found := v.own.entity.find(d.id, currency); found != nil {
		s.reading.gather(found)
	}
	for i, w := range v.staged {
		if found := w.entity.find(d.id, currency); found != nil && !found.idle(v.newest[i]) {
			s.reading.gather(found)
		}
	}
	for _, k := range v.kept {
		if s.scratch.decodeOne(k.blob, d, currency) && !s.scratch.idle(k.newest) {
			s.reading.gather(&s.scratch)
		}
	}
}
