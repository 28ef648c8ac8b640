package settlement

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pipelines/payments"
	"sluice/pipelines/settlement"
	"sluice/schemas/events"
)

// account is one account of the book, as settlement finds it.
type account struct {
	id       int64
	key      string
	version  int64 // transfers on it
	covered  int64 // up to here all of them are in batches
	party    string
	currency events.Currency
	standing settlement.Standing
	lines    []settlement.Line
	before   time.Time // the cut-off
	until    settlement.Day
	waits    int64 // version of the first transfer that the cut-off leaves out; 0: none
}

// next is up to which version all transfers of the account are in batches, once those of the run are.
func (a *account) next(batches []settlement.Batch) int64 {
	taken := map[int64]bool{}
	for i := range batches {
		for k := range batches[i].Lines {
			if l := &batches[i].Lines[k]; l.Account == a.id {
				taken[l.Version] = true
			}
		}
	}
	next := a.version
	if a.waits > 0 {
		next = a.waits - 1
	}
	for i := range a.lines {
		if v := a.lines[i].Version; !taken[v] {
			next = min(next, v-1)
		}
	}
	return next
}

// sqlMerchants reads a chunk of merchants' accounts after id $1 with what their last batches left.
const sqlMerchants = `
	SELECT a.id, a.key, a.version, coalesce(c.version, 0), coalesce(b.day, '1970-01-01'), coalesce(b.carried, 0)
	FROM accounts a
	LEFT JOIN LATERAL (SELECT version FROM settlement_coverage WHERE account = a.id ORDER BY batch DESC LIMIT 1) c ON true
	LEFT JOIN LATERAL (SELECT day, carried FROM settlement_batches
		WHERE kind = 'merchant' AND party = substr(a.key, 10, length(a.key) - 13) AND currency = a.currency ORDER BY day DESC LIMIT 1) b ON true
	WHERE a.type = 'merchant' AND a.id > $1 ORDER BY a.id LIMIT $2`

// sqlChannels reads the stripes of channels' clearing accounts, those of a channel and currency together.
const sqlChannels = `
	SELECT a.id, a.key, a.version, coalesce(c.version, 0), coalesce(b.day, '1970-01-01'), 0::bigint
	FROM accounts a
	LEFT JOIN LATERAL (SELECT version FROM settlement_coverage WHERE account = a.id ORDER BY batch DESC LIMIT 1) c ON true
	LEFT JOIN LATERAL (SELECT day FROM settlement_batches WHERE kind = 'channel' AND party = substring(a.key from '^clearing:(.*)/[0-9]+:[A-Z]{3}$')
		AND currency = a.currency ORDER BY day DESC LIMIT 1) b ON true
	WHERE a.type = 'clearing' ORDER BY substring(a.key from '^clearing:(.*)/[0-9]+:[A-Z]{3}$'), a.currency, a.id`

// sqlLines reads the transfers of accounts $1 above versions $2 and before cut-offs $3. OFFSET 0 and the subqueries keep Postgres from
// joining whole tables, whatever it believes of their sizes: each account and each result is looked up by its index.
const sqlLines = `
	WITH s AS MATERIALIZED (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) AS s (account, low, before)),
	moved AS (
		SELECT s.account, t.version, t.amount, t.event_time, t.kind, t.shard, t.sequence FROM s CROSS JOIN LATERAL (
			SELECT credit_version AS version, amount, event_time, kind, shard, sequence FROM transfers
			WHERE credit_account = s.account AND credit_version > s.low AND event_time < s.before OFFSET 0) t
		UNION ALL
		SELECT s.account, t.version, t.amount, t.event_time, t.kind, t.shard, t.sequence FROM s CROSS JOIN LATERAL (
			SELECT debit_version AS version, -amount AS amount, event_time, kind, shard, sequence FROM transfers
			WHERE debit_account = s.account AND debit_version > s.low AND event_time < s.before OFFSET 0) t),
	paid AS (
		SELECT m.*, coalesce((SELECT r.payment_id FROM results r WHERE r.shard = m.shard AND r.sequence = m.sequence), '') AS payment FROM moved m)
	SELECT account, version, amount, event_time, kind, payment,
		CASE WHEN payment LIKE 'settlement/%' THEN coalesce((SELECT o.purpose FROM settlement_orders o WHERE o.id = p.payment), '') ELSE '' END
	FROM paid p`

// sqlTaken reads which versions of accounts $1 above versions $2 are in batches: few, those that stand between others that wait.
const sqlTaken = `
	SELECT s.account, l.version FROM unnest($1::bigint[], $2::bigint[]) AS s (account, low)
	CROSS JOIN LATERAL (SELECT version FROM settlement_lines WHERE account = s.account AND version > s.low OFFSET 0) l`

// sqlWaits finds, of accounts $1 above versions $2, the first transfer that is not before cut-offs $3.
const sqlWaits = `
	SELECT s.account, least(
		(SELECT credit_version FROM transfers WHERE credit_account = s.account AND credit_version > s.low AND event_time >= s.before ORDER BY credit_version LIMIT 1),
		(SELECT debit_version FROM transfers WHERE debit_account = s.account AND debit_version > s.low AND event_time >= s.before ORDER BY debit_version LIMIT 1))
	FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) AS s (account, low, before)`

func readAccounts(ctx context.Context, tx pgx.Tx, split func(string) (string, string), sql string, args ...any) ([]*account, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read the accounts: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*account, error) {
		var a account
		var last time.Time
		if err := row.Scan(&a.id, &a.key, &a.version, &a.covered, &last, &a.standing.Carried); err != nil {
			return nil, err
		}
		a.standing.Day = day(last)
		party, code := split(a.key)
		c, ok := events.ParseCurrency(code)
		if a.party, a.currency = party, c; !ok {
			return nil, fmt.Errorf("the account %s has an unknown currency: run a newer sluice", a.key)
		}
		return &a, nil
	})
}

// bound sets how far accounts are settled and leaves out those that are settled so far already.
func (o Options) bound(all []*account, clock time.Time, terms func(string) settlement.CutOffs) ([]*account, error) {
	for _, a := range all {
		c := terms(a.party)
		var err error
		if a.until, err = o.until(c, clock); err != nil {
			return nil, err
		}
		a.before = c.At(a.until)
	}
	return slices.DeleteFunc(all, func(a *account) bool { return a.until <= a.standing.Day }), nil
}

// readLines reads the transfers of accounts that are in no batch.
func readLines(ctx context.Context, tx pgx.Tx, all []*account, sign int64) error {
	var ids, lows []int64
	var befores []time.Time
	by := map[int64]*account{}
	for _, a := range all {
		by[a.id] = a
		if a.version > a.covered {
			ids, lows, befores = append(ids, a.id), append(lows, a.covered), append(befores, a.before)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	taken, err := readTaken(ctx, tx, ids, lows)
	if err != nil {
		return fmt.Errorf("read the lines: %w", err)
	}
	rows, err := tx.Query(ctx, sqlLines, ids, lows, befores)
	if err != nil {
		return fmt.Errorf("read the transfers: %w", err)
	}
	var l settlement.Line
	var ordered string
	n := 0
	if _, err = pgx.ForEachRow(rows, []any{&l.Account, &l.Version, &l.Amount, &l.Time, &l.Kind, &l.Payment, &ordered}, func() error {
		if taken[place{l.Account, l.Version}] {
			return nil
		}
		if n++; n > maxLines {
			return fmt.Errorf("more than %d transfers are in no batch: settle an earlier day first, with --cutoff DATE", maxLines)
		}
		one := l
		one.Amount, one.Time = sign*l.Amount, l.Time.UTC()
		one.Ordered, _ = payments.ParsePurpose(ordered)
		by[l.Account].lines = append(by[l.Account].lines, one)
		return nil
	}); err != nil {
		return fmt.Errorf("read the transfers: %w", err)
	}
	if rows, err = tx.Query(ctx, sqlWaits, ids, lows, befores); err != nil {
		return fmt.Errorf("look for later transfers: %w", err)
	}
	var id int64
	var waits *int64
	_, err = pgx.ForEachRow(rows, []any{&id, &waits}, func() error {
		if waits != nil {
			by[id].waits = *waits
		}
		return nil
	})
	return err
}

// place is a transfer's place on an account.
type place struct{ account, version int64 }

func readTaken(ctx context.Context, tx pgx.Tx, ids, lows []int64) (map[place]bool, error) {
	rows, err := tx.Query(ctx, sqlTaken, ids, lows)
	if err != nil {
		return nil, err
	}
	taken := map[place]bool{}
	var p place
	_, err = pgx.ForEachRow(rows, []any{&p.account, &p.version}, func() error {
		taken[p] = true
		return nil
	})
	return taken, err
}

type partyKey struct {
	party    string
	currency events.Currency
}

// movedNothing is a payment p that has ended without having moved money: the book or the gate refused it, or it was voided or failed after
// that, or out of review.
const movedNothing = `p.captured = 0 AND p.status IN ('rejected', 'declined', 'voided', 'failed')`

// readStandings reads what merchants' batches have kept back and not released, and what the book has refused of their orders.
func readStandings(ctx context.Context, tx pgx.Tx, all []*account) error {
	by := map[partyKey]*account{}
	parties := make([]string, 0, len(all))
	for _, a := range all {
		by[partyKey{a.party, a.currency}] = a
		parties = append(parties, a.party)
	}
	rows, err := tx.Query(ctx, `
		SELECT b.party, b.currency, r.batch, r.number, r.amount, r.release_on,
			r.number = 1 AND EXISTS (SELECT FROM settlement_orders o JOIN payments p ON p.id = o.id
				WHERE o.batch = r.batch AND o.purpose = 'reserve' AND `+movedNothing+`)
		FROM settlement_batches b JOIN settlement_reserves r ON r.batch = b.id
		WHERE b.kind = 'merchant' AND b.party = ANY ($1)
			AND NOT EXISTS (SELECT FROM settlement_releases x WHERE x.reserve_batch = r.batch AND x.reserve_number = r.number)
		ORDER BY r.batch, r.number`, parties)
	if err != nil {
		return fmt.Errorf("read the reserves: %w", err)
	}
	var party, code string
	var h settlement.Held
	var on time.Time
	if _, err := pgx.ForEachRow(rows, []any{&party, &code, &h.Batch, &h.Number, &h.Amount, &on, &h.Refused}, func() error {
		c, _ := events.ParseCurrency(code)
		if a := by[partyKey{party, c}]; a != nil {
			h.ReleaseOn = day(on)
			a.standing.Held = append(a.standing.Held, h)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("read the reserves: %w", err)
	}
	rows, err = tx.Query(ctx, `
		SELECT o.party, o.currency, o.id, o.purpose, o.amount
		FROM settlement_orders o JOIN payments p ON p.id = o.id
		WHERE o.party = ANY ($1) AND o.returned IS NULL AND o.purpose IN ('payout', 'reserve', 'reserve_release') AND `+movedNothing+`
		ORDER BY o.number`, parties)
	if err != nil {
		return fmt.Errorf("read what the book has refused: %w", err)
	}
	var refused settlement.Order
	var purpose string
	_, err = pgx.ForEachRow(rows, []any{&party, &code, &refused.ID, &purpose, &refused.Amount}, func() error {
		c, _ := events.ParseCurrency(code)
		if a := by[partyKey{party, c}]; a != nil {
			refused.Purpose, _ = payments.ParsePurpose(purpose)
			a.standing.Refused = append(a.standing.Refused, refused)
		}
		return nil
	})
	return err
}

// snapshot sees the book at one moment.
var snapshot = pgx.TxOptions{IsoLevel: pgx.RepeatableRead}

func (s *Store) settleMerchants(ctx context.Context, conn *pgx.Conn, o Options, out *Outcome) error {
	var total int64
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM accounts WHERE type = 'merchant'").Scan(&total); err != nil {
		return err
	}
	for after, done := int64(0), int64(0); ; {
		more := 0
		var made written
		err := pgx.BeginTxFunc(ctx, conn, snapshot, func(tx pgx.Tx) error {
			all, err := readAccounts(ctx, tx, merchantOf, sqlMerchants, after, chunk)
			if err != nil || len(all) == 0 {
				return err
			}
			more, after = len(all), all[len(all)-1].id
			made, err = s.settleChunk(ctx, tx, o, all, out.Clock)
			return err
		})
		if err != nil {
			return err
		}
		if err := s.at("committed"); err != nil {
			return err
		}
		out.add(made, more)
		done += int64(more)
		s.progress("settling merchants", done, total)
		if more < chunk {
			return nil
		}
	}
}

func (out *Outcome) add(w written, accounts int) {
	out.Batches, out.Lines, out.Orders, out.Accounts = out.Batches+len(w.batches), out.Lines+w.lines, out.Orders+len(w.orders), out.Accounts+accounts
}

func (s *Store) settleChunk(ctx context.Context, tx pgx.Tx, o Options, all []*account, clock time.Time) (written, error) {
	all, err := o.bound(all, clock, func(party string) settlement.CutOffs { return s.Terms.Of(party).CutOffs })
	if err == nil {
		err = readLines(ctx, tx, all, 1)
	}
	if err == nil {
		err = readStandings(ctx, tx, all)
	}
	if err != nil {
		return written{}, err
	}
	if err := s.at("read"); err != nil {
		return written{}, err
	}
	w := written{kind: "merchant", terms: s.Terms.Name}
	for _, a := range all {
		m := s.Terms.Of(a.party)
		batches := m.Settle(a.standing, a.currency, a.lines, a.until)
		for i := range batches {
			w.add(a.party, a.currency, &batches[i])
			for _, order := range m.Orders(&batches[i], a.party, a.currency) {
				w.orders = append(w.orders, ordered{order, len(w.batches) - 1})
			}
		}
		if len(batches) > 0 {
			w.covers = append(w.covers, cover{a.id, len(w.batches) - 1, a.next(batches)})
		}
	}
	return w, s.write(ctx, tx, &w)
}

func (s *Store) settleChannels(ctx context.Context, conn *pgx.Conn, o Options, out *Outcome) error {
	var groups [][]*account
	if err := pgx.BeginTxFunc(ctx, conn, snapshot, func(tx pgx.Tx) error {
		all, err := readAccounts(ctx, tx, channelOf, sqlChannels)
		for i, a := range all {
			if i == 0 || all[i-1].party != a.party || all[i-1].currency != a.currency {
				groups = append(groups, nil)
			}
			groups[len(groups)-1] = append(groups[len(groups)-1], a)
		}
		return err
	}); err != nil {
		return err
	}
	for i, group := range groups {
		var made written
		err := pgx.BeginTxFunc(ctx, conn, snapshot, func(tx pgx.Tx) (err error) {
			made, err = s.settleChannel(ctx, tx, o, group, out.Clock)
			return err
		})
		if err != nil {
			return err
		}
		out.add(made, len(group))
		s.progress("settling channels", int64(i+1), int64(len(groups)))
	}
	return nil
}

// settleChannel makes the batches of a channel in one currency, over all its stripes.
func (s *Store) settleChannel(ctx context.Context, tx pgx.Tx, o Options, group []*account, clock time.Time) (written, error) {
	w := written{kind: "channel", terms: s.Terms.Name}
	party, currency := group[0].party, group[0].currency
	c := s.Terms.OfChannel(party)
	ids := make([]int64, len(group))
	for i, a := range group {
		ids[i] = a.id
	}
	// How far the stripes are is read in this snapshot.
	versions, err := readVersions(ctx, tx, ids)
	if err != nil {
		return w, err
	}
	for _, a := range group {
		a.version = versions[a.id]
	}
	group, err = o.bound(group, clock, func(string) settlement.CutOffs { return c.CutOffs })
	if err != nil || len(group) == 0 {
		return w, err
	}
	if err := readLines(ctx, tx, group, -1); err != nil { // owed to the house is a debit
		return w, err
	}
	var lines []settlement.Line
	for _, a := range group {
		lines = append(lines, a.lines...)
	}
	for i := range lines { // what a channel carried for merchants counts; only what it paid the house does not
		if lines[i].Ordered != clearing {
			lines[i].Ordered = 0
		}
	}
	batches := c.Settle(group[0].standing.Day, currency, lines, group[0].until)
	for i := range batches {
		w.add(party, currency, &batches[i])
	}
	if len(batches) > 0 {
		for _, a := range group {
			w.covers = append(w.covers, cover{a.id, len(w.batches) - 1, a.next(batches)})
		}
	}
	return w, s.write(ctx, tx, &w)
}

func readVersions(ctx context.Context, tx pgx.Tx, ids []int64) (map[int64]int64, error) {
	rows, err := tx.Query(ctx, "SELECT id, version FROM accounts WHERE id = ANY ($1)", ids)
	if err != nil {
		return nil, err
	}
	versions := map[int64]int64{}
	var id, version int64
	_, err = pgx.ForEachRow(rows, []any{&id, &version}, func() error {
		versions[id] = version
		return nil
	})
	return versions, err
}

// written is what a transaction writes.
type written struct {
	kind, terms string
	batches     []madeBatch
	orders      []ordered
	covers      []cover
	lines       int64
}

type madeBatch struct {
	*settlement.Batch
	party    string
	currency events.Currency
	id       int64
}

type ordered struct {
	settlement.Order
	batch int // index of batches
}

type cover struct {
	account int64
	batch   int // index of batches
	version int64
}

func (w *written) add(party string, currency events.Currency, b *settlement.Batch) {
	w.batches = append(w.batches, madeBatch{Batch: b, party: party, currency: currency})
	w.lines += int64(len(b.Lines))
}

// write writes what a transaction has decided.
func (s *Store) write(ctx context.Context, tx pgx.Tx, w *written) error {
	if len(w.batches) == 0 {
		return nil
	}
	for _, step := range []struct {
		name string
		do   func(context.Context, pgx.Tx) error
	}{{"batches", w.writeBatches}, {"lines", w.writeLines}, {"covers", w.writeCovers}, {"orders", w.writeOrders}, {"reserves", w.writeReserves}} {
		if err := step.do(ctx, tx); err != nil {
			return fmt.Errorf("write the %s: %w", step.name, err)
		}
		if err := s.at(step.name); err != nil {
			return err
		}
	}
	return nil
}

func (w *written) writeBatches(ctx context.Context, tx pgx.Tx) error {
	q := &pgx.Batch{}
	for i := range w.batches {
		b := &w.batches[i]
		q.Queue(`INSERT INTO settlement_batches (kind, party, currency, exponent, day, cut_off, value_date, opening, gross, fees, refunds, charge_backs, other,
				returned, held, released, payout, carried, fee, due, lines, terms)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22) RETURNING id`,
			w.kind, b.party, b.currency.Code(), int16(b.currency.Exponent()), b.Day.Time(), b.CutOff, b.ValueDate.Time(), b.Opening, b.Sums[settlement.Gross],
			b.Sums[settlement.Fees], b.Sums[settlement.Refunds], b.Sums[settlement.ChargeBack], b.Sums[settlement.Other], b.Sums[settlement.Returned], b.Held,
			b.Released, b.Payout, b.Carried, b.Fee, b.Due, int32(b.Count), w.terms).QueryRow(func(row pgx.Row) error { return row.Scan(&b.id) })
	}
	return tx.SendBatch(ctx, q).Close()
}

func (w *written) writeLines(ctx context.Context, tx pgx.Tx) error {
	i, k := 0, 0
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"settlement_lines"}, []string{"account", "version", "batch", "amount", "event_time", "class", "kind", "payment_id"},
		pgx.CopyFromFunc(func() ([]any, error) {
			for i < len(w.batches) && k == len(w.batches[i].Lines) {
				i, k = i+1, 0
			}
			if i == len(w.batches) {
				return nil, nil
			}
			l := &w.batches[i].Lines[k]
			k++
			return []any{l.Account, l.Version, w.batches[i].id, l.Amount, l.Time, l.Class().String(), l.Kind, l.Payment}, nil
		}))
	return err
}

func (w *written) writeCovers(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"settlement_coverage"}, []string{"account", "batch", "version"}, pgx.CopyFromSlice(len(w.covers), func(i int) ([]any, error) {
		c := w.covers[i]
		return []any{c.account, w.batches[c.batch].id, c.version}, nil
	}))
	return err
}

func (w *written) writeOrders(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"settlement_orders"},
		[]string{"batch", "amount", "event_time", "value_date", "id", "purpose", "party", "currency", "method", "payment_channel"},
		pgx.CopyFromSlice(len(w.orders), func(i int) ([]any, error) {
			o := &w.orders[i]
			b := &w.batches[o.batch]
			return []any{b.id, o.Amount, o.At, b.ValueDate.Time(), o.ID, payments.PurposeName(o.Purpose), o.Party, o.Currency.Code(), payments.MethodName(o.Method),
				o.Channel}, nil
		}))
	return err
}

// writeReserves writes what was kept back, what was released of it, and which refused orders were taken back.
func (w *written) writeReserves(ctx context.Context, tx pgx.Tx) error {
	q := &pgx.Batch{}
	kept := map[partyKey][]keptHere{}
	for i := range w.batches {
		b := &w.batches[i]
		who := partyKey{b.party, b.currency}
		for _, h := range b.Releases {
			from := h.Batch
			if from == 0 { // kept back by an earlier batch of this very run
				from = takeKept(kept[who], h)
			}
			q.Queue("INSERT INTO settlement_releases (reserve_batch, reserve_number, batch) VALUES ($1, $2, $3)", from, int16(h.Number), b.id)
		}
		for _, h := range b.Keeps {
			q.Queue("INSERT INTO settlement_reserves (batch, number, amount, release_on) VALUES ($1, $2, $3, $4)", b.id, int16(h.Number), h.Amount, h.ReleaseOn.Time())
			kept[who] = append(kept[who], keptHere{h, b.id, false})
		}
		for _, o := range b.Refused {
			q.Queue("UPDATE settlement_orders SET returned = $2 WHERE id = $1 AND returned IS NULL", o.ID, b.id)
		}
	}
	if q.Len() == 0 {
		return nil
	}
	return tx.SendBatch(ctx, q).Close()
}

type keptHere struct {
	settlement.Held
	batch int64
	gone  bool
}

// takeKept finds the batch of this run that has kept back what a later one releases.
func takeKept(all []keptHere, h settlement.Held) int64 {
	for i := range all {
		if !all[i].gone && all[i].Held == h {
			all[i].gone = true
			return all[i].batch
		}
	}
	panic("settlement: a reserve is released that no batch has kept back")
}
