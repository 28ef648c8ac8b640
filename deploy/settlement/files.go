package settlement

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pipelines/settlement"
	"sluice/schemas/events"
)

// Filed is what became of payout files.
type Filed struct {
	Paths    []string // written, or there already with the same bytes
	Payments int
	Lacking  []string // merchants whose terms lack an account; their payouts wait
}

// unfiled is a posted payout that is in no file.
type unfiled struct {
	number   int64
	merchant string
	channel  string
	value    time.Time
}

// MakeFiles puts every payout that the book has posted and that is in no file into one: a file for each payment channel and value
// date, with the accounts that the terms name now. A payout that the book has not posted is in none, so that no bank is told to pay
// what the book has refused.
func (s *Store) MakeFiles(ctx context.Context) (out Filed, err error) {
	house := s.Terms.House
	err = s.alone(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT o.number, o.party, p.payment_channel, o.value_date FROM settlement_orders o JOIN payments p ON p.id = o.id
			WHERE o.purpose = 'payout' AND o.file IS NULL AND o.returned IS NULL AND p.status = 'posted' ORDER BY o.value_date, p.payment_channel, o.number`)
		if err != nil {
			return fmt.Errorf("read the payouts: %w", err)
		}
		all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (u unfiled, err error) {
			err = row.Scan(&u.number, &u.merchant, &u.channel, &u.value)
			return u, err
		})
		if err != nil || len(all) == 0 {
			return err
		}
		if missing := house.Missing(); missing != "" || house.Holder == "" {
			return fmt.Errorf("the terms %q lack the house's own account, from which it pays: write house: {holder: NAME, account: IBAN, bic: BIC}", s.Terms.Name)
		}
		all = s.payable(all, &out)
		for len(all) > 0 {
			n := 1
			for n < len(all) && n < settlement.MaxFilePayments && all[n].channel == all[0].channel && all[n].value.Equal(all[0].value) {
				n++
			}
			if err := s.makeFile(ctx, conn, all[:n]); err != nil {
				return err
			}
			out.Payments += n
			all = all[n:]
		}
		return nil
	})
	return out, err
}

// payable leaves out payouts to merchants whose terms lack an account.
func (s *Store) payable(all []unfiled, out *Filed) (payable []unfiled) {
	lacking := map[string]bool{}
	for _, u := range all {
		if s.Terms.Of(u.merchant).Account.Missing() == "" {
			payable = append(payable, u)
		} else if !lacking[u.merchant] {
			lacking[u.merchant] = true
			out.Lacking = append(out.Lacking, u.merchant)
		}
	}
	return payable
}

func (s *Store) makeFile(ctx context.Context, conn *pgx.Conn, all []unfiled) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var id int64
		h := s.Terms.House
		if err := tx.QueryRow(ctx, `INSERT INTO settlement_files (payment_channel, value_date, number, holder, bank_account, bic)
			SELECT $1, $2, 1 + coalesce(max(number), 0), $3, $4, $5 FROM settlement_files WHERE payment_channel = $1 AND value_date = $2 RETURNING id`,
			all[0].channel, all[0].value, h.Holder, h.Number, h.BIC).Scan(&id); err != nil {
			return fmt.Errorf("write a payout file: %w", err)
		}
		var numbers []int64
		var holders, accounts, bics []string
		for _, u := range all {
			a := s.Terms.Of(u.merchant).Account
			numbers, holders, accounts, bics = append(numbers, u.number), append(holders, a.Holder), append(accounts, a.Number), append(bics, a.BIC)
		}
		if _, err := tx.Exec(ctx, `UPDATE settlement_orders o SET file = $1, holder = v.holder, bank_account = v.account, bic = v.bic
			FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[]) AS v (number, holder, account, bic) WHERE o.number = v.number`,
			id, numbers, holders, accounts, bics); err != nil {
			return fmt.Errorf("write a payout file: %w", err)
		}
		return nil
	})
}

// WriteFiles writes payout files to a folder: those that have never been written, or, with an id, that one. A file is there
// whole or not at all; one that is there with other bytes is not touched. Runs wait for each other, so that two folders do not get one file.
func (s *Store) WriteFiles(ctx context.Context, folder string, id int64) (out Filed, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return out, fmt.Errorf("--out: %w", err)
	}
	err = s.alone(ctx, func(conn *pgx.Conn) error { return s.writeFiles(ctx, conn, folder, id, &out) })
	return out, err
}

func (s *Store) writeFiles(ctx context.Context, conn *pgx.Conn, folder string, id int64, out *Filed) error {
	rows, err := conn.Query(ctx, "SELECT id FROM settlement_files WHERE CASE $1::bigint WHEN 0 THEN NOT written ELSE id = $1 END ORDER BY id", id)
	if err != nil {
		return fmt.Errorf("read the payout files: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("read the payout files: %w", err)
	}
	if id != 0 && len(ids) == 0 {
		return fmt.Errorf("there is no payout file %d; `sluice settlement files` lists them", id)
	}
	for _, id := range ids {
		f, err := readFile(ctx, conn, id)
		if err != nil {
			return fmt.Errorf("read payout file %d: %w", id, err)
		}
		for _, ending := range settlement.FileNames {
			path, err := s.writeFile(folder, f, ending)
			if err != nil {
				return err
			}
			out.Paths = append(out.Paths, path)
		}
		out.Payments += len(f.Payments)
		if _, err := conn.Exec(ctx, "UPDATE settlement_files SET written = true WHERE id = $1 AND NOT written", id); err != nil {
			return fmt.Errorf("note that %s is written: %w", f.Name(), err)
		}
	}
	return nil
}

func readFile(ctx context.Context, conn *pgx.Conn, id int64) (*settlement.File, error) {
	f := &settlement.File{ID: id}
	var value time.Time
	if err := conn.QueryRow(ctx, "SELECT payment_channel, value_date, number, holder, bank_account, bic FROM settlement_files WHERE id = $1", id).
		Scan(&f.Channel, &value, &f.Number, &f.House.Holder, &f.House.Number, &f.House.BIC); err != nil {
		return nil, err
	}
	f.Value = day(value)
	rows, err := conn.Query(ctx, "SELECT number, id, party, amount, currency, event_time, holder, bank_account, bic FROM settlement_orders WHERE file = $1 ORDER BY number", id)
	if err != nil {
		return nil, err
	}
	f.Payments, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p settlement.FilePayment, err error) {
		var code string
		if err := row.Scan(&p.Number, &p.Order, &p.Merchant, &p.Amount, &code, &p.At, &p.Account.Holder, &p.Account.Number, &p.Account.BIC); err != nil {
			return p, err
		}
		var ok bool
		if p.Currency, ok = events.ParseCurrency(code); !ok {
			return p, fmt.Errorf("unknown currency %q: run a newer sluice", code)
		}
		return p, nil
	})
	return f, err
}

// writeFile writes a file beside its place and then moves it there.
func (s *Store) writeFile(folder string, f *settlement.File, ending string) (string, error) {
	path := filepath.Join(folder, f.Name()+ending)
	temporary, err := os.CreateTemp(folder, ".payouts-*")
	if err != nil {
		return "", fmt.Errorf("--out: %w", err)
	}
	defer os.Remove(temporary.Name()) // gone once it was moved
	total := len(f.Payments)
	out := bufio.NewWriter(temporary)
	err = f.Write(out, ending, func(done int) {
		if done%tell == 0 || done == total {
			s.progress("writing "+f.Name()+ending, int64(done), int64(total))
		}
	})
	if err == nil {
		err = out.Flush()
	}
	if err == nil {
		err = temporary.Sync()
	}
	if err := errors.Join(err, temporary.Close()); err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	// Link fails where the name is taken, so that two writers at once do not overwrite each other either.
	err = os.Link(temporary.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		return path, sameBytes(path, temporary.Name())
	}
	if err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	return path, os.Chmod(path, 0o644)
}

// sameBytes refuses a file that is there with other bytes.
func sameBytes(path, fresh string) error {
	a, err := os.Open(path)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(fresh)
	if err != nil {
		return err
	}
	defer b.Close()
	x, y := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		n, errA := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return fmt.Errorf("%s is there with other bytes and was not touched; it is not this house's file, or was changed: move it away", path)
		}
		if errA != nil || errB != nil {
			return nil
		}
	}
}

// FileRow is a payout file in a list.
type FileRow struct {
	ID       int64
	Name     string
	Value    settlement.Day
	Payments int64
	Sums     string // by currency
	Written  bool
}

// Files lists the payout files, the newest first. It stops at a limit, 0 for none; more says that it did.
func (s *Store) Files(ctx context.Context, limit int) (files []FileRow, more bool, err error) {
	files, err = s.files(ctx, oneMore(limit))
	files, more = cut(files, limit)
	return files, more, err
}

func (s *Store) files(ctx context.Context, limit int) ([]FileRow, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, `SELECT f.id, f.payment_channel, f.value_date, f.number, f.written, sum(o.n)::bigint, array_agg(o.currency ORDER BY o.currency), array_agg(o.amount ORDER BY o.currency)
		FROM settlement_files f JOIN LATERAL (SELECT currency, count(*) AS n, sum(amount)::bigint AS amount FROM settlement_orders WHERE file = f.id GROUP BY currency) o ON true
		GROUP BY f.id ORDER BY f.id DESC LIMIT nullif($1, 0)`, limit)
	if err != nil {
		return nil, fmt.Errorf("read the payout files: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r FileRow, err error) {
		var f settlement.File
		var value time.Time
		var codes []string
		var amounts []int64
		if err := row.Scan(&r.ID, &f.Channel, &value, &f.Number, &r.Written, &r.Payments, &codes, &amounts); err != nil {
			return r, err
		}
		f.Value = day(value)
		r.Name, r.Value = f.Name(), f.Value
		var sums []string
		for i, code := range codes {
			c, _ := events.ParseCurrency(code)
			sums = append(sums, events.FormatAmount(amounts[i], c)+" "+code)
		}
		r.Sums = strings.Join(sums, ", ")
		return r, nil
	})
}
