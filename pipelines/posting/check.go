package posting

import (
	"fmt"
	"math/big"
	"strings"

	"sluice/pipelines/ledger"
	"sluice/pipelines/payments"
	"sluice/rules"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// combo is one purpose with one method: there are so few that every check goes through all of them.
type combo struct {
	purpose eventsv1.PaymentPurpose
	method  eventsv1.PaymentMethod
}

func (c combo) index() int { return int(c.purpose)*methods + int(c.method) }

func (c combo) String() string {
	return fmt.Sprintf("%s by %s", payments.PurposeName(c.purpose), payments.MethodName(c.method))
}

func (c combo) words() map[string]string {
	word := func(name string, n int32) string {
		if n == 0 {
			return ""
		}
		return name
	}
	return map[string]string{
		"payment.purpose": word(payments.PurposeName(c.purpose), int32(c.purpose)),
		"payment.method":  word(payments.MethodName(c.method), int32(c.method)),
	}
}

// combos lists all; those that events have, or with the unspecified ones too.
func combos(unspecified bool) []combo {
	first := 1
	if unspecified {
		first = 0
	}
	var all []combo
	for p := first; p < purposes; p++ {
		for m := first; m < methods; m++ {
			all = append(all, combo{eventsv1.PaymentPurpose(p), eventsv1.PaymentMethod(m)})
		}
	}
	return all
}

// check refuses what would post wrongly on some payment, and makes the tables by purpose and method.
func (l *loader) check() {
	before := l.Count()
	l.who()
	alone := l.Count() == before
	for i := range l.r.parties {
		l.checkParty(&l.r.parties[i], &l.partyAt[i], alone)
	}
	if l.Count() > before {
		return
	}
	l.r.follows = make([][]follow, purposes*methods)
	for i := range l.r.effects {
		l.checkEffect(&l.r.effects[i], &l.effectAt[i])
	}
	l.feesBackAlike()
	for _, c := range combos(false) {
		l.checkTakings(c)
		l.checkLinked(c)
	}
}

// who finds the one party of each purpose and method.
func (l *loader) who() {
	l.r.who = make([]*party, purposes*methods)
	f := partyTerms.NewFrame()
	var without []string
	clash := map[[2]int]bool{}
	for _, c := range combos(true) {
		f.Reset(&events.Event{Kind: events.PaymentInitiated, Purpose: c.purpose, Method: c.method}, rules.Context{})
		first := -1
		for i := range l.r.parties {
			if l.r.parties[i].when.Eval(f) != rules.True {
				continue
			}
			named := c.purpose != 0 && c.method != 0
			if first >= 0 && named && !clash[[2]int{first, i}] {
				clash[[2]int{first, i}] = true
				other := &l.r.parties[first]
				l.Fail(l.partyAt[i].when, "when: a %s is a payment of %s on line %d too; only one of them may hold, so add to one what the other has not",
					c, other.id, other.line)
			}
			if first < 0 {
				first = i
				l.r.who[c.index()] = &l.r.parties[i]
			}
		}
		if first < 0 && c.purpose != 0 && c.method != 0 {
			without = append(without, c.String())
		}
	}
	if len(without) > 0 {
		const most = 4
		more := ""
		if len(without) > most {
			more = fmt.Sprintf(" and %d others", len(without)-most)
			without = without[:most]
		}
		l.Fail(l.at, "nobody pays for a %s%s; add a party for it", strings.Join(without, ", a "), more)
	}
}

// checkParty refuses accounts that a payment does not have or move money of. alone says that no two parties hold at once.
func (l *loader) checkParty(p *party, at *partyPlaces, alone bool) {
	holds := false
	for _, c := range combos(false) {
		if l.r.who[c.index()] != p {
			continue
		}
		holds = true
		for _, x := range []struct {
			a  account
			at rules.Node
		}{{p.payer, at.payer}, {p.payee, at.payee}} {
			if !has(c.purpose, x.a.owner) {
				l.Fail(x.at, "a %s has no %s, so there is no account %s; name another, or narrow when:",
					payments.PurposeName(c.purpose), ownerNames[x.a.owner], x.a)
				return
			}
		}
	}
	switch {
	case !holds && alone:
		l.Fail(at.when, "when: no payment is one of %s; take it out", p.id)
	case same(p.payer, p.payee):
		l.Fail(at.payee, "payee: %s pays itself; name another account", p.payee)
	case !moves(p.payer):
		l.Fail(at.payer, "payer: a payment moves money of customers, merchants, channels and banks; %s is none of them", p.payer)
	case !moves(p.payee):
		l.Fail(at.payee, "payee: a payment moves money to customers, merchants, channels and banks; %s is none of them", p.payee)
	case p.keeps && (p.kept.form.name != "frozen" && p.kept.form.name != "disputed" || p.kept.owner != p.payee.owner):
		l.Fail(at.kept, "kept: a dispute keeps the payee's money in an account of his, frozen(…) or disputed(…), not in %s", p.kept)
	}
}

// moves says whether payments may move money from or to an account.
func moves(a account) bool {
	switch a.form.name {
	case "wallet", "account", "merchant", "reserve", "clearing", "bank":
		return true
	}
	return false
}

// same says whether two accounts can be one: an account without an id is the wallet.
func same(a, b account) bool {
	wallet := func(x account) bool {
		return x.form != nil && x.owner == ofCustomer && (x.form.name == "wallet" || x.form.name == "account")
	}
	return a == b || wallet(a) && wallet(b)
}

// resolve is an account in a combo: payer and payee are somebody's.
func (l *loader) resolve(a account, c combo) account {
	switch who := l.r.who[c.index()]; {
	case a.form != nil:
		return a
	case a.payee:
		return who.payee
	default:
		return who.payer
	}
}

func (l *loader) checkEffect(x *effect, at *effectPlaces) {
	x.fee = x.on == payments.OnMove && x.kind == payments.KindFee && x.debit.side() == payeeSide && x.credit.String() == "fees"
	x.shared = x.debit.side() == payeeSide || x.credit.side() == payeeSide
	x.side = payerSide
	if x.shared || x.debit.side() == anySide && x.credit.side() == anySide && x.amount.Names("fee") {
		x.side = payeeSide
	}
	if !l.checkSides(x, at) || !l.checkAmount(x, at) {
		return
	}
	holds, exchanges := false, false
	for _, c := range combos(true) {
		if l.r.who[c.index()] == nil {
			continue
		}
		hold, fail, exchange := true, false, true
		if x.when != nil {
			hold, fail = terms.Can(x.when, c.words(), nil)
			exchange, _ = terms.Can(x.when, c.words(), map[string]bool{"payment.exchanged": true})
		}
		if !hold {
			continue
		}
		holds, exchanges = true, exchanges || exchange
		if c.purpose != 0 && c.method != 0 && !l.checkCombo(x, at, c) {
			return
		}
		l.r.follows[c.index()] = append(l.r.follows[c.index()], follow{x, !fail})
	}
	switch two := x.debit.side() != anySide && x.credit.side() != anySide && x.debit.side() != x.credit.side(); {
	case !holds:
		l.Fail(at.when, "when: no payment is ever one of the effect %s; correct it or take the effect out", x.id)
	case two && exchanges:
		l.Fail(at.credit, "credit: %s and %s have different currencies where payer and payee do, and a transfer has one; add !payment.exchanged to when:",
			x.debit, x.credit)
	case x.side == payerSide && exchanges && x.amount.Names("fee"):
		l.Fail(at.amount, "amount: the fee is in the payee's currency, %s to %s in the payer's; add !payment.exchanged to when:",
			x.debit, x.credit)
	}
}

// checkSides refuses what can be seen of the two accounts alone.
func (l *loader) checkSides(x *effect, at *effectPlaces) bool {
	if x.debit.unit() != x.credit.unit() {
		hint := "write two effects: one takes the points (credit: points_issued), the other pays the money (debit: rewards)"
		if x.credit.unit() == ledger.Point {
			hint = "points come from points_issued"
		}
		l.Fail(at.credit, "credit: %s counts %s and %s counts %s, and one does not turn into the other by a transfer; %s",
			x.debit, x.debit.unit(), x.credit, x.credit.unit(), hint)
		return false
	}
	return true
}

// checkCombo refuses what is wrong for one purpose and method.
func (l *loader) checkCombo(x *effect, at *effectPlaces, c combo) bool {
	debit, credit := l.resolve(x.debit, c), l.resolve(x.credit, c)
	for _, s := range []struct {
		a  account
		at rules.Node
	}{{debit, at.debit}, {credit, at.credit}} {
		if !has(c.purpose, s.a.owner) {
			l.Fail(s.at, "a %s has no %s, so there is no account %s; narrow when:, as in payment.purpose == \"%s\"", payments.PurposeName(c.purpose),
				ownerNames[s.a.owner], s.a, map[owner]string{ofCounterparty: "transfer", ofMerchant: "purchase"}[s.a.owner])
			return false
		}
	}
	named := func(a, in account) string {
		if a.form == nil {
			return fmt.Sprintf("%s is %s in a %s, and it", a, in, c)
		}
		return in.String()
	}
	switch f := debit.form; {
	case same(debit, credit):
		l.Fail(at.credit, "credit: in a %s the effect moves money from %s to itself; name another account or narrow when:", c, debit)
	case f.name == "frozen", f.name == "reserve", f.name == "disputed":
		l.Fail(at.debit, "debit: %s has nothing of this payment, so there is nothing to take; take it from payee", named(x.debit, debit))
	case !f.from && (f.name != "channel_costs" || credit.form.taken):
		l.Fail(at.debit, "debit: %s would pay out money that nobody has brought; take it from payer, payee, fees or rewards",
			named(x.debit, debit))
	default:
		return true
	}
	return false
}

// mostPosted bounds what an effect can come to on the largest payment: 90 such amounts still fit the book.
const mostPosted = 100 * events.MaxAmount

// checkAmount refuses amounts without bounds, below zero, or always zero.
func (l *loader) checkAmount(x *effect, at *effectPlaces) bool {
	limit := new(big.Rat).SetInt64(mostPosted)
	span := x.amount.Range()
	high, _ := new(big.Rat).SetString(span.High)
	switch {
	case span.Negative && span.Low == "":
		l.Fail(at.amount, "amount: it can be below zero; write max(%s, 0)", x.amount.Text)
	case span.Negative:
		l.Fail(at.amount, "amount: it can be below zero, down to %s; write max(%s, 0)", span.Low, x.amount.Text)
	case !span.Bounded || high.Cmp(limit) > 0:
		l.Fail(at.amount, "amount: it can be more than the book takes, %s; write min(%s, 1000000)", limit.FloatString(0), x.amount.Text)
	case high.Sign() == 0:
		l.Fail(at.amount, "amount: it is always zero; correct it or take the effect out")
	default:
		return true
	}
	return false
}

// checkTakings refuses effects that together take more from a payee than the payment brought him. Rounding can double a part: of
// several effects it is half of the payment that they may take.
func (l *loader) checkTakings(c combo) {
	one, half := big.NewRat(1, 1), big.NewRat(1, 2)
	sum, takers := new(big.Rat), 0
	for i := range l.r.effects {
		x, at := &l.r.effects[i], &l.effectAt[i]
		if x.on != payments.OnMove || !l.holdsIn(x, c) || !same(l.resolve(x.debit, c), l.resolve(account{payee: true}, c)) {
			continue
		}
		part, plus, known := x.amount.AtMost(terms, "amount")
		if !known || plus.Sign() > 0 || part.Cmp(one) > 0 {
			l.failOnce(at.amount, "amount: it can be more than the payment brings %s, who pays it; write min(%s, amount)", x.debit, x.amount.Text)
			return
		}
		takers++
		if x.round == rules.RoundUp {
			part = one
		}
		if sum.Add(sum, part); takers > 1 && sum.Cmp(half) > 0 {
			l.failOnce(at.amount, "amount: with the effects before it %s pays up to %s of a %s; several effects may take half of it, "+
				"since each is rounded", x.debit, percent(sum), c)
			return
		}
	}
}

func percent(x *big.Rat) string {
	return strings.TrimSuffix(new(big.Rat).Mul(x, big.NewRat(100, 1)).FloatString(1), ".0") + " %"
}

// failOnce notes a mistake that several combos have once.
func (l *loader) failOnce(n rules.Node, format string, args ...any) {
	key := fmt.Sprintf("at %d", l.Line(n))
	if _, said := l.ids[key]; said {
		return
	}
	l.ids[key] = l.Line(n)
	l.Fail(n, format, args...)
}

func (l *loader) holdsIn(x *effect, c combo) bool {
	for _, f := range l.r.follows[c.index()] {
		if f.effect == x {
			return true
		}
	}
	return false
}

// checkLinked refuses more linked effects than the book takes in one group.
func (l *loader) checkLinked(c combo) {
	shares := 1
	if c.purpose == eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE {
		shares = events.MaxSplits
	}
	most := 0
	for m := payments.OnMove; m <= payments.OnDisputeLost; m++ {
		most = max(most, l.linked(c, m, shares))
	}
	if most > ledger.MaxLinked {
		l.failOnce(l.effectAt[0].at, "effects: a %s from %d merchants would link %d transfers, more than the book's %d; "+
			"let fewer effects be of the payee", c, shares, most, ledger.MaxLinked)
	}
}

// linked is how many transfers a moment has at most: its main ones, its effects, and what of moved goes back.
func (l *loader) linked(c combo, m payments.Moment, shares int) int {
	mains := 2 // beside the one a hold that is let go, or what a dispute kept
	switch m {
	case payments.OnMove:
		mains = 1
	case payments.OnChargeBack, payments.OnFailure, payments.OnDisputeLost:
		mains = 3 // what the payee has, and what the house pays
	}
	fee, perShare, others := 0, 0, 0
	back := backIndex(m)
	for _, x := range l.r.follows[c.index()] {
		switch {
		case x.on != m && (x.on != payments.OnMove || back < 0 || x.back[back] == keep):
		case x.fee:
			fee = 1
		case x.shared:
			perShare++
		default:
			others++
		}
	}
	if m == payments.OnReroute { // beside the holds that are let go and made again: what is left moves from channel to channel
		others += 2
	}
	return shares*(mains+fee+perShare) + others
}

// feesBackAlike takes down how fees go back. They stand as one sum on a payment, so all go back alike.
func (l *loader) feesBackAlike() {
	l.r.feeBack = [len(backMoments)]way{keep, keep, all, all}
	var first *effect
	for i := range l.r.effects {
		x := &l.r.effects[i]
		switch {
		case !x.fee:
		case first == nil:
			first, l.r.feeBack = x, x.back
		case x.back != first.back:
			l.Fail(l.effectAt[i].back, "back: the fees of a payment are one sum, which goes back as the effect %s on line %d says; say the same",
				first.id, first.line)
		}
	}
}
