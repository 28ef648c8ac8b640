package posting

import (
	"math/bits"
	"slices"

	"sluice/pipelines/ledger"
	"sluice/pipelines/payments"
	"sluice/rules"
	"sluice/schemas/events"
)

// kindGone is the kind of the way back of an effect whose rule is no longer there.
const kindGone = "effect_return"

// Transfers is payments.Postings. What goes back to the payee stands first, so that he can pay with it; then the main transfers;
// then what else goes back, which the payer can pay out of what he got; then the effects, fees before others.
//
// Effects of moved stand or fall with the payment: who cannot pay his fee gets no payment. At every other moment effects and
// ways back take at most what an account has, so that points which were spent never stop a refund; what is missing then is
// given up.
func (r *Rules) Transfers(o *payments.Occasion) []ledger.Transfer {
	if o.Moment == payments.OnHold {
		return payments.Main(o)
	}
	w := work{r: r, o: o, p: o.After}
	w.split()
	returns := backIndex(o.Moment)
	var later []ledger.Transfer
	if returns >= 0 {
		w.feesBack(returns)
		later = w.effectsBack(returns)
	}
	if w.list == nil {
		w.list = payments.Main(o)
	} else {
		w.list = append(w.list, payments.Main(o)...)
	}
	w.list = append(w.list, later...)
	w.follow()
	if w.frame != nil {
		r.frames.Put(w.frame)
	}
	return w.list
}

// part is one share of a payment; one without shares is one share of itself. Amounts are minor units of the payment's currency.
type part struct {
	merchant     string
	captured     int64 // so far
	before, left int64 // of captured and not given back, before and after the moment
	moved        int64 // at the moment
}

// work is one occasion on its way to transfers.
type work struct {
	r     *Rules
	o     *payments.Occasion
	p     *payments.Payment // o.After
	one   [1]part
	parts []part
	list  []ledger.Transfer
	frame *frame

	ownEffects, ownShares bool // p.Effects, p.Shares have been copied: they are never changed in place
}

// split fills parts.
func (w *work) split() {
	p, b := w.p, w.o.Before
	if len(p.Shares) == 0 {
		w.one[0] = part{p.Merchant, p.Captured, b.Left(), p.Left(), w.o.Amount}
		w.parts = w.one[:]
		return
	}
	w.parts = make([]part, len(p.Shares))
	for i := range p.Shares {
		s := &p.Shares[i]
		var was payments.Share
		if i < len(b.Shares) {
			was = b.Shares[i]
		}
		x := part{merchant: s.Merchant, captured: s.Captured, before: was.Captured - was.Back, left: s.Captured - s.Back}
		if x.moved = max(x.left-x.before, x.before-x.left); x.moved == 0 && standing(w.o.Moment) {
			x.moved = x.left
		}
		w.parts[i] = x
	}
}

// standing says whether a moment moves nothing between payer and payee, so that its amount is of what is there.
func standing(m payments.Moment) bool {
	switch m {
	case payments.OnSettle, payments.OnReroute, payments.OnDispute, payments.OnDisputeWon:
		return true
	}
	return false
}

// shareFee is the fee that stands on a part.
func (w *work) shareFee(i int) int64 {
	if len(w.p.Shares) == 0 {
		return w.p.Fee
	}
	return w.p.Shares[i].Fee
}

// addFee changes the fee that stands on a part.
func (w *work) addFee(i int, by int64) {
	w.p.Fee += by
	if len(w.p.Shares) > 0 {
		if !w.ownShares {
			w.p.Shares, w.ownShares = slices.Clone(w.p.Shares), true
		}
		w.p.Shares[i].Fee += by
	}
}

// returned is how much of what stands on a part goes back. With a payment that is cancelled everything does that is not kept, of
// shares that were refunded before too.
func (x *part) returned(how way, stands int64, cancelled bool) int64 {
	switch {
	case how == keep:
		return 0
	case cancelled && x.left <= 0:
		return stands
	case how == all && x.left > 0, x.before <= 0, x.left >= x.before:
		return 0
	case x.left <= 0:
		return stands
	}
	return stands - portion(stands, x.left, x.before)
}

// portion is n × of / whole, rounded half up. of is at most whole.
func portion(n, of, whole int64) int64 {
	high, low := bits.Mul64(uint64(n), uint64(of))
	low, carry := bits.Add64(low, uint64(whole)/2, 0)
	q, _ := bits.Div64(high+carry, low, uint64(whole))
	return int64(min(q, uint64(n)))
}

// cancelled says whether the payment ends as if it had never been.
func (w *work) cancelled() bool {
	return w.o.Moment == payments.OnVoid || w.o.Moment == payments.OnFailure
}

// feesBack gives payees what goes back of their fees. Once a payment is cancelled Fee says what was kept: it stays as it was.
func (w *work) feesBack(returns int) {
	cancelled, currency := w.cancelled(), w.p.PayeeCurrency()
	for i := range w.parts {
		back := w.parts[i].returned(w.r.feeBack[returns], w.shareFee(i), cancelled)
		if back == 0 {
			continue
		}
		w.list = append(w.list, ledger.Transfer{
			Debit: ledger.Fees(w.p.Shard, currency), Credit: w.r.Payee(w.p, w.parts[i].merchant),
			Amount: back, Currency: currency, Kind: payments.KindFeeReturn,
		})
		if !cancelled {
			w.addFee(i, -back)
		}
	}
}

// effectsBack gives back what stands in Payment.Effects, as it was recorded, and returns what is to come after the main
// transfers.
func (w *work) effectsBack(returns int) (later []ledger.Transfer) {
	for i := 0; i < len(w.p.Effects); i++ {
		x := w.p.Effects[i]
		how, kind := w.rule(x.Rule, returns)
		of, toPayee := w.of(&x)
		back := of.returned(how, x.Amount, w.cancelled())
		currency, known := x.Debit.Currency()
		if back == 0 || !known {
			continue
		}
		t := ledger.Transfer{Debit: x.Credit, Credit: x.Debit, Amount: back, Currency: currency, Kind: kind, Balancing: balancing(x.Credit)}
		if toPayee {
			w.list = append(w.list, t)
		} else {
			later = append(later, t)
		}
		w.copyEffects()
		w.p.Effects[i].Amount -= back
	}
	if w.ownEffects {
		w.p.Effects = slices.DeleteFunc(w.p.Effects, func(x payments.Effect) bool { return x.Amount == 0 })
	}
	return later
}

// rule says how an effect goes back, and under what kind. One whose rule is gone goes back in proportion.
func (w *work) rule(id string, returns int) (way, string) {
	for i := range w.r.effects {
		if x := &w.r.effects[i]; x.id == id && x.on == payments.OnMove {
			return x.back[returns], x.ret
		}
	}
	return share, kindGone
}

// of is the part that an effect belongs to, and whether its way back is to that part's payee. An effect of no part belongs to all
// of the payment.
func (w *work) of(x *payments.Effect) (of part, toPayee bool) {
	for i := range w.parts {
		payee := w.r.Payee(w.p, w.parts[i].merchant)
		if x.Debit == payee || x.Credit == payee {
			return w.parts[i], x.Debit == payee
		}
	}
	return w.whole(), false
}

// whole is all of the payment as one part.
func (w *work) whole() part {
	if len(w.parts) == 1 {
		return w.parts[0]
	}
	return part{w.p.Merchant, w.p.Captured, w.o.Before.Left(), w.p.Left(), w.o.Amount}
}

func (w *work) copyEffects() {
	if !w.ownEffects {
		w.p.Effects, w.ownEffects = slices.Clone(w.p.Effects), true
	}
}

// balancing lets a transfer take at most what an account has, if it cannot have less than nothing.
func balancing(debit ledger.AccountKey) ledger.Balancing {
	if t, known := debit.Type(); known && t.Floored {
		return ledger.BalanceDebit | ledger.BalanceNone
	}
	return 0
}

// follow posts the effects of the moment.
func (w *work) follow() {
	i := int(w.p.Purpose)*methods + int(w.p.Method)
	if i < 0 || i >= len(w.r.follows) {
		return
	}
	follows := w.r.follows[i]
	if w.o.Moment == payments.OnMove {
		w.fees(follows)
	}
	for _, x := range follows {
		switch {
		case x.on != w.o.Moment || x.fee:
		case !x.shared:
			whole := w.whole()
			w.post(x, &whole, w.p.Fee)
		default:
			for j := range w.parts {
				w.post(x, &w.parts[j], w.shareFee(j))
			}
		}
	}
}

// fees takes from each payee what is due on all that has been captured for him and does not yet stand. Several fees are one
// transfer.
func (w *work) fees(follows []follow) {
	currency := w.p.PayeeCurrency()
	for i := range w.parts {
		stands, due := w.shareFee(i), int64(0)
		var of *effect
		for _, x := range follows {
			if x.fee {
				of = x.effect
				due += w.due(x, &w.parts[i], stands)
			}
		}
		if due <= stands {
			continue
		}
		c := cast{w.r, w.p, w.parts[i].merchant}
		w.list = append(w.list, ledger.Transfer{
			Debit: of.debit.key(&c, currency), Credit: of.credit.key(&c, currency), Amount: due - stands, Currency: currency, Kind: of.kind,
		})
		w.addFee(i, due-stands)
	}
}

// due is what an effect comes to on a part, in minor units of its currency, or points; 0 where its condition does not hold.
func (w *work) due(x follow, of *part, fee int64) int64 {
	f := w.scene()
	currency, amount := w.p.Currency, of.moved
	if x.on == payments.OnMove {
		amount = of.captured
	}
	if x.side == payeeSide {
		currency, amount = w.p.PayeeCurrency(), w.p.PayeeAmount(amount)
	}
	exponent := uint8(currency.Exponent())
	f.Set(amountTerm, rules.Value{Decimal: rules.Decimal{Coefficient: amount, Exponent: exponent}, Known: true})
	f.Set(feeTerm, rules.Value{Decimal: rules.Decimal{Coefficient: fee, Exponent: exponent}, Known: true})
	if !x.sure && x.when.Eval(f.Frame) != rules.True {
		return 0
	}
	if x.debit.unit() == ledger.Point {
		exponent = 0
	}
	due, ok := x.amount.Units(f.Frame, exponent, x.round)
	if !ok {
		return 0 // Load has refused formulas without an answer
	}
	if x.on == payments.OnMove && x.back[0] == share && of.captured > 0 && of.left < of.captured {
		due = portion(due, max(of.left, 0), of.captured) // what was refunded meanwhile does not come again
	}
	return due
}

// post posts one effect on a part: of moved the difference to what stands, of other moments all of it.
func (w *work) post(x follow, of *part, fee int64) {
	due := w.due(x, of, fee)
	if due <= 0 {
		return
	}
	currency := w.p.Currency
	if x.side == payeeSide {
		currency = w.p.PayeeCurrency()
	}
	c := cast{w.r, w.p, of.merchant}
	t := ledger.Transfer{Debit: x.debit.key(&c, currency), Credit: x.credit.key(&c, currency), Currency: currency, Kind: x.kind, Amount: due}
	if x.on != payments.OnMove {
		t.Balancing = balancing(t.Debit)
		w.list = append(w.list, t)
		return
	}
	if t.Amount -= w.stands(x.effect, &t); t.Amount > 0 {
		w.record(x.id, &t)
		w.list = append(w.list, t)
	}
}

// stands is what of an effect has been posted and not taken back, on the share whose accounts the transfer has.
func (w *work) stands(x *effect, t *ledger.Transfer) (sum int64) {
	for i := range w.p.Effects {
		e := &w.p.Effects[i]
		of := !x.shared || x.debit.side() == payeeSide && e.Debit == t.Debit || x.credit.side() == payeeSide && e.Credit == t.Credit
		if of && e.Rule == x.id {
			sum += e.Amount
		}
	}
	return sum
}

func (w *work) record(rule string, t *ledger.Transfer) {
	w.copyEffects()
	for i := range w.p.Effects {
		if e := &w.p.Effects[i]; e.Rule == rule && e.Debit == t.Debit && e.Credit == t.Credit {
			e.Amount += t.Amount
			return
		}
	}
	w.p.Effects = append(w.p.Effects, payments.Effect{Rule: rule, Debit: t.Debit, Credit: t.Credit, Amount: t.Amount})
}

// scene is what formulas read of the payment, made once an occasion.
func (w *work) scene() *frame {
	if w.frame != nil {
		return w.frame
	}
	f, p := w.r.frames.Get().(*frame), w.p
	e := &f.event
	e.Kind, e.Time = events.PaymentInitiated, w.o.Event.Time
	e.CustomerID, e.AccountID, e.CounterpartyID, e.MerchantID = p.Customer, p.Account, p.Counterparty, p.Merchant
	e.Purpose, e.Method, e.Amount, e.Currency, e.PaymentChannel = p.Purpose, p.Method, p.Amount, p.Currency, p.Channel
	f.Reset(e, rules.Context{Tier: w.o.Tier})
	f.Set(exchanged, rules.Value{Known: p.Exchange != nil})
	w.frame = f
	return f
}
