package books

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pipelines/payments"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// tell posts an event of a purchase by card in a shard, an hour of the world's day after the start.
func (w *world) tell(shard int, payment string, hours int, kind events.Kind, amount int64, change ...func(*events.Decision)) {
	w.t.Helper()
	offset := w.sent[shard]
	w.sent[shard]++
	d := &events.Decision{Verdict: events.Approve, Topic: schemas.Payments, Partition: int32(shard), Offset: offset, Event: events.Event{
		ID: fmt.Sprint(shard, ".", offset), Source: "acquirer", Kind: kind, Time: start.Add(time.Duration(hours) * time.Hour), PaymentID: payment,
		CustomerID: fmt.Sprint("C", shard), MerchantID: "M", Method: card, Purpose: purchase, Amount: amount, Currency: events.MustCurrency("CNY")}}
	for _, c := range change {
		c(d)
	}
	d.Received = d.Event.Time
	_, value, err := events.EncodeDecision(d)
	if err != nil {
		w.t.Fatal(err)
	}
	r := &kgo.Record{Topic: schemas.PaymentsDecided, Partition: int32(shard), Offset: offset, Key: []byte(d.Event.CustomerID), Value: value, Timestamp: d.Event.Time}
	if _, err := w.shards[shard].Post(w.t.Context(), []*kgo.Record{r}); err != nil {
		w.t.Fatal(err)
	}
}

func stuckOnes(all []Stuck) (ones []string) {
	for _, s := range all {
		ones = append(ones, strings.TrimSpace(s.Payment+" "+s.Status+" "+s.Event))
	}
	return ones
}

// Whatever is past its limit is listed, each by its own shard's clock or by the moment asked for, and nothing else is.
func TestStuck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	review := func(d *events.Decision) { d.Verdict = events.Review }
	respond := func(hours int) func(*events.Decision) {
		return func(d *events.Decision) { d.Event.RespondBy = start.Add(time.Duration(hours) * time.Hour) }
	}
	byWallet := func(d *events.Decision) { d.Event.Method, d.Event.Purpose = wallet, topUp }
	w.tell(0, "reviewed", 0, events.PaymentInitiated, 100, review)
	w.tell(0, "settles", 0, events.PaymentInitiated, 100)
	w.tell(0, "settles", 1, events.PaymentSettled, 100)
	w.tell(0, "never settles", 0, events.PaymentInitiated, 100)
	w.tell(0, "contested", 2, events.PaymentInitiated, 500)
	w.tell(0, "contested", 3, events.PaymentDisputed, 300, respond(48))
	w.tell(0, "contested too", 3, events.PaymentInitiated, 500)
	w.tell(0, "contested too", 3, events.PaymentDisputed, 500, respond(30), func(d *events.Decision) { d.Event.Reason = "not as described" })
	w.tell(0, "contested too", 4, events.PaymentEvidenceSubmitted, 1, func(d *events.Decision) { d.Event.Evidence = "drawer 7" })
	w.tell(1, "unknown", 5, events.PaymentCaptured, 100)
	for _, c := range []struct {
		hours int
		want  []string
	}{
		{24, nil},
		{25, []string{"reviewed in_review"}},
		{49, []string{"reviewed in_review", "unknown early payment.captured", "contested disputed"}},
		{24*7 + 1, []string{"reviewed in_review", "unknown early payment.captured", "contested disputed", "never settles posted"}},
	} {
		got, total, err := w.book.Stuck(t.Context(), StuckQuery{At: start.Add(time.Duration(c.hours) * time.Hour)})
		if ones := stuckOnes(got); err != nil || int(total) != len(ones) || fmt.Sprint(ones) != fmt.Sprint(c.want) {
			t.Errorf("after %d hours %q are stuck, want %q; %v", c.hours, ones, c.want, err)
		}
	}
	// By the shards' clocks: shard 0 goes on, shard 1 does not, so its capture is in time.
	w.tell(0, "later", 50, events.PaymentInitiated, 100, byWallet)
	got, _, err := w.book.Stuck(t.Context(), StuckQuery{})
	if ones := stuckOnes(got); err != nil || fmt.Sprint(ones) != "[reviewed in_review contested disputed]" {
		t.Errorf("%q are stuck, %v", ones, err)
	}
	w.tell(1, "later too", 50, events.PaymentInitiated, 100, byWallet)
	got, total, err := w.book.Stuck(t.Context(), StuckQuery{Limit: 2})
	if err != nil || total != 3 || fmt.Sprint(stuckOnes(got)) != "[reviewed in_review unknown early payment.captured]" {
		t.Errorf("the first two stuck are %q, %v", stuckOnes(got), err)
	}
	var out bytes.Buffer
	if err := WriteStuck(&out, got, true); err != nil || !strings.Contains(out.String(), "reviewed,in_review,C0,M,card,purchase,,2026-03-01T00:00:00Z,2026-03-02T00:00:00Z,26h0m0s,1.00 CNY\n") {
		t.Errorf("%v: %s", err, out.String())
	}

	// What came early is listed for a week; then it is given up, and in a list of its own.
	gone := StuckQuery{At: start.Add(29*time.Hour + payments.EarlyListed), GivenUp: true}
	if got, total, err = w.book.Stuck(t.Context(), gone); err != nil || total != 0 {
		t.Errorf("%q are given up, %v", stuckOnes(got), err)
	}
	gone.At = gone.At.Add(time.Minute)
	if got, _, err = w.book.Stuck(t.Context(), gone); err != nil || fmt.Sprint(stuckOnes(got)) != "[unknown given_up payment.captured]" || got[0].Answer != payments.CodeUnknown {
		t.Errorf("%+v are given up, %v", got, err)
	}
	if got, _, err = w.book.Stuck(t.Context(), StuckQuery{At: gone.At}); err != nil || strings.Contains(fmt.Sprint(stuckOnes(got)), "early") {
		t.Errorf("%q are stuck, %v", stuckOnes(got), err)
	}
	w.tell(1, "much later", 24*9, events.PaymentInitiated, 100, byWallet)
	if life, err := w.book.Payment(t.Context(), "unknown"); err != nil || life.Events[0].GivenUp != payments.CodeUnknown {
		t.Errorf("%+v, %v", life, err)
	}
	disputes, err := w.book.Disputes(t.Context(), 0)
	if err != nil || len(disputes) != 2 {
		t.Fatalf("disputes %+v, %v", disputes, err)
	}
	if d := disputes[0]; d.Payment != "contested" || d.State != payments.DisputeOpen || !d.Overdue || d.Claimed.String() != "3" {
		t.Errorf("the first dispute is %+v", d)
	}
	if d := disputes[1]; d.Payment != "contested too" || d.State != payments.DisputeEvidence || d.Overdue || d.Frozen.String() != "5" || d.Reason != "not as described" {
		t.Errorf("the second dispute is %+v", d)
	}
}

// A payment's life has every event with its answer, in order, and all that moved.
func TestPaymentLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	shared := func(d *events.Decision) {
		d.Event.Splits = []events.Split{{MerchantID: "M", Amount: 600}, {MerchantID: "N", Amount: 400}}
		d.Route = events.Route{Channel: "north", Reason: "cheapest healthy of 3"}
	}
	w.tell(0, "P", 1, events.PaymentCaptured, 500)
	life, err := w.book.Payment(t.Context(), "P")
	if err != nil || life.Status != "early" || len(life.Events) != 1 || life.Events[0].Answer != payments.CodeEarly {
		t.Fatalf("%+v, %v", life, err)
	}
	w.tell(0, "P", 0, events.PaymentAuthorized, 1000, shared)
	w.tell(0, "P", 2, events.PaymentRefunded, 100, func(d *events.Decision) { d.Event.MerchantID = "N" })
	w.tell(0, "P", 3, events.PaymentDisputed, 300, func(d *events.Decision) { d.Event.RespondBy = start.Add(100 * time.Hour) })
	w.tell(0, "Q", 3, events.PaymentInitiated, 100)
	w.tell(0, "P", 4, events.PaymentDisputeDecided, 1, func(d *events.Decision) { d.Event.Outcome = eventsv1.DisputeOutcome_DISPUTE_OUTCOME_WON })
	if life, err = w.book.Payment(t.Context(), "P"); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := life.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"status         posted\n", "channel        north\n", "route          cheapest healthy of 3\n", "captured       5.00 CNY\n", "refunded       1.00 CNY\n",
		"share          6.00 of M: captured 3.00, back 0.00\n", "share          4.00 of N: captured 2.00, back 1.00\n", "dispute        won: 3.00 claimed, 0.00 frozen",
		"hold           P: 6.00 from clearing:north/0:CNY to merchant:M:CNY; posted 3.00, voided 3.00, expired 0.00, open 0.00\n", "hold           P#0.1: 4.00",
		"payment.captured  awaits_payment, then posted  (acquirer 0.0, decision payments/0/0)\n", "payment.authorized  posted  (acquirer 0.1, decision payments/0/1)\n    purchase 3.00 CNY: clearing:north/0:CNY -> merchant:M:CNY\n",
		"payment.refunded  posted", "    refund 1.00 CNY: merchant:N:CNY -> clearing:north/0:CNY\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "Q") || len(life.Events) != 5 {
		t.Errorf("%d events:\n%s", len(life.Events), out.String())
	}
	if _, err := w.book.Payment(t.Context(), "R"); !errors.Is(err, ErrNoPayment) || !strings.Contains(err.Error(), "deadletters list") {
		t.Errorf("an unknown payment: %v", err)
	}
	w.tell(0, "S", 5, events.PaymentInitiated, 100, func(d *events.Decision) { d.Verdict = events.Decline })
	w.tell(1, "T", 5, events.PaymentInitiated, 100, func(d *events.Decision) { d.Event.Purpose = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_CLEARING })
	for id, want := range map[string]string{"S": "which rules: sluice explain payments/0/6\n", "T": "payment.initiated  not_the_house  (acquirer 1.0, decision payments/1/0)\n"} {
		life, err := w.book.Payment(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		out.Reset()
		if err := life.Write(&out); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q, %v:\n%s", want, err, out.String())
		}
	}
}
