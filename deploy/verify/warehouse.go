package verify

import (
	"context"
	"fmt"

	"sluice/schemas"
)

// warehouseTopics are what the warehouse reads, and the table each record becomes one row of.
var warehouseTopics = []string{schemas.PaymentsDecided, schemas.LoansDecided, schemas.BehaviorsDecided, schemas.LedgerResults, schemas.DeadLetters,
	schemas.VerdictsShadow, schemas.Rules}

// rawTables have one row per decision.
var rawTables = map[string]string{schemas.PaymentsDecided: "payments", schemas.LoansDecided: "loans", schemas.BehaviorsDecided: "behaviors"}

// warehouse proves that ClickHouse holds each record once, that its postings are the ledger's, and that the aggregates are
// the sum of the rows.
func (v *verifier) warehouse(ctx context.Context, seen *decided) ([]Row, error) {
	v.c.Progress("reading ClickHouse")
	var rows []Row
	for _, check := range []func(context.Context, *decided) (Row, error){v.rawOnce, v.postings, v.aggregates, v.routes, v.deadLettersKept} {
		row, err := check(ctx, seen)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// rawOnce holds the raw tables against the decided topics, up to the warehouse's positions.
func (v *verifier) rawOnce(ctx context.Context, seen *decided) (Row, error) {
	f := finding{promise: "each decision is one row in ClickHouse"}
	for topic, table := range rawTables {
		for partition, end := range seen.upTo[topic] {
			amount := "sum(amount_minor)"
			if table == "behaviors" {
				amount = "toInt64(0)"
			}
			var rows, distinct uint64
			var sum int64
			query := fmt.Sprintf("SELECT count(), uniqExact(decided_offset), %s FROM %s WHERE decided_partition = ? AND decided_offset < ?", amount, table)
			if err := v.ch.QueryRow(ctx, query, partition, end).Scan(&rows, &distinct, &sum); err != nil {
				return Row{}, fmt.Errorf("count %s in ClickHouse: %w", table, err)
			}
			want, wantSum := seen.counts[topic][partition], seen.amounts[topic][partition]
			f.checked += want
			if int64(rows) != want || int64(distinct) != want || sum != wantSum {
				f.breach("%s partition %d: %d rows, %d distinct, amounts %d; Kafka has %d with amounts %d", table, partition, rows, distinct, sum, want, wantSum)
			}
		}
	}
	return f.row("%s rows of payments, loans and behaviors, amounts equal", thousands(f.checked)), nil
}

// postings holds ClickHouse's postings against the ledger's transfers at the same position of each shard.
func (v *verifier) postings(ctx context.Context, _ *decided) (Row, error) {
	f := finding{promise: "ClickHouse totals = ledger totals"}
	shards, err := v.ch.Query(ctx, "SELECT shard, max(sequence), count(), uniqExact(sequence) FROM results GROUP BY shard ORDER BY shard")
	if err != nil {
		return Row{}, fmt.Errorf("read the results in ClickHouse: %w", err)
	}
	type shard struct {
		number         int32
		last           int64
		rows, distinct uint64
	}
	var all []shard
	for shards.Next() {
		var s shard
		if err := shards.Scan(&s.number, &s.last, &s.rows, &s.distinct); err != nil {
			return Row{}, fmt.Errorf("read the results in ClickHouse: %w", err)
		}
		all = append(all, s)
	}
	if err := shards.Err(); err != nil {
		return Row{}, fmt.Errorf("read the results in ClickHouse: %w", err)
	}
	var results int64
	for _, s := range all {
		results += int64(s.rows)
		if s.rows != s.distinct || int64(s.rows) != s.last {
			f.breach("shard %d: %d results, %d distinct, the last is number %d", s.number, s.rows, s.distinct, s.last)
		}
		if err := v.sameTotals(ctx, s.number, s.last, &f); err != nil {
			return Row{}, err
		}
	}
	return f.row("%s results and %s postings equal, per shard, currency and kind", thousands(results), thousands(f.checked)), nil
}

type total struct {
	currency, kind string
}

type sum struct{ count, amount int64 }

// sameTotals compares count and amount per currency and kind of one shard up to one result.
func (v *verifier) sameTotals(ctx context.Context, shard int32, last int64, f *finding) error {
	house := map[total]sum{}
	rows, err := v.ch.Query(ctx, "SELECT currency, kind, toInt64(count()), sum(amount_minor) FROM postings WHERE shard = ? AND sequence <= ? GROUP BY currency, kind", shard, last)
	if err != nil {
		return fmt.Errorf("sum the postings in ClickHouse: %w", err)
	}
	for rows.Next() {
		var t total
		var s sum
		if err := rows.Scan(&t.currency, &t.kind, &s.count, &s.amount); err != nil {
			return fmt.Errorf("sum the postings in ClickHouse: %w", err)
		}
		house[t] = s
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("sum the postings in ClickHouse: %w", err)
	}
	book, err := v.ledgerTotals(ctx, shard, last)
	if err != nil {
		return err
	}
	for t, s := range book {
		f.checked += s.count
		if house[t] != s {
			f.breach("shard %d, %s %s: ClickHouse has %d for %d, the ledger %d for %d", shard, t.currency, t.kind, house[t].count, house[t].amount, s.count, s.amount)
		}
		delete(house, t)
	}
	for t, s := range house {
		f.breach("shard %d, %s %s: ClickHouse has %d for %d, the ledger none", shard, t.currency, t.kind, s.count, s.amount)
	}
	return nil
}

// aggregateTries bounds the looks at the aggregates: a view is filled just after its source, not in the same instant.
const aggregateTries = 20

// aggregates holds customer_days against the rows it is made of.
func (v *verifier) aggregates(ctx context.Context, _ *decided) (Row, error) {
	f := finding{promise: "aggregates = the sum of their rows"}
	var payments, spent, actions, wantPayments, wantSpent, wantActions int64
	for try := 1; ; try++ {
		const query = `SELECT (SELECT sum(payments) FROM customer_days), (SELECT sum(spent_minor) FROM customer_days), (SELECT sum(actions) FROM customer_days),
			(SELECT toInt64(countIf(type = 'payment.initiated' AND verdict = 'approve')) FROM payments),
			(SELECT sumIf(amount_minor, type = 'payment.initiated' AND verdict = 'approve' AND purpose IN ('purchase', 'transfer')) FROM payments),
			(SELECT toInt64(countIf(verdict != 'duplicate')) FROM behaviors)`
		if err := v.ch.QueryRow(ctx, query).Scan(&payments, &spent, &actions, &wantPayments, &wantSpent, &wantActions); err != nil {
			return Row{}, fmt.Errorf("sum customer_days in ClickHouse: %w", err)
		}
		equal := payments == wantPayments && spent == wantSpent && actions == wantActions
		if equal || try == aggregateTries {
			if !equal {
				f.breach("customer_days: %d payments for %d and %d actions; the rows: %d for %d and %d", payments, spent, actions, wantPayments, wantSpent, wantActions)
			}
			break
		}
	}
	f.checked = payments + actions
	return f.row("customer_days: %s approved payments, %s actions", thousands(payments), thousands(actions)), nil
}

// deadLettersKept holds the dead letters in ClickHouse against the topic.
func (v *verifier) deadLettersKept(ctx context.Context, seen *decided) (Row, error) {
	f := finding{promise: "dead letters are accounted for", checked: seen.letters}
	var rows uint64
	for partition, end := range seen.upTo[schemas.DeadLetters] {
		var n uint64
		if err := v.ch.QueryRow(ctx, "SELECT count() FROM dead_letters WHERE letter_topic = 'deadletters' AND reason != '' AND letter_partition = ? AND letter_offset < ?", partition, end).Scan(&n); err != nil {
			return Row{}, fmt.Errorf("count dead_letters in ClickHouse: %w", err)
		}
		rows += n
	}
	if int64(rows) != seen.letters {
		f.breach("ClickHouse has %d, the topic %d", rows, seen.letters)
	}
	return f.row("%s in the topic, each with reason and position, %s in ClickHouse", thousands(seen.letters), thousands(int64(rows))), nil
}
