package rules

import "sluice/schemas/events"

// Outcome is what a ruleset says of one event. Its slices are the frame's: good until the next Reset.
//
// The verdict is made in this order. The scores of the rules that fired add up and are compared with the outcomes. A rule
// with a verdict gives at least that. A rule with the verdict Approve lifts all of this but final blocks. A rule held by its
// brake can only ask for review: with v the verdict of all other rules and w that of all, the verdict is max(v, min(w, Review)).
type Outcome struct {
	Score   int32          // of all rules that fired, lifted or not
	Verdict events.Verdict // Approve, Review or Decline; Observed for events that ask nothing
	Hits    []*Rule        // the rules that fired. One that fired as a mere review for want of data has Score 0 here.
	Errors  []string       // ids of rules that did not fire because something is unknown or too large and they do not say what then
	Snoozed []*Rule        // would have fired, but are snoozed for an entity of the event
	Braked  []*Rule        // of Hits, those held by their brake
	Charged []*Rule        // of Hits, those whose brake counts this decline; none unless the verdict is Decline
}

func (o *Outcome) reset() {
	*o = Outcome{Hits: o.Hits[:0], Errors: o.Errors[:0], Snoozed: o.Snoozed[:0], Braked: o.Braked[:0], Charged: o.Charged[:0]}
}

// Asks says whether events of a kind want a verdict. An authorization wants one of rulesets that have rules for it; others
// observe it, and it holds the money: the issuer has agreed, and nothing has moved.
func Asks(kind events.Kind) bool {
	return kind == events.PaymentInitiated || kind == events.LoanApplied || kind == events.PaymentAuthorized
}

// AsksOf says whether an event wants a verdict of every ruleset. Reserves, their release and what a payment channel pays the house are the
// house's own settlement: nobody asks for them, so they are observed.
func AsksOf(e *events.Event) bool {
	return Asks(e.Kind) && e.Kind != events.PaymentAuthorized && !events.HouseOwn(e.Purpose)
}

// asksOf says whether an event wants a verdict of this ruleset.
func (r *Ruleset) asksOf(e *events.Event) bool {
	return AsksOf(e) || e.Kind == events.PaymentAuthorized && len(r.byKind[e.Kind]) > 0
}

// Evaluate asks every rule of the event's kind.
func (r *Ruleset) Evaluate(f *Frame) Outcome {
	for i, holds := range r.asks[f.event.Kind] {
		f.truths[i] = holds(f)
	}
	r.settle(f, f.snoozed)
	return f.outcome
}

// settle makes the outcome of the truths that conditions came to.
func (r *Ruleset) settle(f *Frame, snoozed func(*Rule) bool) {
	o := &f.outcome
	o.reset()
	var all, free tally // of every rule that fired; of those that no brake holds
	asked := r.byKind[f.event.Kind]
	for i, t := range f.truths[:len(asked)] {
		if t == False { // most are: their rules are not even looked at
			continue
		}
		rule := asked[i]
		hit := rule.fires(t)
		switch {
		case hit == nil:
			if t == Unknown && rule.Missing == MissingUndeclared {
				o.Errors = append(o.Errors, rule.ID)
			}
			continue
		case snoozed(rule):
			o.Snoozed = append(o.Snoozed, rule)
			continue
		}
		o.Hits = append(o.Hits, hit)
		all.add(hit)
		if rule.Brake != nil && f.brakes != nil && f.brakes.Held(rule.Index) {
			o.Braked = append(o.Braked, hit)
		} else {
			free.add(hit)
		}
	}
	o.Score, o.Verdict = all.score, events.Observed
	if r.asksOf(f.event) {
		t := r.Outcomes[f.event.Kind.Family()]
		o.Verdict = max(free.verdict(t), min(all.verdict(t), events.Review))
	}
	if o.Verdict == events.Decline {
		for _, hit := range o.Hits {
			if hit.Brake != nil && (hit.Score > 0 || hit.Verdict == events.Decline) {
				o.Charged = append(o.Charged, hit)
			}
		}
	}
}

// fires is the rule as it fires when its condition comes to t: itself, a weaker copy of itself, or nil.
func (rule *Rule) fires(t Truth) *Rule {
	switch {
	case t == True, t == Unknown && rule.Missing == MissingFire:
		return rule
	case t == Unknown && rule.Missing == MissingReview:
		return rule.weak
	}
	return nil
}

// weaken is the rule as it fires when something is unknown and that is worth a review. A final block stays final.
func (rule *Rule) weaken() *Rule {
	weak := *rule
	weak.Score, weak.Verdict = 0, events.Review
	return &weak
}

// snoozed says whether the rule is snoozed for any entity of the event.
func (f *Frame) snoozed(rule *Rule) bool {
	if f.lists == nil {
		return false
	}
	for field := Customer; field <= Category; field++ {
		value := field.Of(f.event)
		if value == "" {
			continue
		}
		f.snooze = append(append(append(append(append(f.snooze[:0], rule.ID...), '/'), field.String()...), '/'), value...)
		if f.lists.Listed(SnoozeList, string(f.snooze), f.event.Time) {
			return true
		}
	}
	return false
}

// tally is what some of the rules that fired come to.
type tally struct {
	score       int32
	worst       events.Verdict // of the rules with a verdict
	final       events.Verdict // of those that are never lifted
	approvedAny bool
}

func (t *tally) add(hit *Rule) {
	t.score += hit.Score
	t.worst = max(t.worst, hit.Verdict)
	if hit.Final {
		t.final = max(t.final, hit.Verdict)
	}
	t.approvedAny = t.approvedAny || hit.Verdict == events.Approve
}

func (t *tally) verdict(outcomes Thresholds) events.Verdict {
	switch {
	case t.approvedAny:
		return max(events.Approve, t.final)
	case outcomes.Decline > 0 && t.score >= outcomes.Decline:
		return events.Decline
	case outcomes.Review > 0 && t.score >= outcomes.Review:
		return max(events.Review, t.worst)
	}
	return max(events.Approve, t.worst)
}
