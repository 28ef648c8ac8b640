// Package books reads the book for accountants: accounts, statements, trial balances; and closes periods. It posts
// nothing. Times are those under which transfers stand: their event's, or the first open moment for what came after its
// period was closed.
package books

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"

	"sluice/pipelines/ledger"
	"sluice/schemas/events"
)

// Book is a connection to the book. It is not safe for concurrent use.
type Book struct {
	conn *pgx.Conn

	fromBeginning bool // asks the transfers alone; for tests
}

// Open connects to a migrated book; its URL's search_path says where the tables are.
func Open(ctx context.Context, postgres string) (*Book, error) {
	conn, err := pgx.Connect(ctx, postgres)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	return &Book{conn: conn}, nil
}

// Close ends the connection.
func (b *Book) Close(ctx context.Context) { _ = b.conn.Close(ctx) }

// ErrUnknown means that no account has the name.
var ErrUnknown = errors.New("no such account; `sluice ledger accounts` lists them, and --like looks for a part of a name")

// Account is an account as people see it: stripes are one. Amounts are in major units.
type Account struct {
	Name      string          `json:"account"`
	Type      string          `json:"type"`
	Currency  string          `json:"currency"`    // of money; "CNY points", "CNY shares" of what is counted beside it
	Normal    string          `json:"normal_side"` // "debit" or "credit": the side that makes the balance grow
	Debits    decimal.Decimal `json:"debits"`
	Credits   decimal.Decimal `json:"credits"`
	Balance   decimal.Decimal `json:"balance"`
	Held      decimal.Decimal `json:"held"` // of the balance, by open holds now; zero for a balance of the past
	Transfers int64           `json:"transfers"`

	exponent int
}

// Filter says which accounts are meant; what is empty is not asked for.
type Filter struct {
	Type, Currency string
	Like           string // a part of the name
	Limit          int    // 0: all
}

// named are the accounts with their names: a stripe's is that of the whole, "fees:CNY".
const named = `(SELECT *, CASE WHEN striped THEN regexp_replace(key, '/[0-9]+(:[A-Z]{3})$', '\1') ELSE key END AS name FROM accounts)`

// sums are an account's debits and credits by its name: now, or by transfers dated up to and including a moment, $5. Those
// add what came from $6 on to the balances of days, if days are rolled up to there.
const (
	sumsNow = `SELECT name, debits_posted AS debits, credits_posted AS credits, CASE WHEN credit_normal THEN debits_pending ELSE credits_pending END AS held, version AS transfers FROM ` + named + ` a`
	sumsAt  = `
		SELECT n.name, d.debits, d.credits, 0 AS held, d.transfers FROM (SELECT DISTINCT name FROM ` + named + ` a) n
		CROSS JOIN LATERAL (SELECT debits, credits, transfers FROM daily_balances
			WHERE account = n.name AND day < ($6::timestamptz AT TIME ZONE 'UTC')::date ORDER BY day DESC LIMIT 1) d
		UNION ALL
		SELECT a.name, sum(m.debits), sum(m.credits), 0, sum(m.transfers) FROM (
			SELECT account, sum(debit) AS debits, sum(credit) AS credits, count(*) AS transfers FROM (
				SELECT debit_account AS account, amount AS debit, 0 AS credit FROM transfers WHERE event_time <= $5 AND event_time >= coalesce($6, '-infinity')
				UNION ALL SELECT credit_account, 0, amount FROM transfers WHERE event_time <= $5 AND event_time >= coalesce($6, '-infinity')) both_sides
			GROUP BY account) m JOIN ` + named + ` a ON a.id = m.account GROUP BY a.name`
)

// Accounts lists accounts in order of name, as they are or, with a time, as they were.
func (b *Book) Accounts(ctx context.Context, f Filter, at time.Time) ([]Account, error) {
	all, _, err := b.List(ctx, f, at)
	return all, err
}

// List is Accounts, and how many there are without the limit. A type or currency that there is not is an error.
func (b *Book) List(ctx context.Context, f Filter, at time.Time) (all []Account, total int64, err error) {
	if err := f.check(); err != nil {
		return nil, 0, err
	}
	sums, args := sumsNow, []any{f.Type, f.Currency, f.Like, f.Limit}
	if !at.IsZero() {
		from, err := b.rolled(ctx, b.conn, at.Add(time.Microsecond)) // Postgres's smallest step: a day's last one is its end
		if err != nil {
			return nil, 0, fmt.Errorf("read the accounts: %w", err)
		}
		sums, args = sumsAt, append(args, at, from)
	}
	rows, err := b.conn.Query(ctx, `
		SELECT a.name, a.type, a.currency, a.exponent, a.credit_normal, sum(s.debits)::text, sum(s.credits)::text, sum(s.held)::text, sum(s.transfers)::bigint, count(*) OVER ()
		FROM (SELECT DISTINCT name, type, currency, exponent, credit_normal FROM `+named+` x) a JOIN (`+sums+`) s ON s.name = a.name
		WHERE ($1 = '' OR a.type = $1) AND ($2 = '' OR a.currency = $2) AND ($3 = '' OR strpos(a.name, $3) > 0)
		GROUP BY 1, 2, 3, 4, 5 ORDER BY a.name COLLATE "C" LIMIT nullif($4, 0)`, args...)
	if err != nil {
		return nil, 0, fmt.Errorf("read the accounts: %w", err)
	}
	all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Account, error) { return scanAccount(row, &total) })
	if err != nil {
		return nil, 0, fmt.Errorf("read the accounts: %w", err)
	}
	return all, total, nil
}

// check refuses words that no account has.
func (f Filter) check() error {
	if _, known := events.ParseCurrency(f.Currency); f.Currency != "" && !known {
		return fmt.Errorf("--currency %s: the house does not know this currency; give an ISO 4217 code, such as CNY", f.Currency)
	}
	if f.Type == "" {
		return nil
	}
	var names []string
	for _, t := range ledger.Types() {
		if t.Name == f.Type {
			return nil
		}
		names = append(names, t.Name)
	}
	return fmt.Errorf("--type %s: there is no such type of account; there are %s", f.Type, strings.Join(names, ", "))
}

func scanAccount(row pgx.CollectableRow, more ...any) (a Account, err error) {
	var creditNormal bool
	var debits, credits, held string
	if err := row.Scan(append([]any{&a.Name, &a.Type, &a.Currency, &a.exponent, &creditNormal, &debits, &credits, &held, &a.Transfers}, more...)...); err != nil {
		return a, err
	}
	a.Currency, _ = measure(a.Name, a.Currency)
	for _, n := range []struct {
		text string
		into *decimal.Decimal
	}{{debits, &a.Debits}, {credits, &a.Credits}, {held, &a.Held}} {
		minor, err := decimal.NewFromString(n.text)
		if err != nil {
			return a, err
		}
		*n.into = minor.Shift(int32(-a.exponent))
	}
	a.Normal, a.Balance = "debit", a.Debits.Sub(a.Credits)
	if creditNormal {
		a.Normal, a.Balance = "credit", a.Balance.Neg()
	}
	return a, nil
}

// Line is a line of a statement, in major units.
type Line struct {
	Time      time.Time       `json:"time"`
	Transfer  int64           `json:"transfer"`
	Kind      string          `json:"kind"`
	Other     string          `json:"other_account"`
	PaymentID string          `json:"payment_id"`
	LoanID    string          `json:"loan_id"`
	Debit     decimal.Decimal `json:"debit"`
	Credit    decimal.Decimal `json:"credit"`
	Balance   decimal.Decimal `json:"balance"` // after it
}

// Period is from its first to before its last moment; a zero time is open.
type Period struct{ From, To time.Time }

// Page is a part of a long statement: the lines Size*(Number-1) and on. Size 0 is all of it.
type Page struct{ Number, Size int }

// Statement is what happened on an account in a period.
type Statement struct {
	Account  Account         `json:"account"` // its names and sides; the amounts are those of the period's end
	Period   Period          `json:"period"`
	Opening  decimal.Decimal `json:"opening"`
	Closing  decimal.Decimal `json:"closing"`
	Lines    []Line          `json:"lines"` // of the page
	AllLines int64           `json:"all_lines"`
	Balance  decimal.Decimal `json:"balance_now"` // the account's own, whatever the period

	since *time.Time // the days before are rolled up; nil: from the beginning
}

// Warning says what a reader of the closing balance should know: that the account's balance is another one. Empty: nothing.
func (s *Statement) Warning() string {
	p := int32(s.Account.exponent)
	switch {
	case s.Closing.Equal(s.Balance):
		return ""
	case s.Period.To.IsZero():
		return fmt.Sprintf("the transfers of %s make %s, its balance is %s: `sluice ledger verify` says where the book does not agree with itself",
			s.Account.Name, s.Closing.StringFixed(p), s.Balance.StringFixed(p))
	default:
		return fmt.Sprintf("the statement of %s ends with %s; its balance now is %s, by transfers dated %s and later",
			s.Account.Name, s.Closing.StringFixed(p), s.Balance.StringFixed(p), s.Period.To.Format(time.RFC3339))
	}
}

// entries are an account's transfers: both sides by their indexes, since stripes and accounts are few. Those from $4 on, if
// days are rolled up to there, on top of what the account had made by then.
const entries = `
	WITH own AS (SELECT id, credit_normal FROM ` + named + ` a WHERE name = $1),
	before AS (
		SELECT coalesce(max(debits), 0) AS debits, coalesce(max(credits), 0) AS credits, coalesce(max(transfers), 0) AS transfers,
			CASE WHEN (SELECT bool_or(credit_normal) FROM own) THEN 1 ELSE -1 END * coalesce(max(credits) - max(debits), 0) AS balance
		FROM (SELECT debits, credits, transfers FROM daily_balances WHERE account = $1 AND day < ($4::timestamptz AT TIME ZONE 'UTC')::date ORDER BY day DESC LIMIT 1) newest),
	entries AS (
		SELECT t.event_time, t.shard, t.number, t.id, t.sequence, t.kind, t.credit_account AS other, t.amount AS debit, 0::bigint AS credit, o.credit_normal
		FROM own o JOIN transfers t ON t.debit_account = o.id AND t.event_time >= coalesce($4, '-infinity')
		UNION ALL
		SELECT t.event_time, t.shard, t.number, t.id, t.sequence, t.kind, t.debit_account, 0, t.amount, o.credit_normal
		FROM own o JOIN transfers t ON t.credit_account = o.id AND t.event_time >= coalesce($4, '-infinity')),
	running AS (
		SELECT *, (SELECT balance FROM before) + sum(CASE WHEN credit_normal THEN credit - debit ELSE debit - credit END)
			OVER (ORDER BY event_time, shard, number, debit ROWS UNBOUNDED PRECEDING) AS balance
		FROM entries WHERE $2::timestamptz IS NULL OR event_time < $2)
	`

// Read reads a statement, in order of time. Every line's balance is that of the whole account after it. A stripe's name,
// clearing:north/5:CNY, is taken as that of the whole account, clearing:north:CNY.
func (b *Book) Read(ctx context.Context, account string, period Period, page Page) (*Statement, error) {
	var s Statement
	if !period.From.IsZero() && !period.To.IsZero() && !period.From.Before(period.To) {
		return nil, fmt.Errorf("the period from %s to before %s has no moment: it ends before it begins; exchange --from and --to",
			period.From.Format(time.RFC3339), period.To.Format(time.RFC3339))
	}
	err := pgx.BeginTxFunc(ctx, b.conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		s = Statement{Period: period}
		var err error
		if s.since, err = b.rolled(ctx, tx, period.From); err != nil {
			return err
		}
		name, err := whole(ctx, tx, account)
		if err != nil {
			return err
		}
		if err := s.head(ctx, tx, name); err != nil {
			return err
		}
		return s.lines(ctx, tx, page)
	})
	if err != nil {
		return nil, fmt.Errorf("read the statement of %s: %w", account, err)
	}
	return &s, nil
}

// whole is the name of the account that a key belongs to; what is no key stays as it is.
func whole(ctx context.Context, tx pgx.Tx, key string) (name string, err error) {
	err = tx.QueryRow(ctx, `SELECT name FROM `+named+` a WHERE key = $1`, key).Scan(&name)
	if errors.Is(err, pgx.ErrNoRows) {
		return key, nil
	}
	return name, err
}

// head reads what the account is, and its sums before and at the end of the period.
func (s *Statement) head(ctx context.Context, tx pgx.Tx, account string) error {
	rows, err := tx.Query(ctx, `SELECT name, type, currency, exponent, credit_normal, sum(debits_posted)::text, sum(credits_posted)::text, '0', 0::bigint FROM `+named+` a WHERE name = $1 GROUP BY 1, 2, 3, 4, 5`, account)
	if err != nil {
		return err
	}
	s.Account, err = pgx.CollectOneRow(rows, func(row pgx.CollectableRow) (Account, error) { return scanAccount(row) })
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrUnknown
	}
	if err != nil {
		return err
	}
	s.Balance = s.Account.Balance
	var opening, debits, credits string
	err = tx.QueryRow(ctx, entries+`
		SELECT ((SELECT balance FROM before) + coalesce(sum(CASE WHEN credit_normal THEN credit - debit ELSE debit - credit END) FILTER (WHERE event_time < $3), 0))::text,
			((SELECT debits FROM before) + coalesce(sum(debit), 0))::text, ((SELECT credits FROM before) + coalesce(sum(credit), 0))::text,
			(SELECT transfers FROM before) + count(*), count(*) FILTER (WHERE $3::timestamptz IS NULL OR event_time >= $3)
		FROM running`, account, null(s.Period.To), null(s.Period.From), s.since).Scan(&opening, &debits, &credits, &s.Account.Transfers, &s.AllLines)
	if err != nil {
		return err
	}
	s.Opening, s.Account.Debits, s.Account.Credits = s.major(opening), s.major(debits), s.major(credits)
	s.Account.Balance = s.Account.Debits.Sub(s.Account.Credits)
	if s.Account.Normal == "credit" {
		s.Account.Balance = s.Account.Balance.Neg()
	}
	s.Closing = s.Account.Balance
	return nil
}

// major is a sum of minor units in major units.
func (s *Statement) major(minor string) decimal.Decimal {
	d, err := decimal.NewFromString(minor)
	if err != nil {
		panic("books: Postgres wrote the number " + minor)
	}
	return d.Shift(int32(-s.Account.exponent))
}

func (s *Statement) lines(ctx context.Context, tx pgx.Tx, page Page) error {
	rows, err := tx.Query(ctx, entries+`
		SELECT r.event_time, r.id, r.kind, o.name, coalesce(x.payment_id, ''), coalesce(x.loan_id, ''), r.debit::text, r.credit::text, r.balance::text
		FROM (SELECT * FROM running WHERE $3::timestamptz IS NULL OR event_time >= $3
			ORDER BY event_time, shard, number, debit LIMIT nullif($5, 0) OFFSET $6) r
		JOIN `+named+` o ON o.id = r.other
		LEFT JOIN results x ON x.shard = r.shard AND x.sequence = r.sequence
		ORDER BY r.event_time, r.shard, r.number, r.debit`, s.Account.Name, null(s.Period.To), null(s.Period.From), s.since, page.Size, page.Size*max(page.Number-1, 0))
	if err != nil {
		return err
	}
	var l Line
	var debit, credit, balance string
	_, err = pgx.ForEachRow(rows, []any{&l.Time, &l.Transfer, &l.Kind, &l.Other, &l.PaymentID, &l.LoanID, &debit, &credit, &balance}, func() error {
		l.Time, l.Debit, l.Credit, l.Balance = l.Time.UTC(), s.major(debit), s.major(credit), s.major(balance)
		s.Lines = append(s.Lines, l)
		return nil
	})
	return err
}

func null(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Trial is a trial balance: each account's, or type's, balance on its side; per currency both sides are equal.
type Trial struct {
	At     time.Time  `json:"at,omitzero"` // zero: now
	Rows   []TrialRow `json:"rows"`
	Totals []TrialRow `json:"totals"` // by currency
}

// TrialRow is a line of a trial balance, in major units.
type TrialRow struct {
	Name     string          `json:"name"`
	Currency string          `json:"currency"` // of money; "CNY points", "CNY shares" of what is counted beside it
	Debit    decimal.Decimal `json:"debit"`
	Credit   decimal.Decimal `json:"credit"`

	exponent int
}

// Balanced says whether both sides of every currency are equal.
func (t *Trial) Balanced() bool {
	for _, r := range t.Totals {
		if !r.Debit.Equal(r.Credit) {
			return false
		}
	}
	return true
}

// TrialBalance adds the book up as it is, or as it was at a moment; by type of account, or each account by itself.
func (b *Book) TrialBalance(ctx context.Context, at time.Time, each bool) (*Trial, error) {
	accounts, err := b.Accounts(ctx, Filter{}, at)
	if err != nil {
		return nil, err
	}
	t := &Trial{At: at}
	rows, totals := map[[2]string]int{}, map[string]int{}
	for _, a := range accounts {
		row := TrialRow{Name: a.Type, Currency: a.Currency, exponent: a.exponent}
		if each {
			row.Name = a.Name
		}
		t.add(&t.Rows, rows, [2]string{row.Name, row.Currency}, row, a)
		i, ok := totals[a.Currency]
		if !ok {
			i = len(t.Totals)
			totals[a.Currency] = i
			t.Totals = append(t.Totals, TrialRow{Name: "total", Currency: a.Currency, exponent: a.exponent})
		}
		t.Totals[i].put(a)
	}
	return t, nil
}

func (t *Trial) add(rows *[]TrialRow, index map[[2]string]int, key [2]string, row TrialRow, a Account) {
	i, ok := index[key]
	if !ok {
		i = len(*rows)
		index[key] = i
		*rows = append(*rows, row)
	}
	(*rows)[i].put(a)
}

// put adds an account's balance on its side: its normal one, or the other if it is negative.
func (r *TrialRow) put(a Account) {
	switch d := a.Debits.Sub(a.Credits); {
	case d.IsPositive():
		r.Debit = r.Debit.Add(d)
	case d.IsNegative():
		r.Credit = r.Credit.Sub(d)
	}
}

// Closed is a period nobody posts into any more.
type Closed struct {
	Until    time.Time `json:"until"`
	At       time.Time `json:"closed_at"`
	By       string    `json:"closed_by"`
	RolledUp bool      `json:"rolled_up"` // its days' balances are written
}

// Closings lists the closed periods, the first one first.
func (b *Book) Closings(ctx context.Context) ([]Closed, error) {
	rows, err := b.conn.Query(ctx, "SELECT until, closed_at, closed_by, until <= coalesce((SELECT max(until) FROM daily_rollups), '-infinity') FROM closed_periods ORDER BY until")
	if err != nil {
		return nil, fmt.Errorf("read the closed periods: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Closed, err error) {
		err = row.Scan(&c.Until, &c.At, &c.By, &c.RolledUp)
		c.Until, c.At = c.Until.UTC(), c.At.UTC()
		return c, err
	})
}

// Closing says what to close.
type Closing struct {
	Day    time.Time // the last one, UTC
	By     string
	Now    time.Time // a day that is not over then cannot be closed
	Anyway bool      // although shards have not passed the day: what comes late is dated after it
}

// ClosePeriod ends the period up to and including a day. It waits for the batches under way and holds the others up for
// as long as one row takes to write. It refuses a day that the book has not passed: it cannot be opened again.
func (b *Book) ClosePeriod(ctx context.Context, o Closing) (Closed, error) {
	c := Closed{Until: o.Day.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour), By: o.By}
	if c.Until.After(o.Now) {
		return c, fmt.Errorf("%s is not over yet: a day is closed once it has passed everywhere in UTC", o.Day.Format(time.DateOnly))
	}
	err := pgx.BeginFunc(ctx, b.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '10s'; LOCK TABLE shards IN EXCLUSIVE MODE"); err != nil {
			return fmt.Errorf("wait for the batches under way: %w", err)
		}
		var last time.Time
		if err := tx.QueryRow(ctx, "SELECT coalesce(max(until), 'epoch') FROM closed_periods").Scan(&last); err != nil {
			return err
		}
		if !c.Until.After(last) {
			return fmt.Errorf("the book is closed before %s already", last.UTC().Format(time.DateOnly))
		}
		if !o.Anyway {
			if err := passed(ctx, tx, c.Until); err != nil {
				return err
			}
		}
		return tx.QueryRow(ctx, "INSERT INTO closed_periods (until, closed_by) VALUES ($1, $2) RETURNING closed_at", c.Until, o.By).Scan(&c.At)
	})
	if err != nil {
		return c, fmt.Errorf("close the book up to %s: %w", o.Day.Format(time.DateOnly), err)
	}
	return c, nil
}

// passed refuses a moment that a shard's clock is before. A shard that never had an event has no say.
func passed(ctx context.Context, tx pgx.Tx, until time.Time) error {
	rows, err := tx.Query(ctx, "SELECT shard, clock FROM shards WHERE sequence > 0 AND clock < $1 ORDER BY clock, shard", until)
	if err != nil {
		return err
	}
	var behind []string
	var shard int32
	var clock time.Time
	if _, err := pgx.ForEachRow(rows, []any{&shard, &clock}, func() error {
		behind = append(behind, fmt.Sprintf("shard %d is at %s", shard, clock.UTC().Format(time.RFC3339)))
		return nil
	}); err != nil || len(behind) == 0 {
		return err
	}
	const most = 3
	more := ""
	if n := len(behind) - most; n > 0 {
		behind, more = behind[:most], fmt.Sprintf(", and %d others are behind", n)
	}
	return fmt.Errorf("the book has not passed %s: %s%s; close it later, or with --anyway, so that what comes late is dated after the day; it cannot be opened again",
		until.Format(time.RFC3339), strings.Join(behind, ", "), more)
}

// measure is in what an account counts, and with how many decimals: its currency, or "CNY points".
func measure(account, currency string) (string, int32) {
	t, known := ledger.AccountKey(account).Type()
	c, ok := events.ParseCurrency(currency)
	if !known || !ok || t.Unit == ledger.Money {
		return currency, places(currency)
	}
	return currency + " " + t.Unit.String(), int32(t.Unit.Exponent(c))
}

// places is how many decimals a currency's amounts are written with.
func places(currency string) int32 {
	c, ok := events.ParseCurrency(currency)
	if !ok {
		return 0
	}
	return int32(c.Exponent())
}
