package poster

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sluice/schemas/events"
)

// What waits too long by event time is counted by status, and no longer once it is done.
func TestWaitingIsCounted(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	w := newWriter(t, url, payments0)
	registry := prometheus.NewRegistry()
	m := newWaiting(registry)
	expect := func(want string) {
		t.Helper()
		if err := m.look(t.Context(), reader(t, url)); err != nil {
			t.Fatal(err)
		}
		if err := testutil.GatherAndCompare(registry, strings.NewReader(`
			# HELP sluice_disputes_open Disputes that are not decided.
			# TYPE sluice_disputes_open gauge
			# HELP sluice_disputes_overdue Open disputes whose evidence or decision is overdue.
			# TYPE sluice_disputes_overdue gauge
			# HELP sluice_payments_stuck Payments past their limit by status, and events that came early and wait too long.
			# TYPE sluice_payments_stuck gauge
`+want)); err != nil {
			t.Error(err)
		}
	}
	offset := int64(0)
	post := func(id string, kind events.Kind, hours int, change ...func(*events.Decision)) {
		t.Helper()
		d := payment(purchase, byCard, "A", "M", 500)
		d.Event.Kind, d.Event.PaymentID, d.Event.Time = kind, id, start.Add(time.Duration(hours)*time.Hour)
		for _, c := range change {
			c(&d)
		}
		w.must(t, decided(t, 0, offset, d))
		offset++
	}
	respond := func(d *events.Decision) { d.Event.RespondBy = start.Add(10 * time.Hour) }
	post("reviewed", events.PaymentInitiated, 0, func(d *events.Decision) { d.Verdict = events.Review })
	post("disputed", events.PaymentInitiated, 0)
	post("disputed", events.PaymentDisputed, 1, respond)
	post("unknown", events.PaymentCaptured, 1)
	expect(`
		sluice_disputes_open 1
		sluice_disputes_overdue 0
		sluice_payments_stuck{status="disputed"} 0
		sluice_payments_stuck{status="early"} 0
		sluice_payments_stuck{status="in_review"} 0
		sluice_payments_stuck{status="posted"} 0
`)
	post("later", events.PaymentInitiated, 26)
	expect(`
		sluice_disputes_open 1
		sluice_disputes_overdue 1
		sluice_payments_stuck{status="disputed"} 1
		sluice_payments_stuck{status="early"} 1
		sluice_payments_stuck{status="in_review"} 1
		sluice_payments_stuck{status="posted"} 0
`)
	post("disputed", events.PaymentChargedBack, 27)
	post("reviewed", events.PaymentVoided, 27)
	post("later still", events.PaymentInitiated, 26+7*24+1) // and the capture of the unknown one is given up
	expect(`
		sluice_disputes_open 0
		sluice_disputes_overdue 0
		sluice_payments_stuck{status="disputed"} 0
		sluice_payments_stuck{status="early"} 0
		sluice_payments_stuck{status="in_review"} 0
		sluice_payments_stuck{status="posted"} 1
`)
}
