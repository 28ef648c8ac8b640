package reconciliation

import (
	"fmt"

	"github.com/jackc/pgx/v5"
)

// write writes what the run has found. A run that has found nothing new leaves no trace.
func (r *run) write() error {
	if r.file.Known && r.imported+len(r.matches)+len(r.opened)+len(r.reopened)+len(r.closed)+len(r.noted) == 0 {
		return nil
	}
	if err := r.tx.QueryRow(r.ctx, `INSERT INTO reconciliation_runs (channel, file, from_day, to_day, imported, matched, opened, closed, ran_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id`, r.Channel, r.file.id, r.From.Time(), r.To.Time(), r.imported, len(r.matches),
		len(r.opened)+len(r.reopened), len(r.closed), r.By).Scan(&r.id); err != nil {
		return fmt.Errorf("write the run: %w", err)
	}
	for _, step := range []func() error{r.writeMatches, r.writeBreaks, r.writeSteps} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) writeMatches() error {
	m, k := 0, 0 // match, and row of it
	_, err := r.tx.CopyFrom(r.ctx, pgx.Identifier{"reconciliation_matches"}, []string{"run", "match", "channel", "stage", "line", "transfer"},
		pgx.CopyFromFunc(func() ([]any, error) {
			for m < len(r.matches) && k == max(len(r.matches[m].lines), len(r.matches[m].moves)) {
				m, k = m+1, 0
				if m%tell == 0 || m == len(r.matches) {
					r.Progress("writing the matches", int64(m), int64(len(r.matches)))
				}
			}
			if m == len(r.matches) {
				return nil, nil
			}
			x := &r.matches[m]
			row := []any{r.id, int32(m + 1), r.Channel, x.stage.String(), at(x.lines, k), at(x.moves, k)}
			k++
			return row, nil
		}))
	if err != nil {
		return fmt.Errorf("write the matches: %w", err)
	}
	return nil
}

// at returns the kth number, nil where there is none.
func at(numbers []int64, k int) any {
	if k < len(numbers) {
		return numbers[k]
	}
	return nil
}

func (r *run) writeBreaks() error {
	_, err := r.tx.CopyFrom(r.ctx, pgx.Identifier{"reconciliation_breaks"},
		[]string{"run", "channel", "class", "line", "transfer", "twin", "amount", "day", "currency", "exponent", "reference", "status"},
		pgx.CopyFromSlice(len(r.opened), func(i int) ([]any, error) {
			b := &r.opened[i]
			return []any{r.id, r.Channel, b.class, orNone(b.line), orNone(b.transfer), orNone(b.twin), b.amount, b.day.Time(), b.currency.Code(), int16(b.currency.Exponent()),
				b.reference, statusOpen}, nil
		}))
	if err != nil {
		return fmt.Errorf("write the breaks: %w", err)
	}
	return nil
}

func orNone(number int64) any {
	if number == 0 {
		return nil
	}
	return number
}

// writeSteps writes what has happened to known breaks, and where they stand then.
func (r *run) writeSteps() error {
	var breaks []int64
	var actions, reasons []string
	add := func(k *knownBreak, action, why string) {
		breaks, actions, reasons = append(breaks, k.id), append(actions, action), append(reasons, why)
	}
	for _, e := range r.closed {
		add(e.of, statusClosed, e.why)
	}
	for _, e := range r.noted {
		add(e.of, statusResolved, e.why)
	}
	for _, k := range r.reopened {
		add(k, "reopened", "found again")
	}
	if len(breaks) == 0 {
		return nil
	}
	_, err := r.tx.Exec(r.ctx, `INSERT INTO reconciliation_resolutions (break, number, action, who, why, entry)
		SELECT s.break, 1 + (SELECT count(*) FROM reconciliation_resolutions x WHERE x.break = s.break), s.action, $4, s.why, ''
		FROM unnest($1::bigint[], $2::text[], $3::text[]) AS s (break, action, why)`, breaks, actions, reasons, r.By)
	if err == nil {
		_, err = r.tx.Exec(r.ctx, `UPDATE reconciliation_breaks b SET status = CASE s.action WHEN 'reopened' THEN 'open' ELSE s.action END
			FROM unnest($1::bigint[], $2::text[]) AS s (break, action) WHERE b.id = s.break`, breaks, actions)
	}
	if err != nil {
		return fmt.Errorf("write what became of the breaks: %w", err)
	}
	return nil
}
