package risk

import (
	"fmt"
	"testing"
	"time"

	"sluice/rules"
	"sluice/schemas/events"
)

// TestReadingAllocatesNothing: aggregates of all functions, private and shared, staged, committed elsewhere and followed, and
// a brake.
func TestReadingAllocatesNothing(t *testing.T) { // alone: it counts allocations
	rs, err := rules.Load("test.yaml", []byte(`
ruleset: all
version: 1
aggregates:
  count: {count: payment.initiated, by: customer, window: 1d}
  sum: {sum: payment.amount, of: payment.initiated, by: merchant, window: 1d}
  avg: {avg: payment.amount, of: payment.initiated, by: merchant, window: 1d}
  least: {min: payment.amount, of: payment.initiated, by: merchant, window: 1d}
  most: {max: payment.amount, of: payment.initiated, by: merchant, window: 1d}
  payers: {distinct: customer, of: payment.initiated, by: merchant, window: 1d}
  devices: {distinct: device, of: payment.initiated, by: merchant, window: 1d}
  last: {since: payment.initiated, by: merchant, window: 1d}
  first: {age: payment.initiated, by: merchant, window: 1d}
  spread: {stddev: payment.amount, of: payment.initiated, by: merchant, window: 1d}
  before: {sum: payment.amount, of: payment.initiated, by: merchant, window: 1h, delay: 1h}
  circle: {cycle: payment.initiated, window: 1d, hops: 6}
rules:
  - {id: bad, when: payment.amount >= 5, brake: {share: 0.1, window: 1h, after: 1}, then: {verdict: decline, reason: R, say: s}}
`))
	if err != nil {
		t.Fatal(err)
	}
	s, other := NewState(NewEngine(rs)), NewState(NewEngine(rs))
	s.Assign(0)
	s.Assign(1)
	other.Assign(2)
	at := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	for i := range 300 {
		e := events.Event{ID: fmt.Sprint(i), Source: "test", Kind: events.PaymentInitiated, Time: at.Add(time.Duration(i) * 5 * time.Minute),
			CustomerID: fmt.Sprint("c", i%9), CounterpartyID: fmt.Sprint("c", i%7), MerchantID: "m", DeviceID: fmt.Sprint("d", i%20), Amount: int64(i + 1),
			Currency: events.MustCurrency("CNY")}
		if i%3 == 2 {
			other.Decide(2, &e)
			other.Staged(func(p int32, key, value []byte) {
				if err := s.Follow(p, key, value); err != nil {
					t.Fatal(err)
				}
			})
			other.Commit()
			continue
		}
		s.Decide(int32(i%3), &e)
		if i%3 == 0 && i < 295 {
			s.Commit()
		}
	}
	live := &s.askers[0]
	read := func() {
		s.views = s.views[:0]
		for i := range rs.Aggregates {
			live.Aggregate(i)
		}
		live.Held(0)
	}
	read()
	if n := testing.AllocsPerRun(100, read); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
