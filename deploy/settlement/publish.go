package settlement

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pipelines/payments"
	"sluice/pipelines/settlement"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// sendChunk is how many orders are under way before they are marked as published.
const sendChunk = 5000

// Publisher publishes events; producers/channel has one.
type Publisher interface {
	PublishAsync(ctx context.Context, e *events.Event, done func(error)) error
	Flush(ctx context.Context) error
}

// Publish publishes the payments that batches have ordered and that are not known to be published, in order. One that was
// published and could not be marked is published again: it is the same event, which the gate and the book count once.
func (s *Store) Publish(ctx context.Context, p Publisher) (published int, err error) {
	err = s.alone(ctx, func(conn *pgx.Conn) error {
		var total int64
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM settlement_orders WHERE NOT published").Scan(&total); err != nil {
			return fmt.Errorf("read the orders: %w", err)
		}
		for {
			n, err := s.publishChunk(ctx, conn, p)
			if published += n; err != nil || n == 0 {
				return err
			}
			s.progress("publishing payments", int64(published), total)
		}
	})
	return published, err
}

func (s *Store) publishChunk(ctx context.Context, conn *pgx.Conn, p Publisher) (int, error) {
	rows, err := conn.Query(ctx, `SELECT number, id, purpose, party, currency, amount, event_time, method, payment_channel
		FROM settlement_orders WHERE NOT published ORDER BY number LIMIT $1`, sendChunk)
	if err != nil {
		return 0, fmt.Errorf("read the orders: %w", err)
	}
	var numbers []int64
	orders, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o settlement.Order, err error) {
		var number int64
		var purpose, currency, method string
		if err := row.Scan(&number, &o.ID, &purpose, &o.Party, &currency, &o.Amount, &o.At, &method, &o.Channel); err != nil {
			return o, err
		}
		var ok [3]bool
		o.Purpose, ok[0] = payments.ParsePurpose(purpose)
		o.Currency, ok[1] = events.ParseCurrency(currency)
		o.Method, ok[2] = payments.ParseMethod(method)
		if ok != [3]bool{true, true, true} {
			return o, fmt.Errorf("the order %s has the unknown word %q, %q or %q: run a newer sluice", o.ID, purpose, currency, method)
		}
		o.At = o.At.UTC()
		numbers = append(numbers, number)
		return o, nil
	})
	if err != nil || len(orders) == 0 {
		return 0, err
	}
	var mu sync.Mutex
	var failed error
	for i := range orders {
		e := orders[i].Event()
		if err := p.PublishAsync(ctx, &e, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
		}); err != nil {
			return 0, err
		}
	}
	if err := p.Flush(ctx); err != nil {
		return 0, err
	}
	mu.Lock()
	defer mu.Unlock()
	if failed != nil {
		return 0, failed
	}
	if err := s.at("published"); err != nil {
		return 0, err
	}
	if _, err := conn.Exec(ctx, "UPDATE settlement_orders SET published = true WHERE number = ANY ($1)", numbers); err != nil {
		return 0, fmt.Errorf("note what was published: %w", err)
	}
	return len(orders), nil
}

// waitPause is how often the book is asked whether it has answered.
const waitPause = 100 * time.Millisecond

// Await waits until the book has answered every payment ordered so far whose answer is not known, or until ctx ends. It
// returns how many it has not answered.
func (s *Store) Await(ctx context.Context) (open int64, err error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for {
		if err := conn.QueryRow(ctx, `SELECT count(*) FROM settlement_orders o WHERE o.purpose = 'payout' AND o.file IS NULL AND o.returned IS NULL
			AND NOT EXISTS (SELECT FROM payments p WHERE p.id = o.id)`).Scan(&open); err != nil || open == 0 {
			return open, err
		}
		select {
		case <-ctx.Done():
			return open, nil
		case <-time.After(waitPause):
		}
	}
}

const (
	clearing = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_CLEARING
	// endOfDay in minutes.
	endOfDay = 24 * 60
)
