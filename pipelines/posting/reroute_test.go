package posting

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/pipelines/ledger"
	"sluice/pipelines/payments"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// Another channel takes over what the posting rules have put on the first one's account, and nothing where they have put it elsewhere.
func TestReroutedByParties(t *testing.T) {
	banked := bytes.Replace(StandardFile, []byte("payer: clearing, payee: account(customer)"), []byte("payer: bank(main), payee: account(customer)"), 1)
	banked = bytes.Replace(banked, []byte("payer: clearing\n    payee: merchant"), []byte("payer: account(customer)\n    payee: merchant"), 1)
	for _, c := range []struct {
		file    []byte
		purpose eventsv1.PaymentPurpose
		from    string
		code    string
		moved   []string
	}{
		{StandardFile, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP, "old", "posted", []string{"clearing:new/0:CNY clearing:old/0:CNY 10000"}},
		{StandardFile, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL, "old", "posted", []string{"clearing:old/0:CNY clearing:new/0:CNY 10000"}},
		{StandardFile, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP, "", "posted", []string{"clearing:new/0:CNY clearing:bank_transfer/0:CNY 10000"}},
		{banked, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP, "old", payments.CodeIgnored, nil},
		{banked, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE, "old", payments.CodeIgnored, nil},
		{banked, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL, "old", "posted", []string{"clearing:old/0:CNY clearing:new/0:CNY 10000"}},
	} {
		r, err := Load("house", c.file)
		if err != nil {
			t.Fatal(err)
		}
		var moved []string
		take := func(all []ledger.Transfer) ledger.Code {
			for _, x := range all {
				moved = append(moved, string(x.Debit)+" "+string(x.Credit)+" "+events.FormatAmount(x.Amount, events.MustCurrency("JPY")))
			}
			return ledger.OK
		}
		funds := func(ledger.AccountKey) int64 { return events.MaxAmount }
		e := events.Event{ID: "1", Kind: events.PaymentInitiated, Time: time.Unix(1e9, 0), CustomerID: "C", MerchantID: "M", PaymentID: "P", Amount: 10000,
			Currency: events.MustCurrency("CNY"), Purpose: c.purpose, Method: eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER, PaymentChannel: c.from}
		_, p := payments.Plan(&events.Decision{Verdict: events.Approve, Event: e}, 0, nil, r, funds).Post(take)
		moved = nil
		e.ID, e.Kind, e.PaymentChannel = "2", events.PaymentRerouted, "new"
		code, _ := payments.Plan(&events.Decision{Verdict: events.Approve, Event: e}, 0, p, r, funds).Post(take)
		if code != c.code || !slices.Equal(moved, c.moved) {
			t.Errorf("%s from %q: %s, %q; expected %s, %q", c.purpose, c.from, code, moved, c.code, c.moved)
		}
	}
}

// What a file may link to a reroute fits the book's group, whatever is held and captured of however many shares.
func TestReroutesFitTheBook(t *testing.T) {
	file := string(StandardFile)
	for i := range 3 {
		if r, err := Load("house", []byte(file)); err != nil {
			if i < 2 {
				t.Fatal(err)
			}
		} else if most := longestReroute(r); most > ledger.MaxLinked {
			t.Errorf("%d effects of the payee: %d transfers are linked", i, most)
		}
		file += fmt.Sprintf("  - {id: moved-%d, on: rerouted, when: payment.purpose == \"purchase\", post: {debit: payee, credit: fees, amount: amount * 0.001, kind: moving_%d}}\n", i, i)
	}
}

// longestReroute reroutes half of a purchase from as many merchants as there may be, the other half being held.
func longestReroute(r *Rules) (most int) {
	take := func(all []ledger.Transfer) ledger.Code {
		most = len(all)
		return ledger.OK
	}
	funds := func(ledger.AccountKey) int64 { return events.MaxAmount }
	e := events.Event{ID: "1", Kind: events.PaymentAuthorized, Time: time.Unix(1e9, 0), CustomerID: "C", MerchantID: "M0", PaymentID: "P", Amount: 10000 * events.MaxSplits,
		Currency: events.MustCurrency("CNY"), Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE, Method: eventsv1.PaymentMethod_PAYMENT_METHOD_CARD, PaymentChannel: "old"}
	for i := range events.MaxSplits {
		e.Splits = append(e.Splits, events.Split{MerchantID: fmt.Sprint("M", i), Amount: 10000})
	}
	_, p := payments.Plan(&events.Decision{Verdict: events.Approve, Event: e}, 0, nil, r, funds).Post(take)
	e.ID, e.Kind, e.Amount, e.Splits = "2", events.PaymentCaptured, e.Amount/2, nil
	_, p = payments.Plan(&events.Decision{Verdict: events.Approve, Event: e}, 0, p, r, funds).Post(take)
	e.ID, e.Kind, e.PaymentChannel = "3", events.PaymentRerouted, "new"
	payments.Plan(&events.Decision{Verdict: events.Approve, Event: e}, 0, p, r, funds).Post(take)
	return most
}
