package poster

import (
	"context"
	"fmt"
	"time"
)

// month is a month of UTC, counted from the year 0. Transfers stand in a partition of it.
type month int

func monthOf(at time.Time) month {
	at = at.UTC()
	return month(12*at.Year() + int(at.Month()) - 1)
}

// sqlOpenMonths refuses to open more than the book may have; see schemas/ledger.
const sqlOpenMonths = `SELECT open_transfer_months($1)`

// openMonths opens the months in which the batch's transfers stand, where the session has not seen them open, and returns
// those: known they are once the batch is committed. It waits for no poster that waits for this one: accounts are locked
// before, and what is inserted comes after.
func (s *session) openMonths(ctx context.Context, b *batch) ([]month, error) {
	var unknown []month
	var times []time.Time
	seen := map[month]bool{}
	posted := b.book.Posted()
	for i := range posted {
		m := monthOf(posted[i].Time)
		if s.months[m] || seen[m] {
			continue
		}
		seen[m] = true
		unknown, times = append(unknown, m), append(times, posted[i].Time)
	}
	if len(unknown) == 0 {
		return nil, nil
	}
	if _, err := s.conn.Exec(ctx, sqlOpenMonths, times); err != nil {
		return nil, fmt.Errorf("open the months of a batch's transfers: %w", err)
	}
	return unknown, nil
}
