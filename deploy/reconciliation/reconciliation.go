// Package reconciliation keeps what pipelines/reconcile finds: the statements of channels, what of them matches the book,
// the breaks, and the audit of what became of each, in Postgres beside the book. It reads the book and posts nothing.
package reconciliation

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pipelines/reconcile"
	"sluice/pipelines/reconcile/statement"
)

// around is how many days of the book before and after the period are looked through for counterparts, at least: a
// payment that is further away was reported when its own days were reconciled, or comes with another statement.
const around = 7

// tell is after how many bytes or rows progress is told.
const tell = 1 << 16

// Store is where reconciliations are kept. Its methods may be called by any number of processes at once: runs of one
// channel wait for each other.
type Store struct {
	Postgres string // URL; its tables are those of schemas/ledger
}

// Order is one statement to reconcile.
type Order struct {
	Channel  string // as in the name of its clearing accounts: "card"
	Path     string // of the statement
	Profile  *statement.Profile
	From, To reconcile.Day // the period, both included; 0: the statement's first and last
	AsOf     reconcile.Day // ages are counted to here
	By       string
	Progress func(stage string, done, total int64) // may be nil
}

// Outcome is what a run has done and where the channel then stands.
type Outcome struct {
	Channel  string
	Run      int64 // 0: nothing has changed
	File     File
	From, To reconcile.Day
	AsOf     reconcile.Day
	Imported int // lines that no file had before
	Matches  map[reconcile.Stage]int
	Opened   int // breaks found
	Closed   int // breaks that closed by themselves
	Open     []Row
}

// File is a statement.
type File struct {
	Name     string
	Format   string
	Known    bool // imported before
	Lines    int
	Ignored  int
	From, To reconcile.Day

	id       int64
	sha256   []byte
	profile  string
	balances []statement.Balance
	lines    []statement.Line
}

// Reconcile imports a statement, unless it has been, and matches what is open of the channel with the book. All of it is
// written, or nothing; what is there already changes nothing. Mistakes in the file are *statement.Mistake.
func (s *Store) Reconcile(ctx context.Context, o Order) (Outcome, error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if strings.TrimSpace(o.By) == "" {
		return Outcome{}, errors.New("who does it is written down: give --by NAME")
	}
	conn, err := pgx.Connect(ctx, s.Postgres)
	if err != nil {
		return Outcome{}, fmt.Errorf("open the reconciliation: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := checkChannel(ctx, conn, o.Channel); err != nil {
		return Outcome{}, err
	}
	file, err := readFile(ctx, conn, o)
	if err != nil {
		return Outcome{}, err
	}
	r := &run{ctx: ctx, Order: o, file: file}
	if err := r.fillPeriod(); err != nil {
		return Outcome{}, err
	}
	if err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		r.tx = tx
		return r.all()
	}); err != nil {
		return Outcome{}, fmt.Errorf("reconcile %s: %w", o.Channel, err)
	}
	return r.outcome(conn)
}

// checkChannel refuses a channel the book has no clearing account of: it is most likely mistyped.
func checkChannel(ctx context.Context, conn *pgx.Conn, channel string) error {
	rows, err := conn.Query(ctx, `SELECT DISTINCT substring(key from '^clearing:(.*)/[0-9]+:[A-Z]{3}$') FROM accounts WHERE type = 'clearing' ORDER BY 1`)
	if err != nil {
		return fmt.Errorf("read the book's channels: %w", err)
	}
	channels, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read the book's channels: %w", err)
	}
	for _, c := range channels {
		if c == channel {
			return nil
		}
	}
	if len(channels) == 0 {
		return fmt.Errorf("the book has no clearing account of a channel %q, nor of any other: no payment has been posted", channel)
	}
	return fmt.Errorf("the book has no clearing account of a channel %q; it has %s", channel, strings.Join(channels, ", "))
}

// readFile reads the statement, or, if its bytes were imported before, what is known of it.
func readFile(ctx context.Context, conn *pgx.Conn, o Order) (*File, error) {
	in, err := os.Open(o.Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no such file", o.Path)
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, in)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", o.Path, err)
	}
	f := &File{Name: filepath.Base(o.Path), sha256: sum.Sum(nil)}
	if o.Profile != nil {
		f.profile = o.Profile.Name
	}
	var from, to time.Time
	err = conn.QueryRow(ctx, "SELECT id, name, format, lines, ignored, from_day, to_day FROM reconciliation_files WHERE channel = $1 AND sha256 = $2", o.Channel, f.sha256).
		Scan(&f.id, &f.Name, &f.Format, &f.Lines, &f.Ignored, &from, &to)
	switch {
	case err == nil:
		f.Known, f.From, f.To = true, reconcile.DayOf(from), reconcile.DayOf(to)
		return f, nil
	case !errors.Is(err, pgx.ErrNoRows):
		return nil, fmt.Errorf("look for the file among those imported: %w", err)
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read %s: %w", o.Path, err)
	}
	return f, f.read(&counted{r: in, total: size, progress: o.Progress}, o)
}

func (f *File) read(in io.Reader, o Order) error {
	seen := map[[16]byte]int{}
	s, err := statement.Read(o.Path, in, o.Profile, func(l statement.Line) error {
		sum := identity(&l, 0)
		seen[sum]++
		sum = identity(&l, seen[sum])
		l.ID = string(sum[:])
		f.lines = append(f.lines, l)
		return nil
	})
	if err != nil {
		return err
	}
	f.Format, f.Lines, f.Ignored, f.From, f.To, f.balances = s.Format, s.Lines, s.Ignored, s.From, s.To, s.Balances
	if f.Lines == 0 {
		return fmt.Errorf("%s: it has no line that counts (%d ignored)", o.Path, f.Ignored)
	}
	return nil
}

// identity tells a line from every other of its channel: by what it says, and, of several in one file that say the same,
// by which of them it is. So a line that two overlapping statements have is one line, and one that a statement has twice is two.
func identity(l *statement.Line, which int) [16]byte {
	b := make([]byte, 0, 128)
	for _, n := range [...]int64{int64(which), int64(l.Date), int64(l.ValueDate), l.Amount, l.Fee} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = append(b, l.Currency.Code()...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(l.Reference)))
	b = append(append(b, l.Reference...), l.Text...)
	sum := sha256.Sum256(b)
	var id [16]byte // the day first: what comes together stands together in the index
	binary.BigEndian.PutUint32(id[:], uint32(l.Date))
	copy(id[4:], sum[:])
	return id
}

// counted tells how much of a file has been read.
type counted struct {
	r           io.Reader
	done, total int64
	told        int64
	progress    func(string, int64, int64)
}

// Read reads and tells.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.done += int64(n); c.done-c.told >= tell || c.done == c.total && c.told < c.done {
		c.told = c.done
		c.progress("reading the statement", c.done, c.total)
	}
	return n, err
}

// Row is the open breaks of a channel of one class and currency.
type Row struct {
	Class    string
	Currency string
	Exponent int
	Breaks   int64
	Amount   string // sum of what is at stake, minor units: it may be more than an int64 holds
	Oldest   reconcile.Day
}

// outcome reads where the channel stands.
func (r *run) outcome(conn *pgx.Conn) (Outcome, error) {
	o := Outcome{Channel: r.Channel, Run: r.id, File: *r.file, From: r.From, To: r.To, AsOf: r.AsOf, Imported: r.imported,
		Matches: r.stages, Opened: len(r.opened) + len(r.reopened), Closed: len(r.closed)}
	o.File.lines = nil
	rows, err := conn.Query(r.ctx, `SELECT class, currency, max(exponent)::int, count(*), sum(abs(amount))::text, min(day)
		FROM reconciliation_breaks WHERE channel = $1 AND status = 'open' GROUP BY class, currency ORDER BY class, currency`, r.Channel)
	if err != nil {
		return o, fmt.Errorf("read the open breaks: %w", err)
	}
	o.Open, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Row, error) {
		var x Row
		var oldest time.Time
		err := row.Scan(&x.Class, &x.Currency, &x.Exponent, &x.Breaks, &x.Amount, &oldest)
		x.Oldest = reconcile.DayOf(oldest)
		return x, err
	})
	return o, err
}
