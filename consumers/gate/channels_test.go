package gate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// testChannels are two channels for cards.
const testChannels = `
routing: test
version: %d
attempts: 4
explore: 0
probe: 0
channels:
  - {name: a, methods: [card], purposes: [purchase], currencies: [CNY], fees: [{bps: 60}]}
  - {name: b, methods: [card], purposes: [purchase], currencies: [CNY], fees: [{bps: 90}]}
`

// bought is a card purchase of a customer; channel is who carries it, "" for the house to choose.
func bought(customer string, n int, kind events.Kind, channel string) *events.Event {
	e := topUp(customer, n)
	e.ID, e.Kind, e.PaymentChannel = fmt.Sprintf("%s-%s-%d", kind, customer, n), kind, channel
	e.PaymentID, e.MerchantID = e.ID, "M1"
	e.Method, e.Purpose = eventsv1.PaymentMethod_PAYMENT_METHOD_CARD, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE
	return e
}

// Channels come from their topic: payments are routed from the next transaction on, failures of all partitions turn the
// choice, a gate that starts again goes on with what was counted, what does not load changes nothing, and "off" ends it.
func TestChannels(t *testing.T) {
	h := newHouse(t)
	g := h.gate(nil).waitReady()
	if d := h.one(bought("C1", 0, events.PaymentInitiated, "")); d.Route.Reason != "" || d.Verdict != events.Approve {
		t.Fatalf("without channels: %+v", d.Route)
	}
	h.control(schemas.Channels, schemas.ChannelsKey, fmt.Appendf(nil, testChannels, 1))
	n := 1
	next := func(customer string) events.Decision {
		n++
		return h.one(bought(customer, n, events.PaymentInitiated, ""))
	}
	until := func(what string, ok func(*events.Decision) bool) events.Decision {
		t.Helper()
		for {
			d := next("C1")
			if ok(&d) {
				return d
			}
			if h.ctx.Err() != nil {
				t.Fatalf("%s: not so: %+v", what, d.Route)
			}
		}
	}
	d := until("routed", func(d *events.Decision) bool { return d.Route.Channel != "" })
	if d.Route.Channel != "a" || !slices.Equal(d.Route.Fallbacks, []string{"b"}) || !strings.HasSuffix(d.Route.Reason, "; test@1") {
		t.Errorf("%+v", d.Route)
	}
	h.control(schemas.Channels, schemas.ChannelsKey, []byte("routing: test\nversion: 2\nchannels: nonsense\n"))
	for i := range 8 { // of several partitions
		h.publish(bought(fmt.Sprint("C", i), n, events.PaymentFailed, "a"))
	}
	until("failed over", func(d *events.Decision) bool {
		return d.Route.Channel == "b" && strings.Contains(d.Route.Reason, "of 1 healthy")
	})
	if got := testutil.ToFloat64(g.metrics.channelsRefused); got != 1 {
		t.Errorf("%v tables are refused", got)
	}
	if got := testutil.ToFloat64(g.metrics.routes.WithLabelValues("b", "cheapest")); got < 1 {
		t.Errorf("%v choices of b are counted", got)
	}
	if err := g.end(); err != nil {
		t.Fatal(err)
	}
	h.gate(nil).waitReady()
	if d := next("C2"); d.Route.Channel != "b" || !strings.HasPrefix(d.Route.Reason, "cheapest of 1 healthy") {
		t.Errorf("after a restart: %+v", d.Route)
	}
	euro := bought("C3", 5000, events.PaymentInitiated, "")
	euro.Currency = events.MustCurrency("EUR")
	if d := h.one(euro); d.Verdict != events.Decline || d.Hits[len(d.Hits)-1].Reason != "R_NOROUTE" || d.Route.Channel != "" {
		t.Errorf("no channel: %s %+v %+v", d.Verdict, d.Hits, d.Route)
	}
	h.control(schemas.Channels, schemas.ChannelsKey, []byte(schemas.ChannelsOff))
	until("off", func(d *events.Decision) bool { return d.Route.Reason == "" })
}

// A gate dies with everything produced and nothing committed: its successor decides the same events, with the same choices.
func TestALostTransactionChoosesTheSame(t *testing.T) {
	h := newFaultyHouse(t)
	h.control(schemas.Channels, schemas.ChannelsKey, fmt.Appendf(nil, testChannels, 1))
	var all []*events.Event
	for i := range 60 {
		kind, channel := events.PaymentInitiated, ""
		if i%3 == 0 {
			kind, channel = events.PaymentFailed, "a"
		}
		all = append(all, bought("C1", i, kind, channel))
	}
	h.publish(all...)
	nw := &network{}
	killed := make(chan struct{})
	first := h.once(func(c *Config) {
		c.hooks.client = append(slices.Clone(quick), nw.option(), kgo.SessionTimeout(500*time.Millisecond), kgo.TransactionTimeout(time.Second))
		c.hooks.beforeEnd = func(ctx context.Context) {
			nw.kill()
			close(killed)
			<-ctx.Done()
		}
	}).waitReady()
	<-killed
	second := h.gate(nil)
	h.awaitDecided(len(all))
	h.must(first.end())
	h.must(second.end())
	payments := 0
	for _, d := range h.decisions() {
		if d.Event.Kind != events.PaymentInitiated {
			continue
		}
		// Of one customer all stand in one partition, in order: the fourth failure turns the choice.
		failures := 0
		for _, e := range all {
			if e.Kind == events.PaymentFailed && !e.Time.After(d.Event.Time) {
				failures++
			}
		}
		channel := "a"
		if failures >= 4 {
			channel = "b"
		}
		if d.Route.Channel != channel {
			t.Errorf("after %d failures: %+v", failures, d.Route)
		}
		payments++
	}
	if payments != 40 {
		t.Errorf("%d payments", payments)
	}
}

// A gate that finds nothing but a table it cannot use does not go on without channels, as if nobody had published any: its
// payments would be booked elsewhere than those of gates that still know the one before.
func TestAGateNeedsTheChannelsThatWerePublished(t *testing.T) {
	h := newHouse(t)
	h.control(schemas.Channels, schemas.ChannelsKey, []byte("routing: test\nversion: 2\nchannels: nonsense\n"))
	if err := h.gate(nil).wait(); err == nil || !strings.Contains(err.Error(), "cannot be used") || !strings.Contains(err.Error(), "sluice channels off") {
		t.Errorf("the gate ended with %v", err)
	}
	h.control(schemas.Channels, schemas.ChannelsKey, []byte(schemas.ChannelsOff))
	h.gate(nil).waitReady()
}
