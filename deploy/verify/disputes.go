package verify

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"sluice/pipelines/ledger"
	"sluice/pipelines/payments"
	"sluice/schemas/events"
)

// disputesAddUp proves that the accounts on which money is kept have what the open disputes say.
func disputesAddUp(ctx context.Context, tx pgx.Tx) (Row, error) {
	f := finding{promise: "kept = what open disputes keep"}
	kept := map[ledger.AccountKey]int64{}
	rows, err := tx.Query(ctx, `
		SELECT id, purpose, currency, customer_id, merchant_id, counterparty_id, amount, captured, refunded, charged_back, reversed, extra
		FROM payments WHERE status = 'disputed'`)
	if err != nil {
		return Row{}, err
	}
	var p payments.Payment
	var purpose, currency string
	var extra []byte
	if _, err = pgx.ForEachRow(rows, []any{&p.ID, &purpose, &currency, &p.Customer, &p.Merchant, &p.Counterparty, &p.Amount, &p.Captured, &p.Refunded, &p.ChargedBack, &p.Reversed, &extra}, func() error {
		f.checked++
		var err error
		if p.Extra, err = payments.UnmarshalExtra(extra); err != nil {
			return fmt.Errorf("payment %s: %w", p.ID, err)
		}
		p.Purpose, _ = payments.ParsePurpose(purpose)
		p.Currency, _ = events.ParseCurrency(currency)
		for key, amount := range p.Kept() {
			kept[key] += amount
		}
		return nil
	}); err != nil {
		return Row{}, err
	}
	if rows, err = tx.Query(ctx, "SELECT key, balance FROM accounts WHERE type IN ('disputed', 'frozen')"); err != nil {
		return Row{}, err
	}
	var key string
	var balance int64
	if _, err = pgx.ForEachRow(rows, []any{&key, &balance}, func() error {
		if want := kept[ledger.AccountKey(key)]; balance != want {
			f.breach("%s has %d, but the open disputes keep %d (minor units)", key, balance, want)
		}
		delete(kept, ledger.AccountKey(key))
		return nil
	}); err != nil {
		return Row{}, err
	}
	for key, want := range kept {
		f.breach("%s does not exist, but open disputes keep %d on it (minor units)", key, want)
	}
	return f.row("%s open disputes", thousands(f.checked)), nil
}
