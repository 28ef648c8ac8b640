package risk

import (
	"strconv"

	"sluice/rules"
	"sluice/schemas/events"
)

// noCurrency marks an entry of State.currency not looked up yet.
const noCurrency = 1<<16 - 1

// Decide stages an event of an owned partition: adds it to the aggregates and asks the rules. It fills all of a
// Decision but where the event stood. An event whose source and id were decided before gets Duplicate and stages nothing.
func (s *State) Decide(p int32, ev *events.Event) events.Decision {
	part := s.owned[p]
	if part == nil {
		panic("risk: Decide for partition " + strconv.Itoa(int(p)) + ", which is not assigned")
	}
	s.shadows = s.shadows[:0]
	live := &s.askers[0]
	d := events.Decision{Event: *ev, Ruleset: live.set.id, Tier: s.tiers[ev.CustomerID]}
	id := identityOf(ev.Source, ev.ID)
	if _, again := part.seen[id]; again || part.past.has(id, len(part.ids)) {
		d.Verdict = events.Duplicate
		return d
	}
	part.seen[id] = struct{}{}
	part.ids = append(part.ids, id)
	s.now = moment{part, ev, ev.Time.UnixMilli(), s.now.number + 1}
	part.clockNow.tick(s.now.ms)
	s.views = s.views[:0]
	for i := range s.askers {
		a := &s.askers[i]
		a.frame.Reset(ev, rules.Context{Tier: d.Tier, Aggregates: a, Lists: s.lists, Brakes: a})
		for _, index := range a.set.before[ev.Kind] {
			a.frame.Set(index, a.Aggregate(index))
		}
	}
	s.count()
	s.countAsked()
	o := live.set.rules.Evaluate(live.frame)
	s.charge(live, o.Charged)
	d.Verdict, d.Score, d.Hits, d.Snoozed = o.Verdict, o.Score, s.told.hits(o), s.told.snoozed(o)
	d.Evidence, d.Trace = s.told.evidence(live, o), s.told.trace(live, o)
	s.ask()
	if s.router != nil {
		s.route(&d)
	}
	return d
}

// count adds the event to every aggregate that it belongs to.
func (s *State) count() {
	e := s.now.event
	for i := range s.engine.adds[e.Kind] {
		k := &s.engine.adds[e.Kind][i]
		var ok bool
		if s.key, ok = appendKey(s.key[:0], k.key, k.key, e); !ok {
			continue
		}
		var w *working
		for _, d := range k.defs {
			if d.where != nil && d.where.Eval(s.askers[d.set].frame) != rules.True {
				continue
			}
			amount, hash, currency, ok := s.contribution(d, e)
			if !ok {
				continue
			}
			if w == nil {
				w = s.load(s.now.partition, s.key, k.key.Shared())
				w.entity.newest = max(w.entity.newest, s.now.ms)
				s.now.partition.change(w)
			}
			if d.fn == rules.Cycle {
				s.carry(d, w)
			} else {
				w.entity.open(d, currency).add(s.now.ms, amount, hash)
			}
			if s.router != nil && k.key == carrierKey {
				s.router.add(d, e.PaymentChannel, s.now.ms)
			}
		}
	}
}

// contribution is what an event adds to an aggregate; false if it lacks the amount or the value.
func (s *State) contribution(d *definition, e *events.Event) (amount int64, hash uint64, currency uint16, ok bool) {
	switch {
	case d.fn == rules.Distinct:
		v := d.field.Of(e)
		return 0, hashOf(v), 0, v != ""
	case d.fn == rules.Cycle:
		return 0, 0, 0, isEdge(e)
	case d.amount != rules.NoAmount:
		amount, ok = d.amount.Of(e)
		return amount, 0, s.packed(e.Currency), ok
	}
	return 0, 0, 0, true
}

// packed is a currency's code in 16 bits, five for each letter: it is kept in the state, where the table's index may not.
func (s *State) packed(c events.Currency) uint16 {
	if s.currency[c] == noCurrency {
		n := uint16(0)
		for _, letter := range []byte(c.Code()) {
			n = n<<5 | uint16(letter-'A'+1)
		}
		s.currency[c] = n
	}
	return s.currency[c]
}

// aggregate reads an aggregate for the event being decided, over the partial sums of all partitions.
func (s *State) aggregate(d *definition, a *rules.Aggregate) rules.Value {
	e := s.now.event
	var ok bool
	if s.key, ok = appendKey(s.key[:0], a.By, a.For, e); !ok {
		return rules.Value{}
	}
	if d.fn == rules.Cycle {
		return s.cycle(d)
	}
	currency := uint16(0)
	if d.amount != rules.NoAmount {
		if e.Currency == 0 {
			return rules.Value{}
		}
		currency = s.packed(e.Currency)
	}
	s.reading.begin(d, s.now.ms)
	s.gather(s.key, a.By.Shared(), d, currency)
	return s.reading.value(e.Currency)
}
