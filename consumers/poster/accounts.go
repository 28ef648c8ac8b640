package poster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"sluice/pipelines/ledger"
)

const (
	sqlKnown       = `SELECT id, key FROM accounts WHERE key = ANY ($1)`
	sqlLockColumns = `SELECT id, debits_posted, credits_posted, debits_pending, credits_pending, version, floor, ctid, key FROM accounts`
	// Both lock in the order of keys, so that two posters cannot wait for each other in a circle. It is the order of the
	// index: each row is locked while its page is at hand.
	sqlLock      = sqlLockColumns + ` WHERE id = ANY ($1) ORDER BY key FOR NO KEY UPDATE`
	sqlLockByKey = sqlLockColumns + ` WHERE key = ANY ($1) ORDER BY key FOR NO KEY UPDATE`
	sqlOpen      = `
		INSERT INTO accounts (key, type, currency, exponent, credit_normal, striped, floor)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::boolean[], $6::boolean[], $7::bigint[])
			AS v (key, type, currency, exponent, credit_normal, striped, floor)
		ORDER BY key COLLATE "C" ON CONFLICT (key) DO NOTHING
		RETURNING id, debits_posted, credits_posted, debits_pending, credits_pending, version, floor, ctid, key`
)

// take locks the accounts of keys and loads them into the batch; those that are not in the book are opened after that, in
// the order of keys.
func (s *session) take(ctx context.Context, b *batch, keys []ledger.AccountKey) error {
	missing, err := s.lock(ctx, b, keys)
	if err != nil {
		return err
	}
	fresh := newAccounts{}
	for _, key := range missing {
		fresh.add(key, b)
	}
	if len(fresh.keys) == 0 {
		return nil
	}
	// What this transaction opens is known to it alone until it is committed.
	if err := s.load(ctx, b, b.opened, sqlOpen, fresh.args()...); err != nil {
		return err
	}
	var others []string // opened by another poster meanwhile
	for _, key := range fresh.keys {
		if _, ok := b.opened[ledger.AccountKey(key)]; !ok {
			others = append(others, key)
		}
	}
	if len(others) == 0 {
		return nil
	}
	if err := s.load(ctx, b, s.ids, sqlLockByKey, others); err != nil {
		return err
	}
	for _, key := range others {
		if _, ok := s.ids[ledger.AccountKey(key)]; !ok {
			return fmt.Errorf("account %s could neither be found nor opened", key)
		}
	}
	return nil
}

// lock locks and loads those accounts of keys that are in the book, and returns the other keys, sorted. Where the session
// knows most numbers, it locks by number; else one look by key does for both.
func (s *session) lock(ctx context.Context, b *batch, keys []ledger.AccountKey) (missing []ledger.AccountKey, err error) {
	wanted, unknown := make([]string, 0, len(keys)), make([]string, 0, len(keys))
	for _, key := range keys {
		if b.closed[key] {
			continue
		}
		wanted = append(wanted, string(key))
		if _, ok := s.ids[key]; !ok {
			unknown = append(unknown, string(key))
		}
	}
	slices.Sort(wanted)
	if 2*len(unknown) > len(wanted) {
		err = s.load(ctx, b, s.ids, sqlLockByKey, wanted)
	} else {
		err = s.lockByNumber(ctx, b, wanted, unknown)
	}
	for _, key := range wanted {
		if _, ok := s.ids[ledger.AccountKey(key)]; !ok {
			missing = append(missing, ledger.AccountKey(key))
		}
	}
	return missing, err
}

func (s *session) lockByNumber(ctx context.Context, b *batch, wanted, unknown []string) error {
	slices.Sort(unknown)
	if err := s.learn(ctx, unknown); err != nil {
		return err
	}
	ids := make([]int64, 0, len(wanted))
	for _, key := range wanted {
		if id, ok := s.ids[ledger.AccountKey(key)]; ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	before := len(b.accounts)
	err := s.load(ctx, b, s.ids, sqlLock, ids)
	if n := len(b.accounts) - before; err == nil && n != len(ids) {
		err = fmt.Errorf("lock %d accounts: %d are in the book", len(ids), n)
	}
	return err
}

// learn looks up the numbers of accounts.
func (s *session) learn(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	rows, err := s.conn.Query(ctx, sqlKnown, keys)
	if err != nil {
		return fmt.Errorf("look up %d accounts: %w", len(keys), err)
	}
	var id int64
	var key string
	if _, err = pgx.ForEachRow(rows, []any{&id, &key}, func() error {
		s.ids[ledger.AccountKey(key)] = id
		return nil
	}); err != nil {
		return fmt.Errorf("look up %d accounts: %w", len(keys), err)
	}
	return nil
}

// load loads the accounts that a statement returns into the batch, and their numbers into ids.
func (s *session) load(ctx context.Context, b *batch, ids map[ledger.AccountKey]int64, sql string, args ...any) error {
	rows, err := s.conn.Query(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("lock or open accounts: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := b.addAccount(rows.RawValues(), ids); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("lock or open accounts: %w", err)
	}
	return nil
}

// addAccount reads a row of sqlLockColumns, in binary: seven bigints of which the last may be NULL, a place, a text.
func (b *batch) addAccount(columns [][]byte, ids map[ledger.AccountKey]int64) error {
	const numbers = 7
	var n [numbers]int64
	for i, c := range columns[:numbers] {
		if len(c) == 8 {
			n[i] = int64(binary.BigEndian.Uint64(c))
		} else if c != nil || i != numbers-1 {
			return fmt.Errorf("column %d of an account has %d bytes; it is a bigint", i, len(c))
		}
	}
	place := columns[numbers]
	if len(place) != 6 {
		return errors.New("an account has no place")
	}
	key := ledger.AccountKey(columns[numbers+1])
	a, ok := ledger.NewAccount(key)
	if !ok {
		return fmt.Errorf("account %d of the book has the key %q, which names no type or currency", n[0], key)
	}
	a.ID, a.DebitsPosted, a.CreditsPosted, a.DebitsPending, a.CreditsPending, a.Version = n[0], n[1], n[2], n[3], n[4], n[5]
	a.Floored, a.Floor = columns[numbers-1] != nil, n[numbers-1]
	ids[key] = a.ID
	b.accounts = append(b.accounts, a)
	b.places = append(b.places, pgtype.TID{BlockNumber: binary.BigEndian.Uint32(place), OffsetNumber: binary.BigEndian.Uint16(place[4:]), Valid: true})
	return nil
}

// newAccounts are the columns of accounts to open.
type newAccounts struct {
	keys, kinds, currencies []string
	exponents               []int16
	credit, striped         []bool
	floors                  []*int64
}

func (n *newAccounts) add(key ledger.AccountKey, b *batch) {
	a, ok := ledger.NewAccount(key)
	if !ok {
		b.closed[key] = true
		return
	}
	n.keys, n.kinds, n.currencies = append(n.keys, string(key)), append(n.kinds, a.Type.Name), append(n.currencies, a.Currency.Code())
	n.exponents = append(n.exponents, int16(a.Type.Unit.Exponent(a.Currency)))
	n.credit, n.striped = append(n.credit, a.Type.Normal == ledger.CreditSide), append(n.striped, a.Type.Striped)
	var floor *int64
	if a.Floored {
		floor = &a.Floor
	}
	n.floors = append(n.floors, floor)
}

func (n *newAccounts) args() []any {
	return []any{n.keys, n.kinds, n.currencies, n.exponents, n.credit, n.striped, n.floors}
}
