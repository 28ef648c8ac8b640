package settlement

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/consumers/stream"
	"sluice/pipelines/settlement"
	"sluice/schemas/events"
)

const (
	// watchEvery is how often what is overdue is looked for: one query over the accounts of merchants.
	watchEvery = time.Minute
	// watchLimit bounds that query.
	watchLimit = 20 * time.Second
)

// WatchConfig is what Watch needs.
type WatchConfig struct {
	stream.Config
	Postgres string
	Terms    *settlement.Terms
	Every    time.Duration // 0: a minute
}

// Overdue is what should have been settled by now. Now is the book's clock: a house that stands still is not overdue.
type Overdue struct {
	CutOff   time.Duration    // since the oldest cut-off that some merchant's transfers have no batch for; 0: none
	Accounts int              // of merchants with such transfers
	Channels map[string]int64 // batches by channel whose value date has passed without a clearing payment
}

// Watch keeps the gauges of what is overdue until ctx ends. While Postgres does not answer they stay as they are.
func Watch(ctx context.Context, c WatchConfig) {
	c.Config = c.Fill()
	if c.Every <= 0 {
		c.Every = watchEvery
	}
	cutOff := stream.Register(c.Metrics, prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_settlement_overdue_seconds",
		Help: "Event time since the oldest cut-off with transfers of a merchant in no batch; 0: none."}))
	accounts := stream.Register(c.Metrics, prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_settlement_overdue_accounts",
		Help: "Accounts of merchants with transfers before a passed cut-off in no batch."}))
	unpaid := stream.Register(c.Metrics, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_settlement_channel_overdue",
		Help: "Batches of payment channels whose value date has passed without a clearing payment."}, []string{"channel"}))
	s := Store{Postgres: c.Postgres, Terms: c.Terms}
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for {
		over, err := s.Overdue(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.Log.Warn("what of settlement is overdue cannot be read; its metrics stay as they are", "error", err)
		default:
			cutOff.Set(over.CutOff.Seconds())
			accounts.Set(float64(over.Accounts))
			unpaid.Reset()
			for channel, n := range over.Channels {
				unpaid.WithLabelValues(channel).Set(float64(n))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sqlOldest finds the first transfer of each merchant's account that is in no batch and is not settlement's own. Above the covered
// version few transfers have lines, so the first is soon found.
const sqlOldest = `
	SELECT substr(a.key, 10, length(a.key) - 13), a.currency, t.event_time, coalesce(b.day, '1970-01-01') FROM accounts a
	LEFT JOIN LATERAL (SELECT version FROM settlement_coverage WHERE account = a.id ORDER BY batch DESC LIMIT 1) c ON true
	LEFT JOIN LATERAL (SELECT day FROM settlement_batches WHERE kind = 'merchant' AND party = substr(a.key, 10, length(a.key) - 13) AND currency = a.currency ORDER BY day DESC LIMIT 1) b ON true
	CROSS JOIN LATERAL (
		SELECT min(event_time) AS event_time FROM (
			(SELECT event_time FROM transfers t WHERE t.credit_account = a.id AND t.credit_version > coalesce(c.version, 0) AND t.kind NOT IN ('payout', 'reserve', 'reserve_release')
				AND NOT EXISTS (SELECT FROM settlement_lines l WHERE l.account = a.id AND l.version = t.credit_version) ORDER BY t.credit_version LIMIT 1)
			UNION ALL
			(SELECT event_time FROM transfers t WHERE t.debit_account = a.id AND t.debit_version > coalesce(c.version, 0) AND t.kind NOT IN ('payout', 'reserve', 'reserve_release')
				AND NOT EXISTS (SELECT FROM settlement_lines l WHERE l.account = a.id AND l.version = t.debit_version) ORDER BY t.debit_version LIMIT 1)) sides) t
	WHERE a.type = 'merchant' AND a.version > coalesce(c.version, 0) AND t.event_time IS NOT NULL`

// Overdue looks for what should have been settled by now, by the clock of the book's slowest shard. In a house that has never
// settled anything nothing is overdue.
func (s *Store) Overdue(ctx context.Context) (Overdue, error) {
	ctx, cancel := context.WithTimeout(ctx, watchLimit)
	defer cancel()
	over := Overdue{Channels: map[string]int64{}}
	conn, err := s.connect(ctx)
	if err != nil {
		return over, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var now *time.Time
	if err := conn.QueryRow(ctx, "SELECT min(clock) FROM shards WHERE sequence > 0 AND EXISTS (SELECT FROM settlement_batches)").Scan(&now); err != nil || now == nil {
		return over, err
	}
	if err := s.overdueMerchants(ctx, conn, *now, &over); err != nil {
		return over, fmt.Errorf("look for cut-offs without a batch: %w", err)
	}
	rows, err := conn.Query(ctx, `SELECT b.party, count(*) FILTER (WHERE b.value_date < $1 AND b.due > 0 AND NOT EXISTS
			(SELECT FROM settlement_orders o WHERE o.batch = b.id AND o.purpose = 'clearing'))
		FROM settlement_batches b WHERE b.kind = 'channel' GROUP BY b.party`, day(*now).Time())
	if err != nil {
		return over, fmt.Errorf("look for channels that have not paid: %w", err)
	}
	var channel string
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&channel, &n}, func() error {
		over.Channels[channel] = n
		return nil
	})
	return over, err
}

func (s *Store) overdueMerchants(ctx context.Context, conn *pgx.Conn, now time.Time, over *Overdue) error {
	rows, err := conn.Query(ctx, sqlOldest)
	if err != nil {
		return err
	}
	var party, code string
	var at, last time.Time
	_, err = pgx.ForEachRow(rows, []any{&party, &code, &at, &last}, func() error {
		if _, ok := events.ParseCurrency(code); !ok {
			return nil
		}
		c := s.Terms.Of(party).CutOffs
		takes := c.Takes(at)
		if last := day(last); last > 0 && takes <= last { // it came late: the next cut-off takes it
			takes = c.Next(last)
		}
		if since := now.Sub(c.At(takes)); since >= 0 {
			over.CutOff = max(over.CutOff, since)
			over.Accounts++
		}
		return nil
	})
	return err
}
