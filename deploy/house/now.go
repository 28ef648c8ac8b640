package house

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Now is the house's time: the newest event time that the book has answered, or, of a book that has answered nothing, the wall
// clock's. Time comes from events: what is published later than this moves the clock by which holds run out and payments are late.
func (h *House) Now(ctx context.Context) (time.Time, error) {
	var newest *time.Time
	err := h.withPostgres(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT max(clock) FROM shards WHERE sequence > 0").Scan(&newest)
	})
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("read the clock of the book: %w", err)
	case newest == nil:
		return time.Now().UTC(), nil
	}
	return newest.UTC(), nil
}
