package posting

import (
	"fmt"
	"strings"
	"time"

	"sluice/pipelines/ledger"
	"sluice/pipelines/payments"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// Trial is a payment to try rules on.
type Trial struct {
	Purpose  eventsv1.PaymentPurpose
	Method   eventsv1.PaymentMethod
	Currency events.Currency
	Amount   int64 // minor units
	Tier     string
	At       time.Time // event time of all of it
}

// Scene is what one moment of a trial posts. Whether accounts have enough is not asked.
type Scene struct {
	Title     string
	Transfers []ledger.Transfer
}

// Try lists what the rules post in a small life: a payment moves and is settled; half of it is refunded, and then the rest. And
// what they post instead where it is charged back, or voided.
func (r *Rules) Try(t Trial) []Scene {
	start := payments.Payment{
		ID: "trial", Customer: "customer", Counterparty: "counterparty", Merchant: "merchant", Purpose: t.Purpose, Method: t.Method,
		Currency: t.Currency, Amount: t.Amount, InitiatedAt: t.At, ChangedAt: t.At,
	}
	var all []Scene
	play := func(m payments.Moment, title string, before *payments.Payment, amount int64, change func(*payments.Payment)) *payments.Payment {
		after := *before.By(r)
		change(&after)
		event := &events.Event{Time: t.At, CustomerID: start.Customer, Currency: t.Currency, Amount: amount}
		o := payments.Occasion{Moment: m, Event: event, Tier: t.Tier, Before: before, After: &after, Amount: amount}
		all = append(all, Scene{title, r.Transfers(&o)})
		return &after
	}
	refund := func(n int64) func(*payments.Payment) { return func(p *payments.Payment) { p.Refunded += n } }
	moved := play(payments.OnMove, "moved", &start, t.Amount, func(p *payments.Payment) { p.Captured = t.Amount })
	play(payments.OnSettle, "settled", moved, t.Amount, func(*payments.Payment) {})
	half := t.Amount / 2
	rest := moved
	if half > 0 {
		rest = play(payments.OnRefund, fmt.Sprintf("refunded, %s of it", events.FormatAmount(half, t.Currency)), moved, half, refund(half))
	}
	other := t.Amount - half
	play(payments.OnRefund, fmt.Sprintf("refunded, the other %s", events.FormatAmount(other, t.Currency)), rest, other, refund(other))
	play(payments.OnChargeBack, "or charged_back, all of it", moved, t.Amount, func(p *payments.Payment) { p.ChargedBack = t.Amount })
	play(payments.OnVoid, "or voided", moved, t.Amount, func(p *payments.Payment) { p.Reversed = t.Amount })
	return all
}

// PartyLine and EffectLine are the rules in words.
type (
	PartyLine  struct{ ID, When, Payer, Payee, Kept string }
	EffectLine struct{ ID, On, When, Debit, Credit, Amount, Kind, Back string }
)

// Parties lists who pays whom, as the file has it.
func (r *Rules) Parties() []PartyLine {
	var all []PartyLine
	for i := range r.parties {
		p := &r.parties[i]
		line := PartyLine{p.id, p.when.Text, p.payer.String(), p.payee.String(), "-"}
		if p.keeps {
			line.Kept = p.kept.String()
		}
		all = append(all, line)
	}
	return all
}

// Effects lists what follows from payments, as the file has it.
func (r *Rules) Effects() []EffectLine {
	var all []EffectLine
	for i := range r.effects {
		x := &r.effects[i]
		line := EffectLine{x.id, x.on.String(), "always", x.debit.String(), x.credit.String(), x.amount.Text, x.kind, "-"}
		if x.when != nil {
			line.When = x.when.Text
		}
		if x.on == payments.OnMove {
			line.Back = x.ways()
		}
		all = append(all, line)
	}
	return all
}

// ways says how an effect goes back: one word where it is the same always; what is kept is not named.
func (x *effect) ways() string {
	if x.back == [len(backMoments)]way{x.back[0], x.back[0], x.back[0], x.back[0]} {
		return wayNames[x.back[0]]
	}
	var words []string
	for i, m := range backMoments {
		if x.back[i] != keep {
			words = append(words, m.String()+" "+wayNames[x.back[i]])
		}
	}
	return strings.Join(words, ", ")
}

// MainLines says which main transfer each moment has. It follows from who pays whom, and is the same in every file.
func MainLines() [][4]string {
	return [][4]string{
		{"held", "payer", "payee", "pending until it is captured"},
		{"moved", "payer", "payee", "what is initiated in one step, or captured"},
		{"refunded", "payee", "payer", ""},
		{"charged_back", "payee", "payer", "suspense pays what the payee has not"},
		{"represented", "payer", "payee", "first suspense, for what the house had paid"},
		{"voided", "payee", "payer", ""},
		{"failed", "payee", "payer", "suspense pays what the payee has not"},
		{"rerouted", "clearing", "clearing", "from the one payment channel to the other"},
		{"disputed", "payee", "kept", "what the payee has of it"},
		{"dispute_won", "kept", "payee", ""},
		{"dispute_lost", "kept", "payer", "what was not kept as charged_back"},
		{"settled", "-", "-", "no transfer of its own"},
	}
}

// Amount writes a transfer's amount: money in major units, points as they are.
func Amount(t *ledger.Transfer) string {
	if kind, known := t.Debit.Type(); known && kind.Unit != ledger.Money {
		return fmt.Sprintf("%d %s", t.Amount, kind.Unit)
	}
	return events.FormatAmount(t.Amount, t.Currency) + " " + t.Currency.Code()
}
