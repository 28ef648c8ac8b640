package house

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"sluice/deploy/config"
	"sluice/deploy/settlement"
	"sluice/pipelines/reconcile"
	"sluice/pipelines/routing"
	terms "sluice/pipelines/settlement"
	"sluice/producers/channel"
)

// answerLimit bounds the wait for the book to post what settlement has ordered, before payout files are made.
const answerLimit = 30 * time.Second

// SettlementTerms reads the terms of a file, or the shipped ones for "".
func SettlementTerms(file string) (*terms.Terms, error) {
	if file == "" {
		return terms.Standard(), nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("--settlement %s: there is no such file", file)
	}
	if err != nil {
		return nil, err
	}
	return terms.Parse(file, text)
}

// WithSettlement does something with the settlement of a house: of a given Postgres, or of the one running on the data folder.
func WithSettlement(ctx context.Context, c config.Config, log *slog.Logger, do func(*settlement.Store) error) error {
	return withSettlement(ctx, c, Postgres, log, func(_ *House, s *settlement.Store) error { return do(s) })
}

func withSettlement(ctx context.Context, c config.Config, needs Engine, log *slog.Logger, do func(*House, *settlement.Store) error) error {
	agreed, err := SettlementTerms(c.Settlement)
	if err != nil {
		return err
	}
	h, err := Open(ctx, c, Options{Needs: needs, Attach: true, Log: log})
	if err != nil {
		return err
	}
	defer h.CloseQuietly()
	return do(h, &settlement.Store{Postgres: h.Addresses.Postgres, Terms: agreed})
}

// SettleOptions says what to settle.
type SettleOptions struct {
	CutOff   time.Time // business day; zero: the last whose cut-off the book has passed
	NewTerms bool      // although the batches so far were made by terms of another name
	Anyway   bool
	Folder   string // for payout files; "": none
	Out      io.Writer
	Progress func(stage string, done, total int64)
	Log      *slog.Logger
}

// Settle makes the batches of a cut-off, publishes the payments they order, and writes the payout files of what the book has posted.
func Settle(ctx context.Context, c config.Config, o SettleOptions) error {
	return withSettlement(ctx, c, Kafka|Postgres, o.Log, func(h *House, s *settlement.Store) error {
		s.Progress = o.Progress
		order := settlement.Options{Anyway: o.Anyway, Terms: o.NewTerms}
		if !o.CutOff.IsZero() {
			order.Until = reconcile.DayOf(o.CutOff)
		}
		live, err := h.LiveChannels(ctx)
		if err != nil {
			return err
		}
		if live != nil {
			order.Channels = live.Table
		}
		out, err := s.Settle(ctx, order)
		if err != nil {
			return err
		}
		published, err := h.publishOrders(ctx, s)
		if err != nil {
			return err
		}
		if err := out.Print(o.Out, published); err != nil {
			return err
		}
		open, err := awaitOrders(ctx, s)
		if err == nil && open > 0 {
			fmt.Fprintf(o.Out, "%d payouts wait for the gate and the book; whether they are declined is told by the next run, and they go into a file of the next run with --out\n", open)
		}
		if err == nil && o.Folder != "" {
			err = payoutFiles(ctx, s, o)
		}
		return errors.Join(err, tellRefused(ctx, s, o.Out, out.Before))
	})
}

// awaitOrders waits some time for the book to answer what was ordered; it returns how many payouts it has not answered.
func awaitOrders(ctx context.Context, s *settlement.Store) (open int64, err error) {
	waiting, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	open, err = s.Await(waiting)
	if ctx.Err() == nil && waiting.Err() != nil {
		err = nil
	}
	return open, err
}

// tellRefused prints which orders were refused. That the gate declined some is an error: they are the house's own, so it most
// likely lacks a payment channel for them, or has a rule that was not meant for them.
func tellRefused(ctx context.Context, s *settlement.Store, w io.Writer, before int64) error {
	refused, err := s.Refused(ctx, before)
	if err != nil {
		return err
	}
	declined, err := settlement.PrintRefused(w, refused)
	if err == nil && declined > 0 {
		err = fmt.Errorf("%d orders of this or the last batch were declined, and merchants are not paid: `sluice explain` of one says why; %s is that no payment channel carries it (sluice channels show), other reasons are of rules",
			declined, routing.NoRoute)
	}
	return err
}

// publishOrders publishes what settlement has ordered and is not published yet.
func (h *House) publishOrders(ctx context.Context, s *settlement.Store) (published int, err error) {
	p, err := channel.New(channel.Config{Config: h.Stream("settlement"), Source: terms.Source})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	return s.Publish(ctx, p)
}

// payoutFiles writes the files of what the book has posted.
func payoutFiles(ctx context.Context, s *settlement.Store, o SettleOptions) error {
	made, err := s.MakeFiles(ctx)
	if err != nil {
		return err
	}
	filed, err := s.WriteFiles(ctx, o.Folder, 0)
	for _, path := range filed.Paths {
		fmt.Fprintln(o.Out, path)
	}
	if err != nil {
		return err
	}
	if n := len(made.Lacking); n > 0 {
		fmt.Fprintf(o.Out, "payouts to %d merchants wait: the terms name no account for %s; write merchants: {NAME: {payout: {account: IBAN}}}\n", n,
			settlement.List(made.Lacking))
	}
	return nil
}

// Receive notes that a payment channel has paid what a batch said it owed, and has the book show it.
func Receive(ctx context.Context, c config.Config, r settlement.Receipt, log *slog.Logger) (seen settlement.Receival, err error) {
	err = withSettlement(ctx, c, Kafka|Postgres, log, func(h *House, s *settlement.Store) error {
		if seen, err = s.Received(ctx, r); err != nil {
			return err
		}
		_, err = h.publishOrders(ctx, s)
		return err
	})
	return seen, err
}
