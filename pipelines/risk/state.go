// Package risk decides: it keeps the sliding aggregates of the partitions a gate owns, adds each event to them and asks a
// ruleset for the verdict. It is a state machine over bytes: it knows no Kafka, no clock and no randomness, and the same
// events always give the same decisions. Package rules has the language; consumers/gate feeds it and keeps its state.
// docs/aggregates.md says how exact each aggregate is and what it costs.
package risk

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"sluice/rules"
	"sluice/schemas/events"
)

// State is what one gate knows: aggregates, identities of past events and value tiers. What an event changes is staged
// until Commit or Abort, so that it stands or falls with the Kafka transaction. It is not safe for concurrent use.
type State struct {
	engine *Engine
	askers []asker // one for each ruleset of the engine
	lists  rules.Lists
	owned  map[int32]*partition
	order  []int32 // the owned partitions, ascending
	shared map[string][]partial
	tiers  map[string]string

	partials int // how many, in shared
	now      moment
	reading  reading
	scratch  series
	views    []view // of the event in hand
	key      []byte
	payer    []byte // the key of a transfer's payer
	free     []*working
	currency [256]uint16 // packed codes by events.Currency
	shadows  []Shadow    // of the event decided last
	router   *router     // nil: no payment channel is chosen
	told     telling
}

// partial is one partition's part of a shared entity.
type partial struct {
	partition int32
	blob      string
}

// moment is the event being decided.
type moment struct {
	partition *partition
	event     *events.Event
	ms        int64  // its time, since 1970
	number    uint64 // from 1, of the events this State has decided
}

// NewState returns a State that owns nothing yet.
func NewState(engine *Engine) *State {
	s := &State{owned: map[int32]*partition{}, shared: map[string][]partial{}, tiers: map[string]string{}}
	for i := range s.currency {
		s.currency[i] = noCurrency
	}
	s.SetEngine(engine)
	return s
}

// Engine returns the engine in use.
func (s *State) Engine() *Engine { return s.engine }

// SetEngine changes the rulesets, between transactions only. Aggregates whose definition did not change keep what they have
// counted, those of a shadow that becomes the live ruleset too; the others start from nothing.
func (s *State) SetEngine(engine *Engine) {
	s.mustBeSettled("SetEngine")
	before := s.engine
	s.engine = engine
	s.askers, s.shadows = s.askers[:0], s.shadows[:0]
	for _, set := range engine.sets {
		s.askers = append(s.askers, asker{s, set, set.rules.NewFrame()})
	}
	s.router = newRouter(s, engine.routes)
	if before != nil && !maps.Equal(before.idle, engine.idle) {
		for _, p := range s.owned {
			s.requeue(p)
		}
	}
}

// SetLists gives the lists that conditions and snoozes ask, from the next event on; nil: every list is empty.
func (s *State) SetLists(lists rules.Lists) { s.lists = lists }

// mustBeSettled holds the caller to its order of calls: what is staged belongs to one engine and one assignment.
func (s *State) mustBeSettled(call string) {
	for _, p := range s.owned {
		if len(p.staged)+len(p.ids) > 0 {
			panic("risk: " + call + " within a transaction; Commit or Abort first")
		}
	}
}

// Assign starts to own a partition, which is empty until restored.
func (s *State) Assign(p int32) {
	s.Drop(p)
	s.owned[p] = newPartition(p)
	s.order = append(s.order, p)
	slices.Sort(s.order)
}

// Revoke stops owning a partition. What it shares stays, as another gate's part. What is staged for it is forgotten.
func (s *State) Revoke(p int32) {
	if part := s.owned[p]; part != nil {
		s.router.forgetAll()
		s.forgetStaged(part)
		delete(s.owned, p)
		s.order = slices.DeleteFunc(s.order, func(q int32) bool { return q == p })
	}
}

// Drop forgets a partition whole, what it shares included.
func (s *State) Drop(p int32) {
	s.Revoke(p)
	s.router.forgetAll()
	for key := range s.shared {
		s.setPartial(p, key, "")
	}
}

// Owned lists the partitions owned, ascending.
func (s *State) Owned() []int32 { return slices.Clone(s.order) }

// Restore takes one gate.state record of an owned partition; nil is a tombstone. Keys may come in any order, the records
// of one key in theirs.
func (s *State) Restore(p int32, key, value []byte) error {
	part := s.owned[p]
	if part == nil {
		return fmt.Errorf("restore %q: partition %d is not assigned", key, p)
	}
	if at, ok := chunkOf(string(key)); ok {
		if value == nil {
			return nil // chunks are only ever written over
		}
		c, last, err := part.past.restore(at, value)
		if last {
			part.clock, part.clockNow = c, c
		}
		return wrap(err, p, key)
	}
	return s.take(p, part, key, value)
}

// Follow takes one gate.state record of a partition that another gate owns, and keeps it if it is shared. It does nothing
// for an owned partition, whose State knows better.
func (s *State) Follow(p int32, key, value []byte) error {
	if s.owned[p] != nil || !isShared(string(key)) {
		return nil
	}
	return s.take(p, nil, key, value)
}

// take stores an entity's record. part is nil for another gate's.
func (s *State) take(p int32, part *partition, key, value []byte) error {
	if value != nil {
		if err := check(string(value)); err != nil {
			return wrap(err, p, key)
		}
	}
	name, blob := string(key), string(value)
	known := part != nil && s.stored(part, name, isShared(name)) != ""
	if isShared(name) {
		s.setPartial(p, name, blob)
	} else if part != nil {
		part.set(name, blob)
	}
	if part != nil && blob != "" && !known {
		s.enqueue(part, name, blob)
	}
	return nil
}

func wrap(err error, p int32, key []byte) error {
	if err != nil {
		return fmt.Errorf("restore %q of partition %d: %w", key, p, err)
	}
	return nil
}

// SetTier notes a customer's value tier; "" forgets it.
func (s *State) SetTier(customer, tier string) {
	if tier == "" {
		delete(s.tiers, customer)
		return
	}
	for _, known := range []string{"platinum", "gold", "silver", "bronze", "dormant"} {
		if tier == known {
			tier = known // one string for all customers
		}
	}
	s.tiers[strings.Clone(customer)] = tier
}

// Entities returns how many entities are kept, each partition's part of a shared one by itself.
func (s *State) Entities() int {
	n := s.partials
	for _, p := range s.owned {
		n += len(p.private)
	}
	return n
}

// Staged yields a gate.state record for each entity changed since the last Commit or Abort, by partition and key. The
// slices are the caller's to keep. A nil value is a tombstone.
func (s *State) Staged(yield func(p int32, key, value []byte)) {
	for _, id := range s.order {
		p := s.owned[id]
		for _, w := range p.toWrite() {
			s.seal(w)
			yield(id, []byte(w.key), []byte(w.blob))
		}
		p.past.records(p.ids, p.clockNow, func(at int, value []byte) { yield(id, []byte(chunkKey(at)), value) })
		for _, key := range p.gone {
			if w := p.staged[key]; w == nil || !w.changed {
				yield(id, []byte(key), nil)
			}
		}
	}
}

// Commit applies what is staged.
func (s *State) Commit() {
	for _, id := range s.order {
		p := s.owned[id]
		changed := p.toWrite()
		for _, w := range changed {
			s.seal(w)
			if w.shared {
				s.storePartial(id, w.key, w.blob)
			} else {
				p.set(w.key, w.blob)
			}
			if !w.queued {
				s.enqueue(p, w.key, w.blob)
			}
		}
		for _, seen := range p.ids {
			p.past.add(seen)
		}
		p.clock = p.clockNow
		p.gone = p.gone[:0]
		s.sweep(p, len(changed))
		s.forgetStaged(p)
	}
}

// seal encodes an entity, once for Staged and Commit.
func (s *State) seal(w *working) {
	if w.blob == "" {
		s.key = w.entity.encode(s.key[:0])
		w.blob = string(s.key)
	}
}

// Abort forgets what is staged.
func (s *State) Abort() {
	for _, p := range s.owned {
		s.forgetStaged(p)
	}
	s.router.forgetAll()
}

func (s *State) forgetStaged(p *partition) {
	for _, w := range p.staged {
		s.recycle(w)
	}
	clear(p.staged)
	p.changed, p.sorted = p.changed[:0], false
	clear(p.seen)
	p.ids, p.clockNow = p.ids[:0], p.clock
}

// setPartial stores one partition's part of a shared entity, which others may have changed; "" removes it.
func (s *State) setPartial(p int32, key, blob string) {
	s.router.forget(key)
	s.storePartial(p, key, blob)
}

// storePartial is setPartial for what this State has counted itself.
func (s *State) storePartial(p int32, key, blob string) {
	parts := s.shared[key]
	for i := range parts {
		if parts[i].partition != p {
			continue
		}
		if blob != "" {
			parts[i].blob = blob
			return
		}
		s.partials--
		if len(parts) == 1 {
			delete(s.shared, key)
			return
		}
		s.shared[key] = slices.Delete(parts, i, i+1)
		return
	}
	if blob != "" {
		s.shared[key] = append(parts, partial{p, blob})
		s.partials++
	}
}

// Keys of gate.state: "customer:C42", "card+merchant:T1\x1fM7", "ids:01f". Which entities are shared follows from the key.
const (
	keySeparator  = ':'
	pairSeparator = '\x1f' // in no identifier: control characters are refused
	idsPrefix     = "ids:"
)

// appendKey writes the key of the entity that fields of an event name; false if the event lacks one of them.
func appendKey(out []byte, by, of rules.Key, e *events.Event) ([]byte, bool) {
	first := of.First.Of(e)
	if first == "" {
		return out, false
	}
	out = append(out, by.First.String()...)
	if by.Second == rules.NoField {
		out = append(out, keySeparator)
		return append(out, first...), true
	}
	second := of.Second.Of(e)
	out = append(out, '+')
	out = append(out, by.Second.String()...)
	out = append(out, keySeparator)
	out = append(out, first...)
	out = append(out, pairSeparator)
	return append(out, second...), second != ""
}

// prefix is what a key starts with: the fields it is made of.
func prefix(key string) string { return key[:max(0, strings.IndexByte(key, keySeparator))] }

// isShared says whether a gate.state key is of an entity that many customers touch.
func isShared(key string) bool {
	fields, _, ok := strings.Cut(key, string(keySeparator))
	if !ok || fields == "ids" {
		return false
	}
	first, second, _ := strings.Cut(fields, "+")
	return first != rules.Customer.String() && second != rules.Customer.String()
}

func chunkKey(at int) string { return idsPrefix + strconv.FormatInt(int64(at), 16) }

func chunkOf(key string) (int, bool) {
	text, ok := strings.CutPrefix(key, idsPrefix)
	if !ok {
		return 0, false
	}
	at, err := strconv.ParseInt(text, 16, 32)
	if err != nil {
		return -1, true
	}
	return int(at), true
}
