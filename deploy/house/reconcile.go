package house

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"sluice/deploy/config"
	"sluice/deploy/reconciliation"
	"sluice/pipelines/reconcile"
	"sluice/pipelines/reconcile/statement"
)

// ReconcileOptions says what to reconcile.
type ReconcileOptions struct {
	Channel, File string
	Profile       string    // file of a statement.Profile; "": none
	From, To      time.Time // days; zero: the statement's
	By            string
	Progress      func(stage string, done, total int64)
	Log           *slog.Logger
}

// Today is the day to which ages are counted: UTC, as the database's view has it.
func Today() reconcile.Day { return reconcile.DayOf(time.Now().UTC()) }

// WithReconciliation does something with the reconciliation of a house: of a given Postgres, or of the one running on the
// data folder.
func WithReconciliation(ctx context.Context, c config.Config, log *slog.Logger, do func(*reconciliation.Store) error) error {
	h, err := Open(ctx, c, Options{Needs: Postgres, Attach: true, Log: log})
	if err != nil {
		return err
	}
	defer h.CloseQuietly()
	return do(&reconciliation.Store{Postgres: h.Addresses.Postgres})
}

// Reconcile matches a channel's statement with the book.
func Reconcile(ctx context.Context, c config.Config, o ReconcileOptions) (reconciliation.Outcome, error) {
	var out reconciliation.Outcome
	order := reconciliation.Order{Channel: o.Channel, Path: o.File, AsOf: Today(), By: o.By, Progress: o.Progress}
	for _, d := range []struct {
		from time.Time
		to   *reconcile.Day
	}{{o.From, &order.From}, {o.To, &order.To}} {
		if !d.from.IsZero() {
			*d.to = reconcile.DayOf(d.from)
		}
	}
	if o.Profile != "" {
		text, err := os.ReadFile(o.Profile)
		if errors.Is(err, os.ErrNotExist) {
			return out, fmt.Errorf("--profile %s: there is no such file", o.Profile)
		}
		if err != nil {
			return out, err
		}
		if order.Profile, err = statement.ParseProfile(o.Profile, text); err != nil {
			return out, err
		}
	}
	err := WithReconciliation(ctx, c, o.Log, func(s *reconciliation.Store) error {
		var err error
		out, err = s.Reconcile(ctx, order)
		return err
	})
	return out, err
}
