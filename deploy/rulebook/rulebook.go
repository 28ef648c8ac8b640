// Package rulebook keeps the life of rulesets: every version and its audit in Postgres, which is the truth, and what follows
// from it on the control topic that gates listen to. What may happen is decided by rules/life; this package stores and
// publishes.
package rulebook

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"sluice/consumers/stream"
	"sluice/rules"
	"sluice/rules/life"
)

// Limits of one order.
const (
	// orderLimit bounds an order, with the wait for others.
	orderLimit = time.Minute
	// publishLimit bounds reading and writing the control topic; others wait meanwhile.
	publishLimit = 30 * time.Second
)

// House is who acts when no person does: the first ruleset of a new house is published in its name.
const House = "sluice"

// Config says where a rulebook is kept.
type Config struct {
	stream.Config
	Postgres      string // URL; its tables are those of schemas/ledger
	LiveKey       string // key of the live ruleset on the control topic; "": default
	RequireReview bool   // adds to what the rulebook itself says, takes nothing away
}

// Book is a rulebook. Its methods may be called by any number of goroutines and processes at once.
type Book struct{ Config }

// New returns a rulebook. It opens nothing; each method does what it needs.
func New(c Config) *Book {
	if c.LiveKey == "" {
		c.LiveKey = "default"
	}
	c.Config = c.Fill()
	return &Book{c}
}

// Unpublished is the error of an order that is written down, but has not reached Kafka. Reconcile finishes it.
type Unpublished struct{ Err error }

// Error says what is the case and what to do.
func (u *Unpublished) Error() string {
	return fmt.Sprintf("it stands in the rulebook, but Kafka has not taken it (%v); sluice rules status finishes it", u.Err)
}

// Unwrap returns Kafka's error.
func (u *Unpublished) Unwrap() error { return u.Err }

// Submission is a new version.
type Submission struct {
	File     string // for messages
	Source   []byte
	By, Why  string
	Renumber bool // write the next version number into the source instead of refusing another
}

// Submit takes a new version in as a draft. Its number is the one in the file, which must be the next: so a file that was
// made from an older version than the newest is refused instead of undoing what came between, and the bytes under review
// are the bytes of the file. The first version of a name may have any number. Mistakes in the file are rules.Mistakes; a
// refusal is a *life.Refusal.
func (b *Book) Submit(ctx context.Context, s Submission) (life.Version, error) {
	var ref life.Ref
	return b.order(ctx, &ref, func(d *desk) error {
		var err error
		ref, err = d.submit(s)
		return err
	})
}

// Check reads a draft as whoever hands it in should have (rules.Check) and writes down that it has no mistake.
func (b *Book) Check(ctx context.Context, ref life.Ref, by string) (life.Version, error) {
	return b.order(ctx, &ref, func(d *desk) error { return d.check(ref, by) })
}

// Result is the outcome of a run over a version's source.
type Result struct {
	Source []byte            // what was run; nil: the rulebook's own bytes
	Passed bool              // Test only
	Why    string            // may be empty
	Detail map[string]string // figures
}

// Test writes down the outcome of a version's cases; a draft is checked first. A test that failed takes back whatever
// followed an earlier pass.
func (b *Book) Test(ctx context.Context, ref life.Ref, by string, r Result) (life.Version, error) {
	return b.result(ctx, life.Test, ref, by, r)
}

// RecordBacktest writes down the figures of a run over past events.
func (b *Book) RecordBacktest(ctx context.Context, ref life.Ref, by string, r Result) (life.Version, error) {
	return b.result(ctx, life.Backtest, ref, by, r)
}

func (b *Book) result(ctx context.Context, do life.Action, ref life.Ref, by string, r Result) (life.Version, error) {
	return b.order(ctx, &ref, func(d *desk) error {
		o := life.Order{Do: do, Ref: ref, By: by, Why: r.Why, Passed: r.Passed, Detail: r.Detail}
		v := d.book.Versions[ref]
		if r.Source != nil {
			o.Source = life.SourceHash(r.Source)
		} else if v != nil {
			o.Source = v.Source
		}
		if v != nil && v.Status == life.Draft && do == life.Test {
			if err := d.check(ref, by); err != nil {
				return err
			}
		}
		return d.take(o)
	})
}

// Shadow lets a version decide beside the live one, without effect, in the place of another version of its ruleset.
func (b *Book) Shadow(ctx context.Context, ref life.Ref, by, why string) (life.Version, error) {
	return b.published(ctx, &ref, func(d *desk) error {
		if err := d.take(life.Order{Do: life.ToShadow, Ref: ref, By: by, Why: why}); err != nil {
			return err
		}
		return d.loads(ref)
	})
}

// Unshadow ends a version's shadow.
func (b *Book) Unshadow(ctx context.Context, ref life.Ref, by, why string) (life.Version, error) {
	return b.published(ctx, &ref, func(d *desk) error {
		return d.take(life.Order{Do: life.Unshadow, Ref: ref, By: by, Why: why})
	})
}

// Approve is the word of a second person on a tested version.
func (b *Book) Approve(ctx context.Context, ref life.Ref, by, why string) (life.Version, error) {
	return b.order(ctx, &ref, func(d *desk) error {
		return d.take(life.Order{Do: life.Approve, Ref: ref, By: by, Why: why})
	})
}

// Reject ends a version by the word of another person than its author; Withdraw by the author's.
func (b *Book) Reject(ctx context.Context, ref life.Ref, by, why string) (life.Version, error) {
	return b.published(ctx, &ref, func(d *desk) error {
		return d.take(life.Order{Do: life.Reject, Ref: ref, By: by, Why: why})
	})
}

// Withdraw ends a version by its author's word.
func (b *Book) Withdraw(ctx context.Context, ref life.Ref, by, why string) (life.Version, error) {
	return b.published(ctx, &ref, func(d *desk) error {
		return d.take(life.Order{Do: life.Withdraw, Ref: ref, By: by, Why: why})
	})
}

// Promote makes an approved version live on every gate. Over is what the person takes to be live, the zero Ref for nothing:
// if it is not any more, the order is refused, so that of two who promote at once one wins and the other looks again.
func (b *Book) Promote(ctx context.Context, ref, over life.Ref, by, why string) (life.Version, error) {
	return b.published(ctx, &ref, func(d *desk) error {
		if err := d.take(life.Order{Do: life.Promote, Ref: ref, Over: over, By: by, Why: why}); err != nil {
			return err
		}
		return d.loads(ref)
	})
}

// Rollback makes live again, byte for byte, what was live before over was promoted, or the version to if it is not zero.
func (b *Book) Rollback(ctx context.Context, to, over life.Ref, by, why string) (life.Version, error) {
	ref := to
	v, err := b.order(ctx, &ref, func(d *desk) error {
		err := d.take(life.Order{Do: life.Rollback, Ref: to, Over: over, By: by, Why: why})
		ref = d.book.Live
		return err
	})
	if err != nil {
		return v, err
	}
	if _, err := b.reconcile(ctx, ref); err != nil {
		return v, &Unpublished{err}
	}
	return v, nil
}

// Publish makes a source live without test and review, and writes that down. The next version number is written into it if
// it has another. What is live already, byte for byte, is left as it is. It is refused where review is required.
func (b *Book) Publish(ctx context.Context, s Submission) (life.Version, error) {
	s.Renumber = true
	var ref life.Ref
	return b.published(ctx, &ref, func(d *desk) error {
		if v := d.book.Versions[d.book.Live]; v != nil && v.Source == life.SourceHash(s.Source) {
			ref = v.Ref
			return nil
		}
		return d.publish(s, &ref)
	})
}

// Begin makes a house ready: something is live afterwards, and Kafka has what the rulebook says. A rulebook in which
// nothing is live takes over what is on the control topic, else the ruleset that first returns, both unreviewed. Once it
// was begun with RequireReview the rulebook requires review of everybody.
func (b *Book) Begin(ctx context.Context, first func() ([]byte, error)) error {
	began := false
	_, err := b.order(ctx, new(life.Ref), func(d *desk) error {
		if b.RequireReview {
			if _, err := d.tx.Exec(ctx, "UPDATE rulebook SET require_review = true WHERE NOT require_review"); err != nil {
				return fmt.Errorf("make the rulebook require review: %w", err)
			}
		}
		if d.book.Live != (life.Ref{}) {
			return nil
		}
		s, err := b.first(ctx, first)
		if err != nil {
			return err
		}
		began = true
		return d.publish(s, new(life.Ref))
	})
	if err != nil {
		return err
	}
	repaired, err := b.Reconcile(ctx)
	if len(repaired) > 0 && !began {
		b.Log.Info("Kafka lacked what the rulebook says; it is published now", "keys", repaired)
	}
	return err
}

// first is what goes live in a rulebook in which nothing is.
func (b *Book) first(ctx context.Context, first func() ([]byte, error)) (Submission, error) {
	topic, err := b.topic(ctx)
	if err != nil {
		return Submission{}, err
	}
	if found := topic[b.LiveKey]; found != nil {
		s := Submission{File: "the control topic", Source: found, By: House, Why: "found live on the control topic", Renumber: true}
		_, err := rules.Load(s.File, found)
		if err == nil {
			return s, nil
		}
		b.Log.Warn("what is live on the control topic does not load; the first ruleset takes its place", "error", err)
	}
	source, err := first()
	return Submission{File: "--rules", Source: source, By: House, Why: "the first ruleset of this house", Renumber: true}, err
}

// Source returns a version's bytes.
func (b *Book) Source(ctx context.Context, ref life.Ref) ([]byte, error) {
	var source []byte
	err := b.open(ctx, func(d *desk) error {
		var err error
		source, err = d.source(ref)
		return err
	})
	return source, err
}

// Live returns which version is live, the zero Ref for none.
func (b *Book) Live(ctx context.Context) (life.Ref, error) {
	var ref life.Ref
	err := b.open(ctx, func(d *desk) error {
		ref = d.book.Live
		return nil
	})
	return ref, err
}

// order carries out what f orders and returns the version that ref then names.
func (b *Book) order(ctx context.Context, ref *life.Ref, f func(*desk) error) (life.Version, error) {
	var v life.Version
	err := b.open(ctx, func(d *desk) error {
		if err := f(d); err != nil {
			return err
		}
		if at := d.book.Versions[*ref]; at != nil {
			v = *at
		}
		return nil
	})
	return v, err
}

// published is order for what Kafka has to hear of: after the commit, so that gates never decide by what is not written down.
func (b *Book) published(ctx context.Context, ref *life.Ref, f func(*desk) error) (life.Version, error) {
	v, err := b.order(ctx, ref, f)
	if err != nil {
		return v, err
	}
	if _, err := b.Reconcile(ctx); err != nil {
		return v, &Unpublished{err}
	}
	return v, nil
}

// submit takes a source in.
func (d *desk) submit(s Submission) (life.Ref, error) {
	rs, err := rules.Load(s.File, s.Source)
	if err != nil {
		return life.Ref{}, err
	}
	ref := life.Ref{Name: rs.Name, Number: rs.Version}
	if next := d.book.Next(ref.Name); s.Renumber && next != 0 && ref.Number != next {
		if s.Source, err = renumber(s.File, s.Source, next); err != nil {
			return life.Ref{}, err
		}
		ref.Number = next
	}
	d.sources[ref] = s.Source
	return ref, d.take(life.Order{Do: life.Submit, Ref: ref, By: s.By, Why: s.Why, Source: life.SourceHash(s.Source)})
}

func (d *desk) check(ref life.Ref, by string) error {
	if err := d.take(life.Order{Do: life.Check, Ref: ref, By: by}); err != nil {
		return err
	}
	source, err := d.source(ref)
	if err == nil {
		_, err = rules.Check(ref.String(), source)
	}
	return err // a mistake undoes the step
}

// publish submits a source and makes it live by force.
func (d *desk) publish(s Submission, ref *life.Ref) error {
	var err error
	if *ref, err = d.submit(s); err != nil {
		return err
	}
	return d.take(life.Order{Do: life.Publish, Ref: *ref, Over: d.book.Live, By: s.By, Why: s.Why})
}

// loads says whether this program can run a version, as it is asked again when gates are about to: the language may have
// changed since its check.
func (d *desk) loads(ref life.Ref) error {
	source, err := d.source(ref)
	if err != nil {
		return err
	}
	if _, err = rules.Load(ref.String(), source); err != nil {
		return fmt.Errorf("this sluice cannot load %s, so a gate could not either: %w", ref, err)
	}
	return nil
}

// versionLine is the line of a ruleset's number: a key of the file itself begins its line.
var versionLine = regexp.MustCompile(`(?m)^(version:[ \t]*)[0-9]+`)

var errNoVersionLine = errors.New("its version: does not stand on a line of its own, so the number cannot be written in; write it yourself")

// renumber writes a version number into a ruleset and changes nothing else.
func renumber(file string, source []byte, number int) ([]byte, error) {
	at := versionLine.FindSubmatchIndex(source)
	if at == nil {
		return nil, fmt.Errorf("%s: %w: version: %d", file, errNoVersionLine, number)
	}
	out := append([]byte(nil), source[:at[3]]...)
	out = append(strconv.AppendInt(out, int64(number), 10), source[at[1]:]...)
	if rs, err := rules.Load(file, out); err != nil || rs.Version != number {
		return nil, fmt.Errorf("%s: %w: version: %d", file, errNoVersionLine, number)
	}
	return out, nil
}
