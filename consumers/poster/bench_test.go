package poster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"sluice/deploy/embedded"
	"sluice/deploy/embedded/enginestest"
	"sluice/schemas/events"
)

// durable returns a Postgres of the benchmark's own that does not skip fsync.
func durable(b *testing.B) string {
	b.Helper()
	e, err := embedded.Start(b.Context(), embedded.Options{DataDir: b.TempDir(), Postgres: true})
	if enginestest.Unavailable(err) {
		b.Skip(err)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Stop(context.Background()) })
	if err := Migrate(b.Context(), e.PostgresURL); err != nil {
		b.Fatal(err)
	}
	return e.PostgresURL
}

// BenchmarkPoster prints transfers a second of the poster's batch, from records in memory to the durable commit, and of
// one SQL transaction per transfer on the same Postgres and tables.
func BenchmarkPoster(b *testing.B) {
	url := durable(b)
	shards := int32(0) // each sub-benchmark takes fresh ones; the framework runs it several times
	for _, c := range []struct {
		name     string
		accounts int  // customers
		writers  int  // side by side, each on customers of its own
		hot      bool // four of five purchases at one merchant
		purchase bool // two transfers each: the price and the fee; 500 merchants
	}{
		{"transfers/accounts=10000", 10_000, 1, false, false},
		{"transfers/accounts=10000/writers=2", 10_000, 2, false, false},
		{"transfers/accounts=1000000", 1_000_000, 1, false, false},
		{"purchases", 10_000, 1, false, true},
		{"purchases/hot-merchant", 10_000, 1, true, true},
		{"purchases/writers=2", 10_000, 2, false, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			work := make([]func() (int, error), c.writers)
			for i := range work {
				shards++
				work[i] = prepare(b, url, generator{tb: b, rng: rand.New(rand.NewPCG(1, uint64(shards))), shard: shards, accounts: c.accounts, hot: c.hot, purchase: c.purchase})
			}
			b.ResetTimer()
			var transfers atomic.Int64
			var group errgroup.Group
			for _, post := range work {
				group.Go(func() error {
					n, err := post()
					transfers.Add(int64(n))
					return err
				})
			}
			if err := group.Wait(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(transfers.Load())/b.Elapsed().Seconds(), "transfers/s")
			b.ReportMetric(float64(c.writers*b.N*DefaultMaxBatch)/b.Elapsed().Seconds(), "decisions/s")
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/batch")
			b.ReportMetric(0, "ns/op")
		})
	}
	b.Run("one-transaction-per-transfer", func(b *testing.B) {
		oneByOne(b, url)
	})
}

// prepare makes b.N batches and returns what posts them and counts their transfers.
func prepare(b *testing.B, url string, g generator) func() (int, error) {
	w := newWriter(b, url, part{"payments.decided", g.shard})
	g.fund(w)
	batches := make([][]*kgo.Record, b.N)
	for i := range batches {
		batches[i] = g.batch(DefaultMaxBatch)
	}
	return func() (transfers int, err error) {
		for _, records := range batches {
			posted, err := w.send(b.Context(), records...)
			if err != nil {
				return transfers, err
			}
			transfers += posted.transfers()
		}
		return transfers, nil
	}
}

type generator struct {
	tb            testing.TB
	rng           *rand.Rand
	shard         int32
	at            int64
	accounts      int
	hot, purchase bool
}

func (g *generator) wallet() string { return fmt.Sprintf("S%dC%d", g.shard, g.rng.IntN(g.accounts)) }

// fund opens the wallets that 10,000 customers start with; with more accounts the rest is opened on the way.
func (g *generator) fund(w *writer) {
	var records []*kgo.Record
	for i := range min(g.accounts, 10_000) {
		records = append(records, g.record(payment(topUp, byBank, fmt.Sprintf("S%dC%d", g.shard, i), "", 1_000_000_00)))
		if len(records) == DefaultMaxBatch {
			w.must(g.tb, records...)
			records = nil
		}
	}
}

func (g *generator) record(d events.Decision) *kgo.Record {
	g.at++
	return decided(g.tb, g.shard, g.at-1, d)
}

func (g *generator) batch(n int) []*kgo.Record {
	records := make([]*kgo.Record, n)
	for i := range records {
		from := fmt.Sprintf("S%dC%d", g.shard, g.rng.IntN(min(g.accounts, 10_000)))
		d := payment(transfer, byWallet, from, g.wallet(), 1+g.rng.Int64N(100))
		if g.purchase {
			merchant := g.rng.IntN(500)
			if g.hot && g.rng.IntN(5) > 0 {
				merchant = 0
			}
			d = payment(purchase, byWallet, from, fmt.Sprintf("M%d", merchant), 100+g.rng.Int64N(10_000))
		}
		records[i] = g.record(d)
	}
	return records
}

// oneByOne posts a transfer the usual way: a transaction that updates two accounts and inserts one row, in one round trip
// by a function in the database.
func oneByOne(b *testing.B, url string) {
	conn := reader(b, url)
	for _, sql := range []string{
		`CREATE TABLE IF NOT EXISTS naive_accounts (id bigint PRIMARY KEY, balance bigint NOT NULL DEFAULT 1000000000 CHECK (balance >= 0), version bigint NOT NULL DEFAULT 0)`,
		`CREATE TABLE IF NOT EXISTS naive_transfers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, debit bigint NOT NULL, credit bigint NOT NULL, amount bigint NOT NULL CHECK (amount > 0), at timestamptz NOT NULL DEFAULT now())`,
		`INSERT INTO naive_accounts SELECT n FROM generate_series(0, 9999) n ON CONFLICT DO NOTHING`,
		`CREATE OR REPLACE FUNCTION naive_transfer(d bigint, c bigint, a bigint) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM 1 FROM naive_accounts WHERE id IN (d, c) ORDER BY id FOR NO KEY UPDATE;
			UPDATE naive_accounts SET balance = balance - a, version = version + 1 WHERE id = d;
			UPDATE naive_accounts SET balance = balance + a, version = version + 1 WHERE id = c;
			INSERT INTO naive_transfers (debit, credit, amount) VALUES (d, c, a);
		END $$`,
	} {
		if _, err := conn.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	b.ResetTimer()
	for range b.N {
		d := rng.Int64N(10_000)
		if _, err := conn.Exec(b.Context(), "SELECT naive_transfer($1, $2, $3)", d, (d+1+rng.Int64N(9_999))%10_000, 1+rng.Int64N(100)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "transfers/s")
	b.ReportMetric(0, "ns/op")
}
