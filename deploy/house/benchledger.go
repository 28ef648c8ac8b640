package house

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"sluice/consumers/poster"
	"sluice/deploy/embedded"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// LedgerBench says what `sluice bench ledger` measures.
type LedgerBench struct {
	Batches  int      // of each workload and writer
	Batch    int      // decisions of a batch
	Accounts int      // of the workloads with many accounts; the others have benchAccounts
	Only     []string // names of workloads; none: all
	JSON     bool
	Out      io.Writer
	Draw     func(stage string, done, total int64)
}

// benchAccounts is the number of wallets where there are few.
const benchAccounts = 10_000

// benchMerchants is the number of merchants of the hot workloads, of which one gets four of five purchases.
const benchMerchants = 500

// benchRounds is how often each way is measured, in turn, so that what else the machine does hits all alike.
const benchRounds = 3

// oneByOneFor is how long one transaction after the other is posted in each round.
const oneByOneFor = time.Second

// LedgerFigures are what a workload has shown. Rates are transfers a second.
type LedgerFigures struct {
	Workload  string  `json:"workload"`
	Accounts  int     `json:"accounts"`
	Writers   int     `json:"writers"`
	Transfers int     `json:"transfers"`
	Rate      float64 `json:"transfers_per_second"`
	P50       float64 `json:"batch_ms_p50"`
	P99       float64 `json:"batch_ms_p99"`
	OneByOne  float64 `json:"one_transaction_each_per_second"`
	Copy      float64 `json:"copy_per_second"`
	OverOne   float64 `json:"times_one_transaction_each"`
	OfCopy    float64 `json:"share_of_copy"`
}

// benchLoad is a workload.
type benchLoad struct {
	name     string
	accounts int
	writers  int
	hot      bool
}

func (o *LedgerBench) loads() []benchLoad {
	return []benchLoad{
		{"uniform", benchAccounts, 1, false},
		{"uniform, 2 writers", benchAccounts, 2, false},
		{"hot merchant", benchAccounts, 1, true},
		{"hot merchant, 2 writers", benchAccounts, 2, true},
		{"uniform, many accounts", o.Accounts, 1, false},
		{"uniform, many accounts, 2 writers", o.Accounts, 2, false},
	}
}

// BenchLedger measures the book's batch from records in memory to the durable commit, and beside it, on the same
// Postgres with fsync: the usual transaction for each transfer, and COPY of the very rows that the batches wrote into
// tables with the same keys and checks.
func BenchLedger(ctx context.Context, o LedgerBench) error {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	e, err := embedded.Start(ctx, embedded.Options{DataDir: dir, Postgres: true, Progress: o.Draw})
	if err != nil {
		return err
	}
	defer func() { _ = e.Stop(context.WithoutCancel(ctx)) }()
	if err := poster.Migrate(ctx, e.PostgresURL); err != nil {
		return err
	}
	var all []LedgerFigures
	shard := int32(0)
	for _, load := range o.loads() {
		if len(o.Only) > 0 && !slices.Contains(o.Only, load.name) {
			continue
		}
		b := &ledgerBench{LedgerBench: o, load: load, url: e.PostgresURL, first: shard}
		shard += int32(load.writers)
		figures, err := b.run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", load.name, err)
		}
		all = append(all, figures)
	}
	if o.JSON {
		enc := json.NewEncoder(o.Out)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	return printBench(o.Out, all)
}

func printBench(out io.Writer, all []LedgerFigures) error {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "workload\taccounts\ttransfers/s\tbatch p50\tp99\tone tx each/s\ttimes\tCOPY/s\tof COPY\t")
	for _, f := range all {
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%.0f ms\t%.0f ms\t%.0f\t%.1f ×\t%.0f\t%.0f %%\t\n", f.Workload, f.Accounts, f.Rate, f.P50, f.P99, f.OneByOne, f.OverOne, f.Copy, 100*f.OfCopy)
	}
	return t.Flush()
}

// ledgerBench is one workload being measured.
type ledgerBench struct {
	LedgerBench
	load  benchLoad
	url   string
	first int32 // shard of the first writer
}

// lane is one writer and what it is compared with.
type lane struct {
	shard   int32
	post    *poster.Direct
	conn    *pgx.Conn
	rng     *rand.Rand
	offset  int64
	batches [][]*kgo.Record
	next    int64 // batch to copy
}

func (b *ledgerBench) run(ctx context.Context) (f LedgerFigures, err error) {
	f = LedgerFigures{Workload: b.load.name, Accounts: b.load.accounts, Writers: b.load.writers}
	lanes := make([]*lane, b.load.writers)
	for i := range lanes {
		if lanes[i], err = b.lane(ctx, b.first+int32(i)); err != nil {
			return f, err
		}
		defer lanes[i].close(ctx)
	}
	if err := b.baselines(ctx, lanes[0].conn); err != nil {
		return f, err
	}
	var took, copied, alone time.Duration
	var single int
	var latencies []time.Duration
	for round := range benchRounds {
		b.Draw("measuring "+b.load.name, int64(round), benchRounds)
		per := b.Batches / benchRounds
		if round == benchRounds-1 {
			per = b.Batches - per*(benchRounds-1)
		}
		for _, l := range lanes {
			l.prepare(b, per)
		}
		posted := make([][]time.Duration, len(lanes))
		counts := make([]int, len(lanes))
		d, err := together(lanes, func(i int, l *lane) (err error) {
			counts[i], posted[i], err = l.send(ctx)
			return err
		})
		if err != nil {
			return f, err
		}
		took += d
		for i := range lanes {
			f.Transfers += counts[i]
			latencies = append(latencies, posted[i]...)
		}
		if d, err = b.copy(ctx, lanes); err != nil {
			return f, err
		}
		copied += d
		if d, err = together(lanes, func(i int, l *lane) (err error) {
			counts[i], err = l.oneByOne(ctx, b.load)
			return err
		}); err != nil {
			return f, err
		}
		alone += d
		for i := range lanes {
			single += counts[i]
		}
	}
	b.Draw("measuring "+b.load.name, benchRounds, benchRounds)
	slices.Sort(latencies)
	f.Rate, f.Copy, f.OneByOne = float64(f.Transfers)/took.Seconds(), float64(f.Transfers)/copied.Seconds(), float64(single)/alone.Seconds()
	f.P50, f.P99 = milliseconds(latencies, 50), milliseconds(latencies, 99)
	f.OverOne, f.OfCopy = f.Rate/f.OneByOne, f.Rate/f.Copy
	return f, nil
}

// milliseconds is a quantile of latencies.
func milliseconds(sorted []time.Duration, percent int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(len(sorted)*percent/100, len(sorted)-1)].Microseconds()) / 1000
}

// together runs something on every lane at once and returns how long all of it took.
func together(lanes []*lane, do func(i int, l *lane) error) (time.Duration, error) {
	started := time.Now()
	var group errgroup.Group
	for i, l := range lanes {
		group.Go(func() error { return do(i, l) })
	}
	err := group.Wait()
	return time.Since(started), err
}

func (b *ledgerBench) lane(ctx context.Context, shard int32) (*lane, error) {
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return nil, err
	}
	l := &lane{shard: shard, conn: conn, rng: rand.New(rand.NewPCG(1, uint64(shard)))}
	if l.post, err = poster.NewDirect(ctx, b.url, shard); err != nil {
		return nil, err
	}
	b.Draw("opening accounts", 0, 1)
	if err := l.fund(ctx, b.load.accounts); err != nil {
		return nil, err
	}
	b.Draw("opening accounts", 1, 1)
	l.prepare(b, 2) // learn the accounts' numbers, fill the caches
	_, _, err = l.send(ctx)
	l.next = 3
	return l, err
}

func (l *lane) close(ctx context.Context) {
	l.post.Close()
	_ = l.conn.Close(ctx)
}

// benchFunds is what each wallet starts with, in minor units.
const benchFunds = 1_000_000_000

// fund opens the lane's wallets with money from a clearing account, by SQL: how they came about is not measured.
func (l *lane) fund(ctx context.Context, accounts int) error {
	_, err := l.conn.Exec(ctx, fmt.Sprintf(`
		INSERT INTO accounts (key, type, currency, exponent, credit_normal, striped, floor, credits_posted)
		SELECT 'wallet:S%[1]dC' || n || ':CNY', 'wallet', 'CNY', 2, true, false, 0, %[3]d FROM generate_series(0, %[2]d - 1) n;
		INSERT INTO accounts (key, type, currency, exponent, credit_normal, striped, debits_posted)
		VALUES ('clearing:opening/%[1]d:CNY', 'clearing', 'CNY', 2, false, true, %[2]d * %[3]d::bigint)`, l.shard, accounts, benchFunds))
	if err == nil {
		_, err = l.conn.Exec(ctx, "VACUUM ANALYZE accounts")
	}
	return err
}

// prepare makes records in memory.
func (l *lane) prepare(b *ledgerBench, batches int) {
	l.batches = l.batches[:0]
	for range batches {
		records := make([]*kgo.Record, b.Batch)
		for i := range records {
			records[i] = l.record(b.load)
		}
		l.batches = append(l.batches, records)
	}
}

func (l *lane) record(load benchLoad) *kgo.Record {
	from, to := l.rng.IntN(load.accounts), l.rng.IntN(load.accounts-1)
	if to >= from {
		to++
	}
	at := time.UnixMicro(1_770_000_000_000_000 + l.offset*1000).UTC()
	e := events.Event{
		ID: fmt.Sprintf("e%d.%d", l.shard, l.offset), Source: "bench", Kind: events.PaymentInitiated, Time: at, PaymentID: fmt.Sprintf("p%d.%d", l.shard, l.offset),
		CustomerID: fmt.Sprintf("S%dC%d", l.shard, from), CounterpartyID: fmt.Sprintf("S%dC%d", l.shard, to),
		Method: eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET, Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER,
		Amount: 1 + l.rng.Int64N(100), Currency: events.MustCurrency("CNY"),
	}
	if load.hot {
		merchant := 0
		if l.rng.IntN(5) == 0 {
			merchant = 1 + l.rng.IntN(benchMerchants-1)
		}
		e.Purpose, e.CounterpartyID, e.MerchantID = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE, "", fmt.Sprintf("M%d", merchant)
		e.Amount += 100 // large enough for a fee
	}
	_, value, err := events.EncodeDecision(&events.Decision{Event: e, Verdict: events.Approve, Topic: schemas.Payments, Partition: l.shard, Offset: l.offset, Received: at})
	if err != nil {
		panic("bench: " + err.Error()) // the decision is made here
	}
	l.offset++
	return &kgo.Record{Topic: schemas.PaymentsDecided, Partition: l.shard, Offset: l.offset - 1, Key: []byte(e.CustomerID), Value: value, Timestamp: at}
}

func (l *lane) send(ctx context.Context) (transfers int, latencies []time.Duration, err error) {
	for _, records := range l.batches {
		started := time.Now()
		n, err := l.post.Post(ctx, records)
		if err != nil {
			return transfers, latencies, err
		}
		transfers += n
		latencies = append(latencies, time.Since(started))
	}
	return transfers, latencies, nil
}

const (
	benchTransferColumns = "shard, number, sequence, batch, debit_account, debit_version, credit_account, credit_version, amount, event_time, currency, kind"
	benchResultColumns   = "shard, sequence, batch, input_partition, input_offset, first_transfer, transfers, counted, event_time, input_topic, event_source, event_id, event_type, customer_id, payment_id, loan_id, code"
	benchPaymentColumns  = "id, shard, sequence, amount, captured, fee, refunded, charged_back, reversed, initiated_at, changed_at, customer_id, account_id, counterparty_id, merchant_id, method, purpose, currency, status, code"
)

// benchTables are what a batch writes with COPY, in its order.
var benchTables = [...]struct{ name, columns, of string }{
	{"transfers", benchTransferColumns, "WHERE shard = %[1]d AND batch = %[2]d ORDER BY number"},
	{"results", benchResultColumns, "WHERE shard = %[1]d AND batch = %[2]d ORDER BY sequence"},
	{"payments", benchPaymentColumns, "WHERE shard = %[1]d AND sequence >= (SELECT first_sequence FROM batches WHERE shard = %[1]d AND number = %[2]d) AND " +
		"sequence < (SELECT first_sequence + results FROM batches WHERE shard = %[1]d AND number = %[2]d) ORDER BY sequence"},
}

// baselines makes the tables of what the book is compared with.
func (b *ledgerBench) baselines(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, fmt.Sprintf(`
		DROP TABLE IF EXISTS copied_transfers, copied_results, copied_payments, plain_accounts, plain_transfers;
		CREATE TABLE copied_transfers (LIKE transfers INCLUDING ALL, PRIMARY KEY (shard, number), UNIQUE (debit_account, debit_version), UNIQUE (credit_account, credit_version));
		CREATE TABLE copied_results (LIKE results INCLUDING ALL);
		CREATE TABLE copied_payments (LIKE payments INCLUDING ALL);
		CREATE TABLE plain_accounts (id bigint PRIMARY KEY, balance bigint NOT NULL DEFAULT %d CHECK (balance >= 0), version bigint NOT NULL DEFAULT 0) WITH (fillfactor = 60);
		CREATE TABLE plain_transfers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, debit bigint NOT NULL, credit bigint NOT NULL,
			amount bigint NOT NULL CHECK (amount > 0), at timestamptz NOT NULL DEFAULT now());
		INSERT INTO plain_accounts SELECT n FROM generate_series(0, %d - 1) n;
		CREATE OR REPLACE FUNCTION plain_transfer(d bigint, c bigint, a bigint) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM 1 FROM plain_accounts WHERE id IN (d, c) ORDER BY id FOR NO KEY UPDATE;
			UPDATE plain_accounts SET balance = balance - a, version = version + 1 WHERE id = d;
			UPDATE plain_accounts SET balance = balance + a, version = version + 1 WHERE id = c;
			INSERT INTO plain_transfers (debit, credit, amount) VALUES (d, c, a);
		END $$`, int64(benchFunds), b.load.accounts*b.load.writers))
	if err == nil {
		_, err = conn.Exec(ctx, "VACUUM ANALYZE plain_accounts")
	}
	return err
}

// oneByOne posts transfers the usual way, each in a transaction of one round trip by a function in the database.
func (l *lane) oneByOne(ctx context.Context, load benchLoad) (n int, err error) {
	base := int64(l.shard%2) % int64(load.writers) * int64(load.accounts)
	for until := time.Now().Add(oneByOneFor); time.Now().Before(until); n++ {
		d, c := base+l.rng.Int64N(int64(load.accounts)), base+l.rng.Int64N(int64(load.accounts))
		if load.hot && l.rng.IntN(5) > 0 {
			c = 0
		}
		if d == c {
			continue
		}
		if _, err := l.conn.Exec(ctx, "SELECT plain_transfer($1, $2, $3)", d, c, 1+l.rng.Int64N(100)); err != nil {
			return n, err
		}
	}
	return n, nil
}

// copy takes what the lanes' newest batches wrote and copies it, batch by batch, into tables like the book's.
func (b *ledgerBench) copy(ctx context.Context, lanes []*lane) (time.Duration, error) {
	data := make([][][len(benchTables)][]byte, len(lanes))
	for i, l := range lanes {
		for range l.batches {
			var rows [len(benchTables)][]byte
			for j, t := range benchTables {
				var buf bytes.Buffer
				sql := "COPY (SELECT " + t.columns + " FROM " + t.name + " " + fmt.Sprintf(t.of, l.shard, l.next) + ") TO STDOUT (FORMAT binary)"
				if _, err := l.conn.PgConn().CopyTo(ctx, &buf, sql); err != nil {
					return 0, err
				}
				rows[j] = buf.Bytes()
			}
			data[i] = append(data[i], rows)
			l.next++
		}
	}
	return together(lanes, func(i int, l *lane) error {
		for _, rows := range data[i] {
			if err := l.copyBatch(ctx, rows); err != nil {
				return err
			}
		}
		return nil
	})
}

func (l *lane) copyBatch(ctx context.Context, rows [len(benchTables)][]byte) error {
	return pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error {
		for j, t := range benchTables {
			sql := "COPY copied_" + t.name + " (" + t.columns + ") FROM STDIN (FORMAT binary)"
			if _, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(rows[j]), sql); err != nil {
				return err
			}
		}
		return nil
	})
}
