package posting

import (
	"bytes"
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
