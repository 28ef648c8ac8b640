package backtest

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"sluice/rules"
	"sluice/schemas/events"
)

// side is what is counted of one ruleset.
type side struct {
	rules    *rules.Ruleset // nil: recorded verdicts, of which no rules are known
	index    map[string]int
	byRule   []*tally
	overlap  [][]int64 // events on which both rules fired
	alone    []int64   // events on which no other fired
	all      tally     // flagged
	declined tally
	verdicts [events.Duplicate + 1]int64
	scores   map[int32]*[2]int64 // events: good, fraud
	known    bool                // an answer has come
	firing   []int               // scratch: the rules that fired
}

// tally is what is counted of events, by rule or in all.
type tally struct {
	events Confusion
	money  till
}

func (t *tally) count(e *events.Event, fraud, flagged bool) {
	t.events.count(fraud, flagged)
	t.money.count(e, fraud, flagged)
}

func newSide(rs *rules.Ruleset) *side {
	s := &side{rules: rs, index: map[string]int{}, all: tally{money: till{}}, declined: tally{money: till{}}, scores: map[int32]*[2]int64{}}
	if rs == nil {
		return s
	}
	for i := range rs.Rules {
		s.index[rs.Rules[i].ID] = i
		s.byRule = append(s.byRule, &tally{money: till{}})
		s.overlap = append(s.overlap, make([]int64, len(rs.Rules)))
	}
	s.alone = make([]int64, len(rs.Rules))
	return s
}

// take counts an answer.
func (s *side) take(e *events.Event, fraud bool, a *answer) {
	if a.verdict == events.NoVerdict {
		return
	}
	s.known = true
	s.verdicts[a.verdict]++
	s.all.count(e, fraud, a.flagged())
	s.declined.count(e, fraud, a.verdict == events.Decline)
	n := s.scores[a.score]
	if n == nil {
		n = &[2]int64{}
		s.scores[a.score] = n
	}
	n[truth(fraud)]++
	s.firing = s.firing[:0]
	for i := range a.hits {
		s.firing = append(s.firing, s.index[a.hits[i].Rule])
	}
	for _, i := range s.firing {
		s.byRule[i].count(e, fraud, true)
		for _, j := range s.firing {
			s.overlap[i][j]++
		}
	}
	if len(s.firing) == 1 {
		s.alone[s.firing[0]]++
	}
}

func truth(fraud bool) int {
	if fraud {
		return 1
	}
	return 0
}

// meter counts what both sides say.
type meter struct {
	unit      Unit
	fraud     tally // of all events asked: nothing flagged, so that its money is that of all fraud
	customers map[uint64]*person
	accounts  map[uint64]*person // with the unit account
	days      map[int64]*day
	changes   map[change]*changed
}

// person is a customer or account.
type person struct {
	fraud bool
	said  [2]said // by the new ruleset, and by the one it is compared with
}

// said is what a ruleset said of a person's events.
type said struct {
	known, review, decline bool
	score                  int32    // the highest
	rules                  []uint64 // bits of those that fired; nil: none
}

// day counts one day of events.
type day struct {
	asked, fraud int64
	flagged      [2]Confusion
	declined     [2]int64
	scores       [2]map[int32]int64
}

// change is a verdict that became another.
type change struct{ from, to events.Verdict }

type changed struct {
	events [2]int64 // good, fraud
	money  map[events.Currency]*[2]sum
}

func newMeter(u Unit) *meter {
	return &meter{unit: u, fraud: tally{money: till{}}, customers: map[uint64]*person{}, accounts: map[uint64]*person{}, days: map[int64]*day{},
		changes: map[change]*changed{}}
}

const dayLength = int64(24 * time.Hour / time.Second)

// take counts an event.
func (m *meter) take(r *Run, e *events.Event, fraud bool, now, then *answer) {
	m.fraud.count(e, fraud, false)
	r.rules.take(e, fraud, now)
	r.against.take(e, fraud, then)
	answers := [2]*answer{now, then}
	m.person(m.customers, e.CustomerID, r, fraud, answers)
	if m.unit == ByAccount {
		m.person(m.accounts, e.CustomerID, r, fraud, answers)
		if e.CounterpartyID != "" && e.CounterpartyID != e.CustomerID {
			m.person(m.accounts, e.CounterpartyID, r, fraud, answers)
		}
	}
	m.day(e, fraud, answers)
	m.change(e, fraud, now.verdict, then.verdict)
}

func (m *meter) person(of map[uint64]*person, id string, r *Run, fraud bool, answers [2]*answer) {
	key := hash(id)
	p := of[key]
	if p == nil {
		p = &person{}
		of[key] = p
	}
	p.fraud = p.fraud || fraud
	for i, s := range [2]*side{r.rules, r.against} {
		a, said := answers[i], &p.said[i]
		if a.verdict == events.NoVerdict {
			continue
		}
		if !said.known || a.score > said.score {
			said.score = a.score
		}
		said.known = true
		said.review = said.review || a.verdict == events.Review
		said.decline = said.decline || a.verdict == events.Decline
		if len(s.firing) > 0 && said.rules == nil {
			said.rules = make([]uint64, (len(s.byRule)+63)/64)
		}
		for _, rule := range s.firing {
			said.rules[rule/64] |= 1 << (rule % 64)
		}
	}
}

func (s *said) fired(rule int) bool { return s.rules != nil && s.rules[rule/64]>>(rule%64)&1 == 1 }

func (m *meter) day(e *events.Event, fraud bool, answers [2]*answer) {
	at := e.Time.Unix() / dayLength
	d := m.days[at]
	if d == nil {
		d = &day{scores: [2]map[int32]int64{{}, {}}}
		m.days[at] = d
	}
	d.asked++
	d.fraud += int64(truth(fraud))
	for i, a := range answers {
		if a.verdict == events.NoVerdict {
			continue
		}
		d.flagged[i].count(fraud, a.flagged())
		d.scores[i][a.score]++
		if a.verdict == events.Decline {
			d.declined[i]++
		}
	}
}

func (m *meter) change(e *events.Event, fraud bool, now, then events.Verdict) {
	if then == events.NoVerdict || now == then {
		return
	}
	c := m.changes[change{then, now}]
	if c == nil {
		c = &changed{money: map[events.Currency]*[2]sum{}}
		m.changes[change{then, now}] = c
	}
	c.events[truth(fraud)]++
	if e.Currency == 0 || e.Amount <= 0 {
		return
	}
	s := c.money[e.Currency]
	if s == nil {
		s = &[2]sum{}
		c.money[e.Currency] = s
	}
	s[truth(fraud)].add(e.Amount)
}

// units are the persons to count with the meter's unit, nil when events are.
func (m *meter) units() map[uint64]*person {
	switch m.unit {
	case ByCustomer:
		return m.customers
	case ByAccount:
		return m.accounts
	}
	return nil
}

// stability is the index of the scores of a side between the first and the second half of the days.
func (m *meter) stability(side int) Ratio {
	days := slices.Sorted(maps.Keys(m.days))
	halves := [2]map[int32]int64{{}, {}}
	if len(days) > 0 {
		middle := days[0] + (days[len(days)-1]-days[0]+1)/2
		for _, at := range days {
			half := 0
			if at >= middle {
				half = 1
			}
			for s, n := range m.days[at].scores[side] {
				halves[half][s] += n
			}
		}
	}
	return stability(halves[0], halves[1])
}

// sortedScores lists scores upwards.
func sortedScores(scores map[int32]*[2]int64) []ScoreCount {
	all := make([]ScoreCount, 0, len(scores))
	for s, n := range scores {
		all = append(all, ScoreCount{s, n[0], n[1]})
	}
	slices.SortFunc(all, func(a, b ScoreCount) int { return cmp.Compare(a.Score, b.Score) })
	return all
}
