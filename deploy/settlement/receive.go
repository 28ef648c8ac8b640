package settlement

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pipelines/payments"
	"sluice/pipelines/settlement"
	"sluice/schemas/events"
)

// Receipt says that a payment channel has paid what a batch said it owed.
type Receipt struct {
	Batch  int64
	Amount int64     // minor units; 0: what was expected
	Major  string    // or in major units; "": as Amount
	At     time.Time // when; zero: the end of the value date in the channel's time zone
	Anyway bool      // although the amount is not about what was expected
}

// tolerated is the share of what was expected, as its inverse, by which an amount may differ without a question: one percent. More is
// hardly a fee: it is another batch's money, or a slip of the hand.
const tolerated = 100

// Receival is what became of a receipt.
type Receival struct {
	settlement.Order
	Known    bool  // it was said before; nothing has changed
	Expected int64 // minor units; 0 where Known
}

// Print says it to a person.
func (r *Receival) Print(w io.Writer) error {
	what := events.FormatAmount(r.Amount, r.Currency) + " " + r.Currency.Code()
	if r.Known {
		_, err := fmt.Fprintf(w, "%s: that %s came was known already, by the payment %s; nothing changes\n", r.Party, what, r.ID)
		return err
	}
	difference := ""
	switch less := r.Expected - r.Amount; {
	case less > 0:
		difference = fmt.Sprintf(", %s less than expected", events.FormatAmount(less, r.Currency))
	case less < 0:
		difference = fmt.Sprintf(", %s more than expected", events.FormatAmount(-less, r.Currency))
	}
	_, err := fmt.Fprintf(w, "%s: %s came%s; the payment %s is published\n", r.Party, what, difference, r.ID)
	return err
}

// Received orders the clearing payment of a channel's batch: its money was seen at the bank. Expected is what is due, less what the house owes
// the channel by earlier batches. Said twice it changes nothing; another amount than the one said before is refused, and so is one that is not
// about what was expected, unless it is meant.
func (s *Store) Received(ctx context.Context, r Receipt) (out Receival, err error) {
	err = s.alone(ctx, func(conn *pgx.Conn) error {
		b, err := readBatch(ctx, conn, r.Batch)
		if err != nil {
			return err
		}
		if b.Kind != "channel" {
			return fmt.Errorf("batch %d is a merchant's: only payment channels pay the house", r.Batch)
		}
		currency, _ := events.ParseCurrency(b.Currency)
		if r.Major != "" {
			if r.Amount, err = events.ParseAmount(r.Major, currency); err != nil {
				return fmt.Errorf("--amount %q: %w", r.Major, err)
			}
		}
		out.Order = settlement.Order{ID: settlement.OrderID(b.Day, b.Party, currency, clearing), Purpose: clearing, Party: b.Party, Currency: currency,
			Channel: b.Party, Method: s.Terms.Merchant.Method}
		if out.Known, err = r.known(ctx, conn, &out.Order); err != nil || out.Known {
			return err
		}
		before, err := owed(ctx, conn, &b)
		if err != nil {
			return err
		}
		out.Expected = b.Due + before
		if err := r.plausible(&b, currency, out.Expected); err != nil {
			return err
		}
		if out.Amount = r.Amount; out.Amount == 0 {
			out.Amount = out.Expected
		}
		if out.At = r.At.UTC(); r.At.IsZero() {
			out.At = s.Terms.OfChannel(b.Party).CutOffs.Moment(b.ValueDate, endOfDay).UTC()
		}
		if out.At.After(time.Now()) { // the gate would refuse it, and it could not be taken back
			return fmt.Errorf("batch %d: %s is not over; say when the money came with --on DATE", r.Batch, day(out.At.Add(-time.Nanosecond)))
		}
		o := &out.Order
		if _, err := conn.Exec(ctx, `INSERT INTO settlement_orders (batch, amount, event_time, value_date, id, purpose, party, currency, method, payment_channel)
			VALUES ($1, $2, $3, $4, $5, 'clearing', $6, $7, $8, $6)`,
			r.Batch, o.Amount, o.At, b.ValueDate.Time(), o.ID, o.Party, b.Currency, payments.MethodName(o.Method)); err != nil {
			return fmt.Errorf("write the order: %w", err)
		}
		return nil
	})
	return out, err
}

// known fills in an order that was made before; another amount than it has is refused.
func (r *Receipt) known(ctx context.Context, conn *pgx.Conn, o *settlement.Order) (bool, error) {
	err := conn.QueryRow(ctx, "SELECT amount, event_time FROM settlement_orders WHERE id = $1", o.ID).Scan(&o.Amount, &o.At)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the order: %w", err)
	}
	if o.At = o.At.UTC(); r.Amount != 0 && r.Amount != o.Amount {
		return true, fmt.Errorf("batch %d: %s %s were received already, not %s: the difference is for the reconciliation", r.Batch,
			events.FormatAmount(o.Amount, o.Currency), o.Currency.Code(), events.FormatAmount(r.Amount, o.Currency))
	}
	return true, nil
}

// plausible refuses an amount that is not about what was expected.
func (r *Receipt) plausible(b *Row, currency events.Currency, expected int64) error {
	switch {
	case r.Amount < 0 || r.Amount == 0 && r.Major != "":
		return fmt.Errorf("batch %d: an amount that came is greater than zero", r.Batch)
	case r.Amount == 0 && expected <= 0:
		return fmt.Errorf("batch %d: %s owes nothing: what the house owes it is taken off its payment for a later batch; give the amount that came with --amount", r.Batch, b.Party)
	case r.Amount == 0 || r.Anyway:
		return nil
	}
	difference := max(r.Amount, expected) - min(r.Amount, expected)
	if difference <= max(expected, 0)/tolerated {
		return nil
	}
	return fmt.Errorf("batch %d: %s %s came, %s were expected: they differ by %s, more than one percent, and the batch would be off the list of what is due; give --anyway if it is meant",
		r.Batch, events.FormatAmount(r.Amount, currency), b.Currency, events.FormatAmount(expected, currency), events.FormatAmount(difference, currency))
}
