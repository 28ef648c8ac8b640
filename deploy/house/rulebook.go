package house

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"sluice/deploy/config"
	"sluice/deploy/rulebook"
	"sluice/rules"
	"sluice/rules/life"
)

// Rulebook returns the house's rulebook.
func (h *House) Rulebook() *rulebook.Book {
	return rulebook.New(rulebook.Config{Config: h.Stream("rulebook"), Postgres: h.Addresses.Postgres, LiveKey: liveRuleset, RequireReview: h.Config.RequireReview})
}

// prepareRules makes sure that a ruleset is live. A process without Postgres cannot see the rulebook: it publishes the
// first ruleset by itself, unless that takes a review, and the next process with Postgres takes it into the rulebook.
func (h *House) prepareRules(ctx context.Context, withBook bool) error {
	if !withBook {
		if h.Config.RequireReview {
			return nil
		}
		return h.publishFirstRuleset(ctx)
	}
	err := h.Rulebook().Begin(ctx, func() ([]byte, error) { return LoadRuleset(h.Config.Rules) })
	if r := new(life.Refusal); errors.As(err, &r) && r.Code == life.BrokenAudit {
		h.Log.Error("the rulebook was tampered with; gates go on with what they have", "error", err)
		return nil
	}
	return err
}

// WithRulebook does something with the rulebook of a house: of given engines, or of those running on the data folder.
func WithRulebook(ctx context.Context, c config.Config, log *slog.Logger, do func(*rulebook.Book) error) error {
	h, err := Open(ctx, c, Options{Needs: Kafka | Postgres, Attach: true, Log: log})
	if err != nil {
		return err
	}
	defer h.CloseQuietly()
	return do(h.Rulebook())
}

// SubmitRuleset takes a file without mistakes into the rulebook; one with mistakes uses up no number.
func SubmitRuleset(ctx context.Context, b *rulebook.Book, s rulebook.Submission) (life.Version, error) {
	var err error
	if s.Source, err = LoadRuleset(s.File); err != nil {
		return life.Version{}, err
	}
	v, err := b.Submit(ctx, s)
	if err != nil {
		return v, err
	}
	return b.Check(ctx, v.Ref, s.By)
}

// PublishUnreviewed makes a file live by the short way, and says that it was one.
func PublishUnreviewed(ctx context.Context, b *rulebook.Book, s rulebook.Submission, out io.Writer) error {
	var err error
	if s.Source, err = LoadRuleset(s.File); err != nil {
		return err
	}
	rs, err := rules.Load(s.File, s.Source)
	if err != nil {
		return err
	}
	v, err := b.Publish(ctx, s)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is live as %s; every gate decides by it from its next transaction on\n", s.File, v.Ref)
	if rs.Version != v.Number {
		fmt.Fprintf(out, "the file says version: %d; the rulebook has written %d\n", rs.Version, v.Number)
	}
	if v.Unreviewed {
		fmt.Fprintln(out, "nobody has reviewed it, and the audit says so; the reviewed way begins with: sluice rules submit FILE --why …")
	}
	return nil
}

// RulesetText returns the bytes of a version in the rulebook ("fraud@3"), of what is live ("live"), of a shipped pack or of
// a file.
func RulesetText(ctx context.Context, b *rulebook.Book, name string) ([]byte, error) {
	if name == "live" {
		live, err := b.Live(ctx)
		if err != nil {
			return nil, err
		}
		return b.Source(ctx, live)
	}
	if ref, err := life.ParseRef(name); err == nil {
		return b.Source(ctx, ref)
	}
	return LoadRuleset(name)
}
