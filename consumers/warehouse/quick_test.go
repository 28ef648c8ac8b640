package warehouse

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
	schema "sluice/schemas/warehouse"
)

func payRecords(n int) []*kgo.Record {
	out := make([]*kgo.Record, n)
	for i := range out {
		d := events.Decision{Verdict: events.Approve, Ruleset: "default@1", Topic: "payments", Partition: 3, Offset: int64(i), Received: time.Now().UTC(), Tier: "gold",
			Event: events.Event{ID: fmt.Sprintf("evt-%08d", i), Source: "app", Kind: events.PaymentInitiated, Time: time.Now().UTC().Truncate(time.Microsecond), CustomerID: fmt.Sprintf("C%06d", (i*7919)%20000),
				PaymentID: fmt.Sprintf("pay-%08d", i), MerchantID: fmt.Sprintf("M%04d", i%500), MerchantMCC: "5411", Channel: "app", DeviceID: fmt.Sprintf("D%06d", (i*7919)%20000), IP: "10.1.2.3", Country: "CN", Latitude: 31.2, Longitude: 121.5,
				Amount: int64(100 + i%5000), Currency: events.MustCurrency("CNY"), Method: eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET, Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE}}
		_, v, err := events.EncodeDecision(&d)
		if err != nil {
			panic(err)
		}
		out[i] = &kgo.Record{Topic: "payments.decided", Partition: 3, Offset: int64(i), Timestamp: time.Now(), Key: []byte(d.Event.CustomerID), Value: v}
	}
	return out
}

func TestQuick(t *testing.T) {
	url := os.Getenv("Q")
	if url == "" {
		t.Skip()
	}
	rs := payRecords(50000)
	b := newBatch()
	for range 3 {
		b.reset()
		t0 := time.Now()
		for _, r := range rs {
			events.DecodeDecision(r.Value)
		}
		t1 := time.Now()
		for _, r := range rs {
			b.add("payments.decided", r)
		}
		fmt.Println("decode", t1.Sub(t0)/50000, "decode+add", time.Since(t1)/50000)
	}
	ctx := context.Background()
	conn, err := schema.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		c2 := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"insert_deduplicate": 1, "insert_deduplication_token": fmt.Sprint("x", time.Now().UnixNano(), i), "async_insert": 0}))
		t0 := time.Now()
		bt, err := conn.PrepareBatch(c2, b.payments.insert())
		if err != nil {
			t.Fatal(err)
		}
		t1 := time.Now()
		if err := b.payments.appendTo(bt); err != nil {
			t.Fatal(err)
		}
		t2 := time.Now()
		if err := bt.Send(); err != nil {
			t.Fatal(err)
		}
		fmt.Println("prepare", t1.Sub(t0), "append/row", t2.Sub(t1)/50000, "send/row", time.Since(t2)/50000)
	}
}
