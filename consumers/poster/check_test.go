package poster

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pipelines/ledger"
	"sluice/schemas/events"
)

// checkBook holds the whole book against itself: what must be true after any sequence of batches.
func checkBook(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	for name, sql := range map[string]string{
		"debits and credits differ": `SELECT currency FROM accounts GROUP BY currency HAVING sum(debits_posted) <> sum(credits_posted)`,
		"a balance is not the sum of its transfers": `
			SELECT key FROM accounts a
			LEFT JOIN (SELECT debit_account AS id, sum(amount) AS n, count(*) AS c FROM transfers GROUP BY 1) d USING (id)
			LEFT JOIN (SELECT credit_account AS id, sum(amount) AS n, count(*) AS c FROM transfers GROUP BY 1) c USING (id)
			WHERE debits_posted <> coalesce(d.n, 0) OR credits_posted <> coalesce(c.n, 0) OR version <> coalesce(d.c, 0) + coalesce(c.c, 0)`,
		"an account's history has a gap or a fork": `
			SELECT a FROM (SELECT debit_account AS a, debit_version AS v FROM transfers UNION ALL SELECT credit_account, credit_version FROM transfers) h
			GROUP BY a HAVING count(*) <> count(DISTINCT v) OR min(v) <> 1 OR max(v) <> count(*)`,
		"a floor is crossed": `SELECT key FROM accounts WHERE balance - CASE WHEN credit_normal THEN debits_pending ELSE credits_pending END < floor`,
		"pending is not what holds hold": `
			SELECT key FROM accounts a
			LEFT JOIN (SELECT debit_account AS id, sum(open) AS n FROM holds GROUP BY 1) d USING (id)
			LEFT JOIN (SELECT credit_account AS id, sum(open) AS n FROM holds GROUP BY 1) c USING (id)
			WHERE debits_pending <> coalesce(d.n, 0) OR credits_pending <> coalesce(c.n, 0)`,
		"a hold is not the sum of its steps": `
			SELECT h.id FROM holds h FULL JOIN (
				SELECT hold AS id, sum(amount) FILTER (WHERE step = 'opened') AS amount, coalesce(sum(amount) FILTER (WHERE step = 'posted'), 0) AS posted,
					coalesce(sum(amount) FILTER (WHERE step = 'voided'), 0) AS voided, coalesce(sum(amount) FILTER (WHERE step = 'expired'), 0) AS expired
				FROM hold_steps GROUP BY 1) s USING (id)
			WHERE (h.amount, h.posted, h.voided, h.expired) IS DISTINCT FROM (s.amount, s.posted, s.voided, s.expired)`,
		"a payment holds something else than its holds": `
			SELECT p.id FROM payments p FULL JOIN (
				SELECT split_part(id, E'\x1f', 1) AS id, sum(amount) FILTER (WHERE split_part(id, E'\x1f', 2) IN ('', '0.1', '0.2')) AS amount, sum(open) AS open
				FROM holds GROUP BY 1) h USING (id)
			WHERE p.authorized <> coalesce(h.amount, 0) AND p.status <> 'rejected' OR p.held <> coalesce(h.open, 0) OR p.id IS NULL`,
		"what disputes keep is not what they say": `
			SELECT k.sum, d.sum FROM (SELECT coalesce(sum(balance), 0) AS sum FROM accounts WHERE type IN ('disputed', 'frozen')) k,
				(SELECT coalesce(sum((extra -> 'dispute' ->> 'frozen')::bigint), 0) AS sum FROM payments WHERE status = 'disputed') d
			WHERE k.sum <> d.sum`,
		"the house has lost something else than suspense says": `
			SELECT k.sum, d.sum FROM (SELECT coalesce(sum(balance), 0) AS sum FROM accounts WHERE type = 'suspense') k,
				(SELECT coalesce(sum((extra ->> 'lost')::bigint), 0) AS sum FROM payments) d
			WHERE k.sum <> d.sum`,
		"a hold is open past its time": `SELECT h.id FROM holds h JOIN shards s USING (shard) WHERE h.open > 0 AND h.expires_at <= s.clock`,
		"steps have a gap":             `SELECT shard FROM hold_steps GROUP BY shard, batch HAVING min(number) <> 1 OR max(number) <> count(*)`,
		"transfers have a gap":         `SELECT shard FROM transfers GROUP BY shard HAVING min(number) <> 1 OR max(number) <> count(*)`,
		"results have a gap":           `SELECT shard FROM results GROUP BY shard HAVING min(sequence) <> 1 OR max(sequence) <> count(*)`,
		"a result's transfers differ": `
			SELECT sequence FROM results r LEFT JOIN LATERAL (SELECT count(*) AS n, min(number) AS first FROM transfers t WHERE t.shard = r.shard AND t.sequence = r.sequence AND t.batch = r.batch) t ON true
			WHERE r.transfers <> n OR n > 0 AND r.first_transfer <> first OR (n > 0) <> (code = 'posted')`,
		"a shard's end is not its last batch": `
			SELECT s.shard FROM shards s LEFT JOIN batches b ON b.shard = s.shard AND b.number = s.batch
			WHERE s.batch > 0 AND (b.hash IS DISTINCT FROM s.hash OR b.first_transfer + b.transfers - 1 <> s.transfer OR b.first_sequence + b.results - 1 <> s.sequence)`,
		"a payment gave back more than it moved": `SELECT id FROM payments WHERE refunded + charged_back + reversed > captured`,
	} {
		rows, err := conn.Query(t.Context(), sql)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		bad, err := pgx.CollectRows(rows, pgx.RowToMap)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(bad) > 0 {
			t.Errorf("%s: %v", name, bad)
		}
	}
	checkChain(t, conn)
}

// checkChain computes every batch's hash again.
func checkChain(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	type key struct {
		shard  int32
		number int64
	}
	transfers := map[key][]ledger.Posted{}
	rows, err := conn.Query(t.Context(), `SELECT shard, batch, number, sequence, debit_account, debit_version, credit_account, credit_version, amount, event_time, currency, kind FROM transfers ORDER BY shard, number`)
	if err != nil {
		t.Fatal(err)
	}
	var k key
	var p ledger.Posted
	var currency string
	if _, err := pgx.ForEachRow(rows, []any{&k.shard, &k.number, &p.Number, &p.Sequence, &p.DebitID, &p.DebitVersion, &p.CreditID, &p.CreditVersion, &p.Amount, &p.Time, &currency, &p.Kind}, func() error {
		p.Currency = events.MustCurrency(currency)
		transfers[k] = append(transfers[k], p)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	steps := map[key][]ledger.Step{}
	rows, err = conn.Query(t.Context(), `SELECT shard, batch, number, sequence, amount, open, debit_account, credit_account, event_time, coalesce(expires_at, 'epoch'), hold, step, currency, kind FROM hold_steps ORDER BY shard, batch, number`)
	if err != nil {
		t.Fatal(err)
	}
	var s ledger.Step
	var hold, fate string
	if _, err := pgx.ForEachRow(rows, []any{&k.shard, &k.number, &s.Number, &s.Sequence, &s.Amount, &s.Open, &s.DebitID, &s.CreditID, &s.Time, &s.Expires, &hold, &fate, &currency, &s.Kind}, func() error {
		s.Pending, s.Currency = ledger.ID(hold), events.MustCurrency(currency)
		s.Fate, _ = ledger.ParseFate(fate)
		steps[k] = append(steps[k], s)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	rows, err = conn.Query(t.Context(), `SELECT shard, number, previous_hash, hash, posted_at FROM batches ORDER BY shard, number`)
	if err != nil {
		t.Fatal(err)
	}
	last := map[int32]ledger.Hash{}
	var before, hash []byte
	var postedAt time.Time
	if _, err := pgx.ForEachRow(rows, []any{&k.shard, &k.number, &before, &hash, &postedAt}, func() error {
		want := ledger.Chain(last[k.shard], transfers[k], steps[k]...)
		if ledger.Hash(before) != last[k.shard] || ledger.Hash(hash) != want {
			t.Errorf("batch %d of shard %d breaks the chain", k.number, k.shard)
		}
		last[k.shard] = want
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
