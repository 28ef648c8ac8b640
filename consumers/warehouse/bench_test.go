//go:build !noembed

package warehouse

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// benchBatch is the rows of one insert, as in production.
const benchBatch = DefaultFlushRows

// benchRecords are decided card and wallet purchases of 20,000 customers within an hour.
func benchRecords(b *testing.B, n int) []*kgo.Record {
	b.Helper()
	start := time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)
	records := make([]*kgo.Record, n)
	for i := range records {
		customer := fmt.Sprintf("C%06d", i*7919%20_000)
		d := events.Decision{Verdict: events.Approve, Ruleset: "default@1", Topic: schemas.Payments, Partition: 3, Offset: int64(i), Received: start.Add(time.Duration(i) * time.Millisecond), Tier: "gold",
			Event: events.Event{ID: fmt.Sprintf("app-%010d", i), Source: "app", Kind: events.PaymentInitiated, Time: start.Add(time.Duration(i) * time.Millisecond), CustomerID: customer,
				PaymentID: fmt.Sprintf("P%010d", i), MerchantID: fmt.Sprintf("M%04d", i%500), MerchantMCC: "5411", Channel: "app", DeviceID: "D" + customer, IP: "10.1.2.3", Country: "CN",
				Latitude: 31.2, Longitude: 121.5, Amount: int64(100 + i%5000), Currency: events.MustCurrency("CNY"),
				Method: eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET, Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE}}
		if i%20 == 0 {
			d.Verdict, d.Score, d.Hits = events.Review, 60, []events.Hit{{Rule: "velocity", Score: 60, Reason: "R101"}}
			d.Evidence = []events.Value{{Name: "card_payments_10m", Text: "12"}}
		}
		_, value, err := events.EncodeDecision(&d)
		if err != nil {
			b.Fatal(err)
		}
		records[i] = &kgo.Record{Topic: schemas.PaymentsDecided, Partition: 3, Offset: int64(i), Timestamp: d.Received, Key: []byte(customer), Value: value}
	}
	return records
}

// BenchmarkInsert is the warehouse alone: records read from Kafka already are converted and inserted, by as many workers
// as there are CPUs; ClickHouse runs on the same machine. One operation is one batch of payments.
func BenchmarkInsert(b *testing.B) {
	for _, views := range []bool{true, false} {
		b.Run(map[bool]string{true: "views", false: "no_views"}[views], func(b *testing.B) {
			h := newHouse(b)
			if !views {
				if err := h.db.Exec(b.Context(), "DROP VIEW customer_days_of_payments"); err != nil {
					b.Fatal(err)
				}
			}
			records := benchRecords(b, benchBatch)
			w := &warehouse{c: h.c.fill(), conn: h.db, metrics: newMetrics(h.c.fill().Metrics)}
			w.idle.New = func() any { return newBatch() }
			run := func(i int) error {
				k := &work{partition: &partition{}, base: schemas.PaymentsDecided, records: records, token: fmt.Sprint(i), planned: time.Now()}
				return w.insertAll(b.Context(), k)
			}
			if err := run(-1); err != nil { // connections and memory are there
				b.Fatal(err)
			}
			b.ResetTimer()
			var g errgroup.Group
			g.SetLimit(runtime.GOMAXPROCS(0))
			for i := range b.N {
				g.Go(func() error { return run(i) })
			}
			if err := g.Wait(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)*benchBatch/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkRun is the whole part with the Kafka in this process: one operation is 600,000 decided payments of three
// partitions, from the moment the part has joined until their offsets are committed.
func BenchmarkRun(b *testing.B) {
	const n = 600_000
	records := benchRecords(b, n)
	for b.Loop() {
		b.StopTimer()
		h := newHouse(b)
		for _, r := range records {
			r.Topic = h.c.Topic(schemas.PaymentsDecided)
		}
		if err := h.producer.ProduceSync(b.Context(), records...).FirstErr(); err != nil {
			b.Fatal(err)
		}
		c := h.c
		c.FlushRows, c.FlushEvery = 0, 0
		r := h.start(c)
		b.StartTimer()
		h.arrive()
		b.StopTimer()
		h.end(r)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "rows/s")
}
