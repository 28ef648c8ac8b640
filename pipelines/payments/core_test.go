package payments

import (
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/pipelines/ledger"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

const (
	won  = eventsv1.DisputeOutcome_DISPUTE_OUTCOME_WON
	lost = eventsv1.DisputeOutcome_DISPUTE_OUTCOME_LOST

	reserve        = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE
	reserveRelease = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE_RELEASE
	clearing       = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_CLEARING

	disputed  = ledger.AccountKey("disputed:M:CNY")
	merchant2 = ledger.AccountKey("merchant:N:CNY")
)

type changed func(*events.Decision)

func on(f func(*events.Event)) changed { return func(d *events.Decision) { f(&d.Event) } }
func later(d time.Duration) changed    { return on(func(e *events.Event) { e.Time = at.Add(d) }) }
func via(channel string) changed       { return on(func(e *events.Event) { e.PaymentChannel = channel }) }
func source(s string) changed          { return on(func(e *events.Event) { e.Source = s }) }
func of(merchant string) changed       { return on(func(e *events.Event) { e.MerchantID = merchant }) }
func outcome(o eventsv1.DisputeOutcome) changed {
	return on(func(e *events.Event) { e.Outcome = o })
}
func respondBy(d time.Duration) changed {
	return on(func(e *events.Event) { e.RespondBy = at.Add(d) })
}
func split(amounts ...int64) changed {
	return on(func(e *events.Event) {
		for i, n := range amounts {
			e.Splits = append(e.Splits, events.Split{MerchantID: string(rune('M' + i)), Amount: n})
		}
	})
}
func exchanged(amount int64) changed {
	return on(func(e *events.Event) { e.Exchange = events.Exchange{Currency: eur, Amount: amount, Rate: "0.13"} })
}

// What the payment core adds: disputes, representments, shares, two currencies, other channels and the house's own payments.
func TestCoreLives(t *testing.T) {
	t.Parallel()
	type step struct {
		kind   events.Kind
		amount int64
		want   string
		change []func(*events.Decision)
	}
	do := func(kind events.Kind, amount int64, want string, c ...changed) step {
		s := step{kind: kind, amount: amount, want: want}
		for _, f := range c {
			s.change = append(s.change, f)
		}
		return s
	}
	init := func(amount int64, c ...changed) step { return do(events.PaymentInitiated, amount, "posted", c...) }
	byCard := changed(with(purchase, card))
	auth := func(amount int64, c ...changed) step {
		return do(events.PaymentAuthorized, amount, "authorized", append([]changed{byCard}, c...)...)
	}
	disputes := func(amount int64, c ...changed) step {
		return do(events.PaymentDisputed, amount, "posted", append([]changed{respondBy(72 * time.Hour)}, c...)...)
	}
	spend := step{kind: events.KindUnknown, amount: 1 << 40}
	type balances map[ledger.AccountKey]int64
	for name, c := range map[string]struct {
		steps  []step
		want   balances
		status Status
		due    time.Duration // from the first event; 0: it waits for nothing
	}{
		"disputed": {steps: []step{init(5000, byCard), disputes(3000)}, want: balances{cards: 5000, merchant: 1970, disputed: 3000}, status: Disputed, due: 72 * time.Hour},
		"disputed, evidence, won": {steps: []step{init(5000, byCard), disputes(3000), do(events.PaymentEvidenceSubmitted, 1, "recorded", later(72*time.Hour)),
			do(events.PaymentDisputeDecided, 1, "posted", outcome(won), later(100*time.Hour))}, want: balances{cards: 5000, merchant: 4970, disputed: 0}, status: Posted, due: 268 * time.Hour},
		"evidence too late": {steps: []step{init(5000, byCard), disputes(3000), do(events.PaymentEvidenceSubmitted, 1, "evidence_late", later(72*time.Hour+1))}, status: Disputed, due: 72 * time.Hour},
		"evidence submitted": {steps: []step{init(5000, byCard), disputes(3000), do(events.PaymentEvidenceSubmitted, 1, "recorded", later(time.Hour)), do(events.PaymentEvidenceSubmitted, 1, "recorded", later(2*time.Hour))},
			status: Disputed, due: 60*day + time.Hour},
		"settled, disputed, won": {steps: []step{init(5000, byCard), do(events.PaymentSettled, 1, "recorded"), disputes(5000), do(events.PaymentSettled, 1, "ignored"), do(events.PaymentDisputeDecided, 1, "posted", outcome(won))},
			want: balances{merchant: 4970}, status: Settled},
		"disputed, settled, won": {steps: []step{init(5000, byCard), disputes(5000), do(events.PaymentSettled, 1, "recorded"), do(events.PaymentSettled, 1, "ignored"), do(events.PaymentDisputeDecided, 1, "posted", outcome(won))},
			status: Settled},
		"disputed above what the merchant has, lost": {steps: []step{init(5000, byCard), disputes(5000), do(events.PaymentDisputeDecided, 1, "posted", outcome(lost))},
			want: balances{cards: 0, merchant: 0, disputed: 0, suspense: 30, fees: 30}, status: ChargedBack},
		"disputed when the merchant has nothing, won": {steps: []step{init(5000, byCard), spend, do(events.PaymentDisputed, 5000, "recorded", respondBy(0)), do(events.PaymentDisputeDecided, 1, "recorded", outcome(won))}, status: Posted, due: 7 * day},
		"disputed when the merchant has nothing, lost": {steps: []step{init(5000, byCard), spend, do(events.PaymentDisputed, 5000, "recorded", respondBy(0)), do(events.PaymentDisputeDecided, 1, "posted", outcome(lost))},
			want: balances{cards: 0, suspense: 5000}, status: ChargedBack},
		"not while disputed": {steps: []step{init(5000, byCard), disputes(3000), do(events.PaymentRefunded, 1, "payment_disputed"), do(events.PaymentVoided, 1, "payment_disputed"), do(events.PaymentDisputed, 1, "payment_disputed"),
			do(events.PaymentRerouted, 1, "payment_disputed", via("north")), do(events.PaymentRepresented, 1, "payment_disputed")}, status: Disputed, due: 72 * time.Hour},
		"a second dispute": {steps: []step{init(5000, byCard), disputes(3000), do(events.PaymentDisputeDecided, 1, "posted", outcome(lost)), disputes(3000), do(events.PaymentDisputeDecided, 1, "posted", outcome(lost)),
			do(events.PaymentDisputed, 1, "refund_exceeds_payment", respondBy(0))}, want: balances{cards: 0, merchant: 0, suspense: 30}, status: ChargedBack},
		"a charge-back of less ends the dispute": {steps: []step{init(5000, byCard), disputes(3000), do(events.PaymentChargedBack, 1000, "posted"), do(events.PaymentDisputeDecided, 1, "no_open_dispute", outcome(won))}, want: balances{cards: 4000, merchant: 3970, disputed: 0}, status: ChargedBack},
		"a charge-back of more ends the dispute": {steps: []step{init(5000, byCard), disputes(3000), do(events.PaymentChargedBack, 4000, "posted")}, want: balances{cards: 1000, merchant: 970, disputed: 0}, status: ChargedBack},
		"a failure ends the dispute":             {steps: []step{init(5000, byCard), disputes(3000), do(events.PaymentFailed, 1, "posted"), do(events.PaymentDisputed, 1, "refund_exceeds_payment")}, want: balances{cards: 0, merchant: 0, disputed: 0, fees: 0}, status: Failed},
		"disputed with a rest held":              {steps: []step{auth(5000), do(events.PaymentCaptured, 2000, "posted"), disputes(2000), do(events.PaymentCaptured, 1, "capture_exceeds_authorization"), do(events.PaymentDisputeDecided, 1, "posted", outcome(won))}, want: balances{cards: 2000, merchant: 1988}, status: Posted, due: 7 * day},
		"a transfer's dispute keeps the payee's": {steps: []step{init(500, changed(with(transfer, wallet))), do(events.PaymentDisputed, 500, "posted", respondBy(0))}, want: balances{bWallet: 0, "frozen:B:CNY": 500}, status: Disputed, due: 0},
		"a withdrawal cannot be disputed":        {steps: []step{init(500, changed(with(withdrawal, bank))), do(events.PaymentDisputed, 500, "dispute_not_possible")}, status: Posted, due: 3 * day},
		"a dispute of what did not move":         {steps: []step{auth(500), do(events.PaymentDisputed, 500, "payment_not_posted")}, status: Authorized, due: 7 * day},
		"no dispute to decide":                   {steps: []step{init(500), do(events.PaymentDisputeDecided, 1, "no_open_dispute", outcome(won)), do(events.PaymentEvidenceSubmitted, 1, "no_open_dispute")}, status: Posted},
		"represented":                            {steps: []step{init(5000, byCard), disputes(4000), do(events.PaymentDisputeDecided, 1, "posted", outcome(lost)), do(events.PaymentRepresented, 9000, "posted"), do(events.PaymentRepresented, 1, "nothing_charged_back")}, want: balances{cards: 5000, merchant: 4970}, status: Posted, due: 7 * day},
		"represented in part, settled":           {steps: []step{init(5000, byCard), spend, do(events.PaymentChargedBack, 5000, "posted"), do(events.PaymentRepresented, 1000, "posted"), do(events.PaymentSettled, 1, "recorded"), do(events.PaymentVoided, 1, "payment_settled")}, want: balances{cards: 1000, suspense: 4000, merchant: 0}, status: ChargedBack},
		"represented: first what the house paid": {steps: []step{init(5000, byCard), disputes(1000), spend, do(events.PaymentChargedBack, 5000, "posted"), do(events.PaymentRepresented, 4500, "posted")}, want: balances{cards: 4500, suspense: 0, merchant: 500}, status: ChargedBack},
		"represented, charged back again":        {steps: []step{init(5000, byCard), spend, do(events.PaymentChargedBack, 5000, "posted"), do(events.PaymentRepresented, 5000, "posted"), do(events.PaymentChargedBack, 5000, "posted")}, want: balances{cards: 0, suspense: 5000}, status: ChargedBack},
		"represented from a wallet without":      {steps: []step{init(5000), do(events.PaymentChargedBack, 4970, "posted"), do(events.PaymentInitiated, 0, "payment_exists"), do(events.PaymentRepresented, 4970, "posted")}, want: balances{aWallet: 5000, merchant: 4970}, status: Posted},
		"represented: nothing was":               {steps: []step{init(5000, byCard), do(events.PaymentRepresented, 1, "nothing_charged_back")}, status: Posted, due: 7 * day},

		"shares": {steps: []step{init(5000, byCard, split(3000, 2000))}, want: balances{cards: 5000, merchant: 2982, merchant2: 1988, fees: 30}, status: Posted, due: 7 * day},
		"shares captured in parts": {steps: []step{auth(100, split(50, 30, 20)), do(events.PaymentCaptured, 33, "posted"), do(events.PaymentCaptured, 66, "posted"), do(events.PaymentCaptured, 2, "capture_exceeds_authorization"), do(events.PaymentCaptured, 1, "posted")},
			want: balances{cards: 100, merchant: 50, merchant2: 30, "merchant:O:CNY": 20}, status: Posted, due: 7 * day},
		"a share captured by name": {steps: []step{auth(100, split(50, 50)), do(events.PaymentCaptured, 51, "capture_exceeds_authorization", of("N")), do(events.PaymentCaptured, 50, "posted", of("N")), do(events.PaymentCaptured, 1, "merchant_without_share", of("X")), do(events.PaymentVoided, 1, "released")},
			want: balances{cards: 50, merchant: 0, merchant2: 50}, status: Posted, due: 7 * day},
		"shares refunded in proportion": {steps: []step{init(100, split(70, 30)), do(events.PaymentRefunded, 10, "posted")}, want: balances{merchant: 63, merchant2: 27}, status: Posted},
		"a share refunded by name":      {steps: []step{init(100, split(70, 30)), do(events.PaymentRefunded, 31, "refund_exceeds_payment", of("N")), do(events.PaymentRefunded, 30, "posted", of("N")), do(events.PaymentRefunded, 1, "merchant_without_share", of("X"))}, want: balances{merchant: 70, merchant2: 0}, status: Posted},
		"the first share by name":       {steps: []step{init(100, split(70, 30)), do(events.PaymentRefunded, 20, "posted", split(20))}, want: balances{merchant: 50, merchant2: 30}, status: Posted},
		"one merchant of two cannot pay": {steps: []step{init(100, byCard, split(70, 30)), spend, {kind: events.PaymentInitiated, amount: 80, want: "posted", change: []func(*events.Decision){on(func(e *events.Event) { e.PaymentID = "Q" })}}, do(events.PaymentChargedBack, 100, "posted")},
			want: balances{cards: 0, merchant: 10, merchant2: 0, suspense: 30}, status: ChargedBack},
		"of two merchants each pays what he has": {steps: []step{init(100, byCard, split(70, 30)), {kind: events.KindUnknown, amount: 20}, do(events.PaymentChargedBack, 100, "posted"), do(events.PaymentRepresented, 30, "posted")},
			want: balances{cards: 30, merchant: 1, merchant2: 0, suspense: 11}, status: ChargedBack},
		"shares voided":        {steps: []step{init(5000, byCard, split(3000, 2000)), do(events.PaymentVoided, 1, "posted")}, want: balances{cards: 0, merchant: 0, merchant2: 0, fees: 0}, status: Voided},
		"shares held, expired": {steps: []step{auth(100, split(50, 50)), do(events.PaymentCaptured, 10, "authorization_expired", later(AuthorizationLife))}, want: balances{cards: 0}, status: Expired},
		"a share's hold, rerouted": {steps: []step{auth(100, split(50, 50)), do(events.PaymentRerouted, 1, "rerouted", via("north")), do(events.PaymentCaptured, 40, "posted"), do(events.PaymentRerouted, 1, "posted", via("south")), do(events.PaymentCaptured, 60, "posted"), do(events.PaymentCaptured, 1, "payment_of_another_channel", via("north"))},
			want: balances{cards: 0, "clearing:north/3:CNY": 0, "clearing:south/3:CNY": 100, merchant: 50, merchant2: 50}, status: Posted, due: 7 * day},

		"in two currencies":                 {steps: []step{init(1000, exchanged(130))}, want: balances{aWallet: 9000, "fx/3:CNY": -1000, "fx/3:EUR": 130, "merchant:M:EUR": 129, "fees/3:EUR": 1}, status: Posted},
		"in two currencies, back in parts":  {steps: []step{init(1000, exchanged(130)), do(events.PaymentRefunded, 333, "posted"), do(events.PaymentRefunded, 333, "posted"), do(events.PaymentChargedBack, 1, "posted"), do(events.PaymentVoided, 1, "posted")}, want: balances{aWallet: 10000, "fx/3:CNY": 0, "fx/3:EUR": 0, "merchant:M:EUR": 0, "fees/3:EUR": 0}, status: Voided},
		"in two currencies, captured":       {steps: []step{auth(1000, exchanged(130)), do(events.PaymentCaptured, 1, "posted"), do(events.PaymentCaptured, 998, "posted"), do(events.PaymentCaptured, 1, "posted")}, want: balances{cards: 1000, "fx/3:CNY": -1000, "fx/3:EUR": 130, "merchant:M:EUR": 129}, status: Posted, due: 7 * day},
		"in two currencies, disputed, lost": {steps: []step{init(1000, byCard, exchanged(131)), do(events.PaymentDisputed, 900, "posted", respondBy(0)), do(events.PaymentDisputeDecided, 1, "posted", outcome(lost))}, want: balances{cards: 100, "merchant:M:EUR": 12, "disputed:M:EUR": 0, "fx/3:EUR": 13, "fx/3:CNY": -100}, status: ChargedBack},
		"in two currencies, what the house lost meanwhile rounds nothing": {steps: []step{init(10, byCard, exchanged(7)), spend, do(events.PaymentChargedBack, 3, "posted"),
			{kind: events.PaymentInitiated, amount: 1000, want: "posted", change: []func(*events.Decision){exchanged(100), on(func(e *events.Event) { e.PaymentID = "Q" })}},
			do(events.PaymentChargedBack, 3, "posted"), do(events.PaymentRepresented, 6, "posted")},
			want: balances{cards: 10, "merchant:M:EUR": 99, "fx/3:EUR": 107, suspense: 0}, status: Posted, due: 7 * day},
		"in two currencies, what the house lost is no part of what goes back": {steps: []step{init(10, byCard, exchanged(7)), spend, do(events.PaymentChargedBack, 3, "posted"),
			{kind: events.PaymentInitiated, amount: 1000, want: "posted", change: []func(*events.Decision){exchanged(100), on(func(e *events.Event) { e.PaymentID = "Q" })}},
			do(events.PaymentChargedBack, 3, "posted")},
			want: balances{cards: 4, "merchant:M:EUR": 96, "fx/3:EUR": 104, suspense: 3}, status: ChargedBack},
		"in two currencies, cannot pay back": {steps: []step{init(1000, byCard, exchanged(131)), do(events.PaymentChargedBack, 1000, "posted")}, want: balances{cards: 0, "merchant:M:EUR": 0, "fx/3:EUR": 1, "fx/3:CNY": -8, suspense: 8}, status: ChargedBack},
		"in two currencies, a part cannot be paid back, represented": {steps: []step{init(1000, byCard, exchanged(131)), do(events.PaymentChargedBack, 1000, "posted"), do(events.PaymentRepresented, 500, "posted")},
			want: balances{cards: 500, "merchant:M:EUR": 64, "fx/3:EUR": 65, "fx/3:CNY": -500, suspense: 0}, status: ChargedBack},

		"by a channel of its own":        {steps: []step{init(5000, byCard, via("north")), do(events.PaymentSettled, 1, "payment_of_another_channel", via("south")), do(events.PaymentSettled, 1, "recorded", via("north"))}, want: balances{"clearing:north/3:CNY": 5000, cards: 0}, status: Settled},
		"by the channel the house chose": {steps: []step{init(5000, byCard, func(d *events.Decision) { d.Route = events.Route{Channel: "north", Reason: "cheapest"} }), do(events.PaymentRefunded, 1, "posted")}, want: balances{"clearing:north/3:CNY": 4999}, status: Posted, due: 7 * day},
		"rerouted":                       {steps: []step{init(5000, byCard), do(events.PaymentRefunded, 1000, "posted"), do(events.PaymentRerouted, 1, "posted", via("south")), do(events.PaymentRerouted, 1, "ignored", via("south"))}, want: balances{cards: 0, "clearing:south/3:CNY": 4000}, status: Posted, due: 7 * day},
		"a withdrawal, rerouted":         {steps: []step{init(500, changed(with(withdrawal, bank))), do(events.PaymentRerouted, 1, "posted", via("south"))}, want: balances{banks: 10000, "clearing:south/3:CNY": -500}, status: Posted, due: 3 * day},
		"settled, not rerouted":          {steps: []step{init(500, byCard), do(events.PaymentSettled, 1, "recorded"), do(events.PaymentRerouted, 1, "payment_settled", via("south"))}, status: Settled},
		"wallets have no channel":        {steps: []step{init(500), do(events.PaymentRerouted, 1, "ignored", via("south"))}, status: Posted},

		"payout":                 {steps: []step{do(events.PaymentInitiated, 500, "insufficient_funds", changed(with(payout, bank)))}, status: Rejected},
		"payout, settled":        {steps: []step{{kind: events.PaymentInitiated, amount: 1000, want: "posted", change: []func(*events.Decision){on(func(e *events.Event) { e.PaymentID = "Q" })}}, init(500, changed(with(payout, bank)), via("main bank")), do(events.PaymentSettled, 1, "recorded")}, want: balances{merchant: 494, "clearing:main bank/3:CNY": -500}, status: Settled},
		"payout, failed":         {steps: []step{{kind: events.PaymentInitiated, amount: 1000, want: "posted", change: []func(*events.Decision){on(func(e *events.Event) { e.PaymentID = "Q" })}}, init(500, changed(with(payout, bank))), do(events.PaymentFailed, 1, "posted")}, want: balances{merchant: 994, banks: 10000}, status: Failed},
		"payout observed":        {steps: []step{do(events.PaymentInitiated, 500, "ignored", changed(with(payout, bank)), changed(verdict(events.Observed)))}},
		"reserve, released":      {steps: []step{{kind: events.PaymentInitiated, amount: 1000, want: "posted", change: []func(*events.Decision){on(func(e *events.Event) { e.PaymentID = "Q" })}}, init(500, changed(with(reserve, bank)), source("sluice/settlement"), changed(verdict(events.Observed))), {kind: events.PaymentInitiated, amount: 200, want: "posted", change: []func(*events.Decision){with(reserveRelease, bank), source("sluice/settlement"), on(func(e *events.Event) { e.PaymentID = "R" })}}}, want: balances{merchant: 694, "reserve:M:CNY": 300}, status: Posted},
		"a channel pays":         {steps: []step{init(500, changed(with(clearing, bank)), source("sluice/settlement"), via("north"))}, want: balances{"bank:main/3:CNY": 500, "clearing:north/3:CNY": -500}, status: Posted},
		"the house's own only":   {steps: []step{do(events.PaymentInitiated, 500, "not_the_house", changed(with(clearing, bank)), source("acquirer"))}},
		"the house's own, later": {steps: []step{init(500, changed(with(clearing, bank)), source("sluice/settlement")), do(events.PaymentRefunded, 500, "not_the_house", source("acquirer")), do(events.PaymentRefunded, 500, "posted", source("sluice/settlement"))}, status: Refunded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse()
			h.apply(decision(events.PaymentInitiated, "opening", 10000, with(topUp, bank)))
			for i, s := range c.steps {
				if s.kind == events.KindUnknown {
					h.spend(s.amount)
					continue
				}
				if got := h.apply(decision(s.kind, "P", s.amount, s.change...)); got != s.want {
					t.Errorf("step %d (%s %d): got %s, want %s", i+1, s.kind, s.amount, got, s.want)
				}
			}
			for key, want := range c.want {
				if got := h.balance(key); got != want {
					t.Errorf("%s: balance %d, want %d", key, got, want)
				}
			}
			p := h.payments["P"]
			if p == nil {
				if c.status != NoStatus {
					t.Error("there is no payment")
				}
				return
			}
			if p.Status != c.status {
				t.Errorf("it is %s, want %s", p.Status, c.status)
			}
			if due := (time.Time{}); c.due != 0 {
				if due = at.Add(c.due); !p.DueAt.Equal(due) {
					t.Errorf("due at %s, want %s", p.DueAt, due)
				}
			} else if p.Status != Disputed && !p.DueAt.IsZero() {
				t.Errorf("due at %s, but it waits for nothing", p.DueAt)
			}
			again, err := UnmarshalExtra(p.Marshal())
			if err != nil || string(again.Marshal()) != string(p.Marshal()) {
				t.Errorf("%s reads back as %s, %v", p.Marshal(), again.Marshal(), err)
			}
		})
	}
}

// What is apportioned sums to the amount, no part is above its weight, and each is its quota rounded down or up.
func TestApportion(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.Int64Range(0, events.MaxAmount), 1, events.MaxSplits).Draw(t, "weights")
		sum := total(weights)
		if sum == 0 {
			return
		}
		amount := rapid.Int64Range(0, sum).Draw(t, "amount")
		parts := apportion(amount, weights)
		for i := range parts {
			// part - amount*weight/sum is between -1 and 1.
			off := new(big.Int).Mul(big.NewInt(parts[i]), big.NewInt(sum))
			off.Sub(off, new(big.Int).Mul(big.NewInt(amount), big.NewInt(weights[i])))
			if parts[i] < 0 || parts[i] > weights[i] || off.CmpAbs(big.NewInt(sum)) >= 0 {
				t.Fatalf("%d over %v: part %d is %d", amount, weights, i, parts[i])
			}
		}
		if total(parts) != amount {
			t.Fatalf("%d over %v: %v", amount, weights, parts)
		}
	})
}

// A hold's id leads back to its payment, and lies within the payment's bounds unless it is the first.
func TestHoldIDs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[ -~é]{1,8}`).Draw(t, "payment")
		other := rapid.StringMatching(`[ -~é]{1,8}`).Draw(t, "other")
		generation, share := rapid.IntRange(0, 3).Draw(t, "generation"), rapid.IntRange(0, 15).Draw(t, "share")
		hold := HoldID(id, generation, share)
		above, below := HoldIDs(id)
		if HeldBy(hold) != id || (hold > above && hold < below) != (generation+share > 0) {
			t.Fatalf("hold %q of %q, between %q and %q", hold, id, above, below)
		}
		if foreign := HoldID(other, generation, share); other != id && foreign > above && foreign < below {
			t.Fatalf("hold %q of %q lies within those of %q", foreign, other, id)
		}
	})
}

// Which side a payment channel stands on is what the accounts say.
func TestCleared(t *testing.T) {
	t.Parallel()
	for purpose := range eventsv1.PaymentPurpose_name {
		for method := range eventsv1.PaymentMethod_name {
			p := Payment{Customer: "A", Counterparty: "B", Merchant: "M", Currency: cny, Purpose: eventsv1.PaymentPurpose(purpose), Method: eventsv1.PaymentMethod(method), Channel: "north"}
			pays, paid := p.cleared()
			if clears := p.clearing(cny); pays != (p.from() == clears) || paid != (p.to("M") == clears) {
				t.Errorf("%s by %s: %v, %v", p.Purpose, p.Method, pays, paid)
			}
		}
	}
}

// greedy links something to every charge-back, failure and dispute that the book will not take.
type greedy struct{ Standard }

func (g greedy) Transfers(o *Occasion) []ledger.Transfer {
	all := g.Standard.Transfers(o)
	switch o.Moment {
	case OnChargeBack, OnFailure, OnDispute, OnDisputeLost:
		o.After.Effects = append(o.After.Effects, Effect{Rule: "greedy"})
		return append(all, ledger.Transfer{Debit: "wallet:nobody:CNY", Credit: fees, Amount: 1, Currency: cny, Kind: "greed"})
	}
	return all
}

// A fact is in the book whatever is linked to it; what could not be linked is not on the payment.
func TestFactsStandWhateverIsLinked(t *testing.T) {
	t.Parallel()
	for _, kind := range []events.Kind{events.PaymentChargedBack, events.PaymentFailed, events.PaymentDisputed} {
		h := newHouse()
		h.postings = greedy{Standard{StandardFees()}}
		h.apply(decision(events.PaymentInitiated, "P", 5000, with(purchase, card)))
		if got := h.apply(decision(kind, "P", 3000)); got != "posted" {
			t.Errorf("%s: %s", kind, got)
		}
		if p := h.payments["P"]; len(p.Effects) > 0 || kind == events.PaymentDisputed && h.balance(disputed) != 3000 || p.Lost != h.balance(suspense) {
			t.Errorf("%s: %+v, suspense %d", kind, p, h.balance(suspense))
		}
	}
}

// So is a dispute of which nothing can be kept, where it has no transfer of its own.
func TestADisputeStandsThoughNothingIsKept(t *testing.T) {
	t.Parallel()
	h := newHouse()
	h.postings = Standard{}
	h.apply(decision(events.PaymentInitiated, "P", 5000, with(purchase, card)))
	h.apply(decision(events.PaymentInitiated, "O", 5000, with(payout, bank)))
	h.postings = greedy{Standard{}}
	if got := h.apply(decision(events.PaymentDisputed, "P", 3000)); got != CodeRecorded || h.payments["P"].Status != Disputed {
		t.Errorf("%s: %+v", got, h.payments["P"])
	}
}

// As many merchants as a purchase may have stay within what the book links, at every event.
func TestManyShares(t *testing.T) {
	t.Parallel()
	amounts := make([]int64, events.MaxSplits)
	for i := range amounts {
		amounts[i] = 1000
	}
	whole := int64(1000 * events.MaxSplits)
	spend := decision(events.KindUnknown, "P", 1)
	for _, last := range [][]*events.Decision{
		{decision(events.PaymentFailed, "P", 1)},
		{spend, decision(events.PaymentFailed, "P", 1)},
		{spend, decision(events.PaymentChargedBack, "P", whole)},
		{decision(events.PaymentDisputed, "P", whole/3), spend, decision(events.PaymentFailed, "P", 1)},
		{decision(events.PaymentChargedBack, "P", whole)},
		{decision(events.PaymentRerouted, "P", 1, via("north"))},
		{decision(events.PaymentDisputed, "P", whole/3), decision(events.PaymentFailed, "P", 1)},
		{decision(events.PaymentDisputed, "P", whole/3), decision(events.PaymentChargedBack, "P", whole/4)},
		{decision(events.PaymentDisputed, "P", whole/3), decision(events.PaymentDisputeDecided, "P", 1, outcome(lost)), decision(events.PaymentRepresented, "P", whole)},
	} {
		h := newHouse()
		h.apply(decision(events.PaymentAuthorized, "P", whole, with(purchase, card), split(amounts...)))
		h.apply(decision(events.PaymentCaptured, "P", whole/2+7))
		for _, d := range last {
			if d == spend {
				for _, s := range h.payments["P"].Shares {
					h.post([]ledger.Transfer{{Debit: ledger.MerchantPayable(s.Merchant, cny), Credit: banks, Amount: 10, Currency: cny, Kind: "spent"}})
				}
				continue
			}
			if got := h.apply(d); got != "posted" {
				t.Errorf("%s: %s", d.Event.Kind, got)
			}
		}
		if p := h.payments["P"]; p.Lost > 10*events.MaxSplits+p.Fee {
			t.Errorf("%d is lost", p.Lost)
		}
	}
}

// The slice that a payee can give back is the largest he can pay, found by trying each; the trial of a new user is one of them.
func TestSliceIsTheLargest(t *testing.T) {
	t.Parallel()
	trial := Payment{Amount: 1000_00, Currency: cny, Extra: Extra{Exchange: &Exchange{Currency: "EUR", Amount: 128_00}}}
	if n := trial.slice(1000_00, 1000_00, 127_49); n != 1000_00-3_99 {
		t.Errorf("with 127.49 EUR of 128.00 he gives back %d of 1000.00 CNY", n)
	}
	rapid.Check(t, func(t *rapid.T) {
		p := Payment{Amount: rapid.Int64Range(1, 300).Draw(t, "amount"), Currency: cny}
		if rapid.Bool().Draw(t, "exchanged") {
			p.Exchange = &Exchange{Currency: "EUR", Amount: rapid.Int64Range(1, 3000).Draw(t, "other")}
		}
		paid := rapid.Int64Range(0, p.Amount).Draw(t, "paid")
		claim := rapid.Int64Range(0, paid).Draw(t, "claim")
		has := rapid.Int64Range(0, 3000).Draw(t, "has")
		want := int64(0)
		for n := int64(1); n <= claim; n++ {
			if p.PayeeAmount(paid)-p.PayeeAmount(paid-n) <= has {
				want = n
			}
		}
		if got := p.slice(paid, claim, has); got != want {
			t.Fatalf("%d of %d, want %d", got, claim, want)
		}
	})
}

// What another release, or somebody else, has written on a payment is refused where this one does not understand it, instead of
// met in the middle of a batch.
func TestStrangeExtrasAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"exchange":{"currency":"XXX","amount":1,"rate":"1"}}`, `{"exchanges":{}}`, `{`} {
		if x, err := UnmarshalExtra([]byte(text)); err == nil {
			t.Errorf("%s is read as %+v", text, x)
		}
	}
}
