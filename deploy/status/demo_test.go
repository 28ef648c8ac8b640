package status

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/schemas/events"
)

// TestDemo serves the page with made-up figures for whoever works on its looks, until Ctrl-C:
//
//	SLUICE_STATUS_DEMO=127.0.0.1:8089 go test ./deploy/status -run TestDemo -timeout 0
func TestDemo(t *testing.T) {
	addr := os.Getenv("SLUICE_STATUS_DEMO")
	if addr == "" {
		t.Skip("set SLUICE_STATUS_DEMO=host:port to look at the page")
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	d := newDemo(t)
	server := New(Config{Addr: addr, Gatherer: d.registry, Title: "sluice demo",
		Ready: func() map[string]string {
			return map[string]string{"gate": "", "poster": "", "warehouse": "", "results": "", "tiers": os.Getenv("SLUICE_STATUS_DEMO_WAITS")}
		},
		Reason: func(code string) string {
			return map[string]string{"R101": "many small declined attempts on one card", "R204": "new device and a payee never paid before"}[code]
		},
		Links: []Link{
			{"Kafka", "kafka://127.0.0.1:9092", "Publish to payments, loans and behaviors; read *.decided and ledger.results."},
			{"Postgres", "postgres://postgres:secret@127.0.0.1:5432/postgres?sslmode=disable", "The ledger."},
			{"ClickHouse", "clickhouse://default@127.0.0.1:9000/default", "The warehouse."},
			{"ClickHouse in the browser", "http://127.0.0.1:8123/play", "SQL without a client."},
		}})
	now := time.Now()
	for i := keptSamples; i > 0; i-- { // two minutes that have passed
		d.second(server)
		if err := server.samples.take(now.Add(-time.Duration(i)*time.Second), d.registry); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		for ctx.Err() == nil {
			d.second(server)
			time.Sleep(time.Second)
		}
	}()
	if err := server.Serve(ctx); err != nil {
		t.Fatal(err)
	}
}

type demo struct {
	registry *prometheus.Registry
	counters map[string]*prometheus.CounterVec
	lag      *prometheus.GaugeVec
	latency  prometheus.Histogram

	unpublished prometheus.Gauge
	random      *rand.Rand
	offset      int64
}

func newDemo(t *testing.T) *demo {
	d := &demo{registry: prometheus.NewRegistry(), counters: map[string]*prometheus.CounterVec{}, random: rand.New(rand.NewPCG(1, 2))}
	for name, labels := range tracked {
		var names []string
		for _, l := range labels {
			if l != "" {
				names = append(names, l)
			}
		}
		switch name {
		case lagRecords:
			d.lag = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name}, names)
			d.registry.MustRegister(d.lag)
		case resultsLag:
			d.unpublished = prometheus.NewGauge(prometheus.GaugeOpts{Name: name})
			d.registry.MustRegister(d.unpublished)
		case rulesetInfo:
			g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name}, names)
			g.WithLabelValues("default@3").Set(1)
			d.registry.MustRegister(g)
		case entities:
			g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name})
			g.Set(48211)
			d.registry.MustRegister(g)
		default:
			d.counters[name] = prometheus.NewCounterVec(prometheus.CounterOpts{Name: name}, names)
			d.registry.MustRegister(d.counters[name])
		}
	}
	d.latency = prometheus.NewHistogram(prometheus.HistogramOpts{Name: decisionSeconds, Buckets: prometheus.ExponentialBuckets(0.001, 1.6, 16)})
	d.registry.MustRegister(d.latency)
	return d
}

func (d *demo) add(metric string, n float64, labels ...string) {
	d.counters[metric].WithLabelValues(labels...).Add(n)
}

// second makes up what happens in a second at some 2,000 events.
func (d *demo) second(s *Server) {
	n := 2000 + 150*d.random.NormFloat64()
	d.add(eventsIn, n*0.45, "payments")
	d.add(eventsIn, n*0.02, "loans")
	d.add(eventsIn, n*0.53, "behaviors")
	d.add(decisions, n*0.53, "observed")
	d.add(decisions, n*0.44, "approve")
	d.add(decisions, n*0.02, "review")
	d.add(decisions, n*0.009, "decline")
	d.add(decisions, n*0.001, "duplicate")
	d.add(posted, n*0.47)
	d.add(transfers, n*0.6)
	d.add(rejected, n*0.004, "insufficient_funds")
	d.add(rejected, float64(d.random.IntN(2)), "loan_not_approved")
	if d.random.IntN(3) == 0 {
		d.add(rows, n*3*0.5, "payments")
		d.add(rows, n*3*0.5, "behaviors")
	}
	d.add(deadLetters, float64(d.random.IntN(20)/19), "unknown_currency")
	d.add(restarts, float64(d.random.IntN(90)/89), "warehouse")
	for rule, share := range map[string]float64{"card-testing": .006, "new-device-large": .013, "mule-fan-in": .002, "impossible-travel": .001} {
		d.add(ruleHits, n*share, rule)
	}
	for part, most := range map[string]int{"gate": 60, "poster": 900, "warehouse": 9000} {
		d.lag.WithLabelValues(part, "payments").Set(float64(d.random.IntN(most)))
	}
	d.unpublished.Set(float64(d.random.IntN(300)))
	for range 400 {
		d.latency.Observe(0.006 + 0.004*d.random.ExpFloat64())
	}
	for range 6 {
		s.Observe(d.decision())
	}
}

func (d *demo) decision() *events.Decision {
	d.offset += int64(1 + d.random.IntN(300))
	dec := &events.Decision{Topic: "payments", Partition: int32(d.random.IntN(12)), Offset: d.offset, Ruleset: "default@3", Verdict: events.Approve, Tier: "gold"}
	dec.Event = events.Event{Source: "simulator/cards", Kind: events.Kinds()[d.random.IntN(3)], Time: time.Now().Add(-time.Duration(d.random.IntN(900)) * time.Millisecond),
		CustomerID: fmt.Sprintf("C%05d", d.random.IntN(10000)), Amount: int64(d.random.IntN(900000)), Currency: events.MustCurrency([]string{"CNY", "JPY", "EUR"}[d.random.IntN(3)])}
	switch d.random.IntN(9) {
	case 0:
		dec.Verdict, dec.Score, dec.Tier = events.Decline, 120, ""
		dec.Hits = []events.Hit{{Rule: "card-testing", Score: 60, Reason: "R101"}, {Rule: "new-device-large", Score: 60, Reason: "R204"}}
	case 1:
		dec.Verdict, dec.Score = events.Review, 60
		dec.Hits = []events.Hit{{Rule: "<img src=x onerror=alert(1)>", Score: 60, Reason: "R999"}}
	}
	return dec
}
