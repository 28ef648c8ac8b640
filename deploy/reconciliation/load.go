package reconciliation

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pipelines/payments"
	"sluice/pipelines/reconcile"
	"sluice/pipelines/reconcile/statement"
	"sluice/schemas/events"
)

// importFile writes the file and those of its lines that no other file had.
func (r *run) importFile() error {
	if r.file.Known {
		return nil
	}
	f := r.file
	balances := map[string][2]int64{}
	for _, b := range f.balances {
		balances[b.Currency.Code()] = [2]int64{b.Opening, b.Closing}
	}
	err := r.tx.QueryRow(r.ctx, `INSERT INTO reconciliation_files (channel, sha256, name, format, profile, lines, ignored, from_day, to_day, balances, imported_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING RETURNING id`,
		r.Channel, f.sha256, f.Name, f.Format, f.profile, f.Lines, f.Ignored, f.From.Time(), f.To.Time(), balances, r.By).Scan(&f.id)
	if errors.Is(err, pgx.ErrNoRows) { // another run was first
		f.Known = true
		return r.tx.QueryRow(r.ctx, "SELECT id FROM reconciliation_files WHERE channel = $1 AND sha256 = $2", r.Channel, f.sha256).Scan(&f.id)
	}
	if err != nil {
		return fmt.Errorf("write the file: %w", err)
	}
	return r.importLines()
}

// importLines copies the lines that no other file had. Runs of a channel wait for each other, so that none comes between.
func (r *run) importLines() error {
	had, err := r.had()
	if err != nil {
		return fmt.Errorf("look for the lines among those imported: %w", err)
	}
	n := 0
	r.imported = r.file.Lines - len(had)
	_, err = r.tx.CopyFrom(r.ctx, pgx.Identifier{"reconciliation_lines"},
		[]string{"file", "channel", "position", "identity", "reference", "key", "booked", "value_date", "amount", "fee", "currency", "text", "collective", "count"},
		pgx.CopyFromFunc(func() ([]any, error) {
			for n < len(r.file.lines) && had[r.file.lines[n].ID] {
				n++
			}
			if n == len(r.file.lines) {
				return nil, nil
			}
			l := &r.file.lines[n]
			if n++; n%tell == 0 || n == len(r.file.lines) {
				r.Progress("importing the lines", int64(n), int64(len(r.file.lines)))
			}
			return r.row(l), nil
		}))
	if err != nil {
		return fmt.Errorf("import the lines: %w", err)
	}
	r.file.lines = nil
	return nil
}

// had returns which lines of the file came with another before.
func (r *run) had() (map[string]bool, error) {
	own := make(map[string]bool, len(r.file.lines))
	for i := range r.file.lines {
		own[r.file.lines[i].ID] = true
	}
	had := map[string]bool{}
	rows, err := r.tx.Query(r.ctx, "SELECT identity FROM reconciliation_lines WHERE channel = $1 AND booked BETWEEN $2 AND $3", r.Channel, r.file.From.Time(), r.file.To.Time())
	if err != nil {
		return nil, err
	}
	var identity []byte
	_, err = pgx.ForEachRow(rows, []any{&identity}, func() error {
		if own[string(identity)] {
			had[string(identity)] = true
		}
		return nil
	})
	return had, err
}

func (r *run) row(l *statement.Line) []any {
	var value *time.Time
	if l.ValueDate != 0 {
		t := l.ValueDate.Time()
		value = &t
	}
	return []any{r.file.id, r.Channel, int32(l.Position), []byte(l.ID), l.Reference, reconcile.Normalise(l.Reference), l.Date.Time(), value, l.Amount, l.Fee,
		l.Currency.Code(), l.Text, l.Collective, int32(l.Count)}
}

// loadBreaks reads what is known of the channel's breaks.
func (r *run) loadBreaks() error {
	r.known, r.byLine, r.byMove = map[identityOfBreak]*knownBreak{}, map[int64][]*knownBreak{}, map[int64][]*knownBreak{}
	rows, err := r.tx.Query(r.ctx, "SELECT id, class, coalesce(line, 0), coalesce(transfer, 0), status FROM reconciliation_breaks WHERE channel = $1", r.Channel)
	if err != nil {
		return fmt.Errorf("read the breaks: %w", err)
	}
	var k knownBreak
	_, err = pgx.ForEachRow(rows, []any{&k.id, &k.class, &k.line, &k.transfer, &k.status}, func() error {
		one := k
		r.known[one.identityOfBreak] = &one
		if one.status == statusClosed {
			return nil
		}
		if one.line != 0 {
			r.byLine[one.line] = append(r.byLine[one.line], &one)
		}
		if one.transfer != 0 {
			r.byMove[one.transfer] = append(r.byMove[one.transfer], &one)
		}
		return nil
	})
	return err
}

// standing says what its breaks make of a line: reported as missing, or settled by a resolution that names its counterpart.
func standing(known []*knownBreak) (open, settled bool) {
	for _, k := range known {
		missing := strings.HasPrefix(k.class, "missing_")
		open = open || missing
		settled = settled || !missing && k.status == statusResolved
	}
	return open, settled
}

// loadLines reads the channel's lines that are not matched.
func (r *run) loadLines() error {
	r.Progress("loading the lines", 0, 0)
	r.sides = map[events.Currency]*sides{}
	return r.addLines(sqlLines+" WHERE NOT matched", r.lineArgs()...)
}

// lineArgs are what sqlLines asks for.
func (r *run) lineArgs() []any {
	var reported []int64
	for id := range r.byLine {
		reported = append(reported, id)
	}
	return []any{r.Channel, (r.From - r.margin()).Time(), (r.To + r.margin()).Time(), reported}
}

// loadMatched reads the lines that are matched and that another may repeat, or that state as their fee what came into the book later.
func (r *run) loadMatched() error {
	var keys []string
	for _, s := range r.sides {
		for i := range s.there {
			keys = append(keys, reconcile.Normalise(s.there[i].Reference))
		}
		for i := range s.here {
			if s.here[i].Cost {
				keys = append(keys, reconcile.Normalise(s.here[i].Reference))
			}
		}
	}
	return r.addLines(sqlLines+" WHERE matched AND key <> '' AND key = ANY($5)", append(r.lineArgs(), keys)...)
}

// sqlLines reads the lines of channel $1 from day $2 to $3, and those with breaks ($4). What goes by a list of references
// is hashed by Postgres, whatever it believes of the sizes; a join might not be.
const sqlLines = `
	WITH own AS MATERIALIZED (
		SELECT l.*, EXISTS (SELECT FROM reconciliation_matches m WHERE m.line = l.id) AS matched FROM reconciliation_lines l
		WHERE l.channel = $1 AND (l.booked BETWEEN $2 AND $3 OR l.id = ANY($4))
	)
	SELECT id, identity, reference, booked, coalesce(value_date, '1970-01-01'), amount, fee, currency, text, collective, count, matched FROM own`

func (r *run) addLines(sql string, args ...any) error {
	rows, err := r.tx.Query(r.ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("read the lines: %w", err)
	}
	var l reconcile.Line
	var id int64
	var identity []byte
	var booked, value time.Time
	var currency string
	_, err = pgx.ForEachRow(rows, []any{&id, &identity, &l.Reference, &booked, &value, &l.Amount, &l.Fee, &currency, &l.Text, &l.Collective, &l.Count, &l.Settled}, func() error {
		one := l
		one.ID, one.Date, one.ValueDate = string(identity), reconcile.DayOf(booked), reconcile.DayOf(value)
		s, err := r.side(currency, &one, r.byLine[id])
		if err == nil {
			s.there, s.lines = append(s.there, one), append(s.lines, id)
		}
		return err
	})
	return err
}

// side completes a line and returns where it belongs.
func (r *run) side(currency string, l *reconcile.Line, known []*knownBreak) (*sides, error) {
	var ok bool
	if l.Currency, ok = events.ParseCurrency(currency); !ok {
		return nil, fmt.Errorf("the database has a currency %q, which this program does not know; run a newer sluice", currency)
	}
	open, settled := standing(known)
	l.Open, l.Settled = open, l.Settled || settled
	if r.sides[l.Currency] == nil {
		r.sides[l.Currency] = &sides{}
	}
	return r.sides[l.Currency], nil
}

// sqlBook reads what moved on the clearing accounts $1: from $2 to before $3, and the transfers with breaks ($4 shards and
// $5 numbers). $6 is the channel, $7 are the accounts of what channels cost: their other side is the channel's fee.
const sqlBook = `
	WITH moves AS MATERIALIZED (
		SELECT t.shard, t.number, t.sequence, t.debit_account = ANY($1) AS towards, t.debit_account = ANY($7) OR t.credit_account = ANY($7) AS cost, t.amount, t.currency, t.kind, t.event_time FROM transfers t
		WHERE (t.debit_account = ANY($1) OR t.credit_account = ANY($1)) AND t.event_time >= $2 AND t.event_time < $3
			AND NOT (t.debit_account = ANY($1) AND t.credit_account = ANY($1))
		UNION ALL
		SELECT t.shard, t.number, t.sequence, t.debit_account = ANY($1), t.debit_account = ANY($7) OR t.credit_account = ANY($7), t.amount, t.currency, t.kind, t.event_time FROM unnest($4::integer[], $5::bigint[]) AS b (shard, number)
		JOIN transfers t ON t.shard = b.shard AND t.number = b.number WHERE t.event_time < $2 OR t.event_time >= $3
	), told AS MATERIALIZED (
		SELECT (m.number << 12) | m.shard::bigint AS id, m.towards, m.cost, m.amount, m.currency, m.kind, m.event_time, coalesce(nullif(r.payment_id, ''), r.loan_id) AS reference,
			EXISTS (SELECT FROM reconciliation_matches x WHERE x.transfer = (m.number << 12) | m.shard::bigint AND x.channel = $6) AS matched
		FROM moves m JOIN results r ON r.shard = m.shard AND r.sequence = m.sequence
	)
	SELECT id, towards, cost, amount, currency, kind, event_time, reference, matched FROM told`

// loadBook reads the book's side.
func (r *run) loadBook() error {
	r.Progress("loading the book", 0, 0)
	accounts, err := r.ids("SELECT id FROM accounts WHERE type = 'clearing' AND substring(key from '^clearing:(.*)/[0-9]+:[A-Z]{3}$') = $1", r.Channel)
	if err != nil {
		return err
	}
	margin := r.margin()
	var shards []int32
	var moves []int64
	for id := range r.byMove {
		shards, moves = append(shards, int32(id&0xfff)), append(moves, id>>12)
	}
	paid, err := r.ids("SELECT id FROM accounts WHERE type = 'channel_costs'")
	if err != nil {
		return err
	}
	args := []any{accounts, r.midnight(r.From - margin), r.midnight(r.To + margin + 1), shards, moves, r.Channel, paid}
	if err := r.addMoves(sqlBook+" WHERE NOT matched", args...); err != nil {
		return err
	}
	var references []string
	for _, s := range r.sides {
		for i := range s.here {
			references = append(references, s.here[i].Reference)
		}
	}
	return r.addMoves(sqlBook+" WHERE matched AND reference = ANY($8)", append(args, references)...)
}

func (r *run) addMoves(sql string, args ...any) error {
	rows, err := r.tx.Query(r.ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("read the book: %w", err)
	}
	var id, amount int64
	var towards, cost, matched bool
	var currency, kind, reference string
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &towards, &cost, &amount, &currency, &kind, &at, &reference, &matched}, func() error {
		l := reconcile.Line{ID: bookID(id), Reference: reference, Date: reconcile.DayOf(at.In(r.Profile.Location())), Amount: amount, Collective: collective[kind], Settled: matched,
			Cost: cost, Rerouted: kind == payments.KindReroute}
		if !towards {
			l.Amount = -amount
		}
		s, err := r.side(currency, &l, r.byMove[id])
		if err == nil {
			s.here, s.moves = append(s.here, l), append(s.moves, id)
		}
		return err
	})
	return err
}

// collective are the kinds of transfers that stand for several lines of a statement.
var collective = map[string]bool{"payout": true, "settlement": true}

// ids reads the numbers of accounts.
func (r *run) ids(sql string, args ...any) ([]int64, error) {
	rows, err := r.tx.Query(r.ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read the accounts: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("read the accounts: %w", err)
	}
	return ids, nil
}

// margin is how many days around the period are looked through for counterparts.
func (r *run) margin() reconcile.Day { return reconcile.Day(max(r.Profile.Window(), around)) }
