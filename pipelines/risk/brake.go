package risk

import (
	"math/bits"

	"sluice/rules"
	"sluice/schemas/events"
)

// Brakes. A rule with a brake may turn a share of the events asked about into declines, over a window that rolls with event
// time. Both counts are aggregates: 96 tiles a window, a part for each partition. So a rule is held by what was asked and
// declined within its window and up to a tile before it, as far as the gate knows of other partitions: between two gates,
// each can decline up to what its share allows of what it knows.
//
// Events asked about are counted once for all rules of the same kinds and window, declines by rule. A shadow's declines are
// counted under its own id and change nothing for the live ruleset.
const (
	// brakesPrefix starts the keys of what brakes count. It is no field, so no entity of an event has such a key.
	brakesPrefix = "brakes"
	// askedKey is where events asked about are counted. No rule's id has a star.
	askedKey = brakesPrefix + string(keySeparator) + "*"
)

// brake is a rule's brake made ready.
type brake struct {
	*rules.Brake
	asked, declined *definition
	key             []byte // of what counts its declines
}

// asksKinds are the kinds of events that ask for a verdict, with their bits in a brake's definitions. States that are kept
// know the bits: a new kind gets one that is free.
var asksKinds = map[events.Kind]uint32{events.PaymentInitiated: 1, events.LoanApplied: 1 << 1, events.PaymentAuthorized: 1 << 31}

// brake makes the brakes of a ruleset ready. The live ruleset's declines are counted by rule alone, over its versions.
func (e *Engine) brake(set *ruleset) {
	set.brakes = make([]*brake, len(set.rules.Rules))
	owner := ""
	if set.number > 0 {
		owner = set.id + "/"
	}
	for i := range set.rules.Rules {
		rule := &set.rules.Rules[i]
		if rule.Brake == nil {
			continue
		}
		kinds := uint32(0)
		for kind, bit := range asksKinds {
			if rule.On.Has(kind) {
				kinds |= bit
			}
		}
		set.brakes[i] = &brake{Brake: rule.Brake, asked: e.counter(rule.Brake, kinds), declined: e.counter(rule.Brake, 0),
			key: []byte(brakesPrefix + string(keySeparator) + owner + rule.ID)}
	}
}

// counter is the definition of a count over a brake's window, of events asked about of some kinds, or of declines.
func (e *Engine) counter(b *rules.Brake, kinds uint32) *definition {
	id := uint32(b.Window.Minutes())<<2 | kinds // a window is at most 43,200 minutes
	d := e.counts[id]
	if d == nil {
		d = &definition{id: id, fn: rules.Count}
		d.slide(b.Window, 0)
		e.counts[id] = d
		e.matters(brakesPrefix, d)
		for kind, bit := range asksKinds {
			if kinds&bit != 0 {
				e.asked[kind] = append(e.asked[kind], d)
			}
		}
	}
	return d
}

// countAsked counts the event as asked about.
func (s *State) countAsked() {
	for _, d := range s.engine.asked[s.now.event.Kind] {
		s.key = append(s.key[:0], askedKey...)
		s.tally(s.key, d)
	}
}

// charge counts a decline for the rules that caused it.
func (s *State) charge(a *asker, rules []*rules.Rule) {
	for _, rule := range rules {
		b := a.set.brakes[rule.Index]
		s.tally(b.key, b.declined)
	}
}

// tally counts the event in hand in one of the brakes' counts.
func (s *State) tally(key []byte, d *definition) {
	w := s.load(s.now.partition, key, true)
	w.entity.newest = max(w.entity.newest, s.now.ms)
	s.now.partition.change(w)
	w.entity.open(d, 0).add(s.now.ms, 0, 0)
}

// counted reads one of the brakes' counts.
func (s *State) counted(key []byte, d *definition) int64 {
	s.reading.begin(d, s.now.ms)
	s.gather(key, true, d, 0)
	return s.reading.a
}

// Held says whether one more decline would take a rule beyond its share of the events asked about, the present one included.
func (a *asker) Held(rule int) bool {
	b := a.set.brakes[rule]
	s := a.state
	s.key = append(s.key[:0], askedKey...)
	asked := s.counted(s.key, b.asked)
	return asked >= b.After && exceeds(s.counted(b.key, b.declined)+1, b.Share, asked)
}

// exceeds says whether part > share × whole, exactly.
func exceeds(part int64, share rules.Decimal, whole int64) bool {
	power := uint64(1)
	for range share.Exponent {
		power *= 10
	}
	partHi, partLo := bits.Mul64(uint64(part), power)
	mostHi, mostLo := bits.Mul64(uint64(share.Coefficient), uint64(whole))
	return partHi > mostHi || partHi == mostHi && partLo > mostLo
}
