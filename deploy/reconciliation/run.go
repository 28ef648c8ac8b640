package reconciliation

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pipelines/reconcile"
	"sluice/schemas/events"
)

// run is one reconciliation, in one transaction.
type run struct {
	Order
	ctx  context.Context
	tx   pgx.Tx
	file *File

	id       int64
	imported int
	sides    map[events.Currency]*sides
	known    map[identityOfBreak]*knownBreak
	byLine   map[int64][]*knownBreak // open or resolved ones, by the statement's line
	byMove   map[int64][]*knownBreak // and by transfer

	matches  []match
	stages   map[reconcile.Stage]int
	opened   []foundBreak
	reopened []*knownBreak
	closed   []ending
	noted    []ending // resolved ones whose counterpart came: they stay resolved
}

// sides are the lines of one currency, with their numbers in the database.
type sides struct {
	here, there  []reconcile.Line
	moves, lines []int64 // transfers.id and reconciliation_lines.id
}

// identityOfBreak is what makes a break one; 0 for no line.
type identityOfBreak struct {
	class    string
	line     int64
	transfer int64
}

type knownBreak struct {
	identityOfBreak
	id     int64
	status string
	ended  bool // by this run
}

// ending is the end of a break, and why.
type ending struct {
	of  *knownBreak
	why string
}

// match is a match by numbers of the database.
type match struct {
	stage        reconcile.Stage
	lines, moves []int64
}

type foundBreak struct {
	identityOfBreak
	twin      int64
	amount    int64
	day       reconcile.Day
	currency  events.Currency
	reference string
}

// The words for a break's status.
const (
	statusOpen     = "open"
	statusResolved = "resolved"
	statusClosed   = "closed"
)

// fillPeriod says which days are reconciled.
func (r *run) fillPeriod() error {
	if r.From == 0 {
		r.From = r.file.From
	}
	if r.To == 0 {
		r.To = r.file.To
	}
	if r.From > r.To {
		return fmt.Errorf("the period from %s to %s has no day; the statement has %s to %s", r.From, r.To, r.file.From, r.file.To)
	}
	return nil
}

func (r *run) all() error {
	// Two runs of a channel would both match what is open.
	if _, err := r.tx.Exec(r.ctx, "SELECT pg_advisory_xact_lock(hashtextextended('sluice reconciliation ' || current_schema() || ' ' || $1, 0))", r.Channel); err != nil {
		return fmt.Errorf("wait for other runs: %w", err)
	}
	for _, step := range []func() error{r.importFile, r.loadBreaks, r.loadLines, r.loadBook, r.loadMatched, r.match, r.write} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// match compares the two sides, currency by currency: tolerances are in minor units.
func (r *run) match() error {
	r.stages = map[reconcile.Stage]int{}
	var done, total int64
	for _, s := range r.sides {
		total += int64(len(s.here) + len(s.there))
	}
	for c, s := range r.sides {
		r.Progress("matching", done, total)
		o, err := r.Profile.Options(c)
		if err != nil {
			return err
		}
		o.From, o.To = r.From, r.To
		r.take(s, reconcile.Run(s.here, s.there, o))
		done += int64(len(s.here) + len(s.there))
	}
	r.Progress("matching", total, total)
	return nil
}

// take turns a result into what has to be written.
func (r *run) take(s *sides, result reconcile.Result) {
	for i := range result.Matches {
		m := &result.Matches[i]
		r.stages[m.Stage]++
		of := match{stage: m.Stage, lines: numbers(s.lines, m.There), moves: numbers(s.moves, m.Here)}
		r.matches = append(r.matches, of)
		why := "matched by itself, " + m.Stage.String() + ": " + s.reference(m.Here, m.There)
		r.end(of.lines, of.moves, nil, why)
	}
	for i := range result.Breaks {
		r.takeBreak(s, &result.Breaks[i])
	}
}

func numbers(of []int64, at []int32) []int64 {
	n := make([]int64, len(at))
	for k, i := range at {
		n[k] = of[i]
	}
	return n
}

// reference is what a match is told by: the book's, or the statement's.
func (s *sides) reference(here, there []int32) string {
	for _, x := range []struct {
		lines []reconcile.Line
		at    []int32
	}{{s.here, here}, {s.there, there}} {
		for _, i := range x.at {
			if x.lines[i].Reference != "" {
				return x.lines[i].Reference
			}
		}
	}
	return ""
}

func (r *run) takeBreak(s *sides, b *reconcile.Break) {
	f := foundBreak{amount: b.Amount, day: b.Date, currency: b.Currency}
	f.class = b.Class.String()
	var lines, moves []int64
	var here, there []int32
	if b.There != reconcile.None {
		f.line, there = s.lines[b.There], []int32{b.There}
		lines = append(lines, f.line)
	}
	if b.Here != reconcile.None {
		f.transfer, here = s.moves[b.Here], []int32{b.Here}
		moves = append(moves, f.transfer)
	}
	if b.Twin != reconcile.None && b.Here != reconcile.None {
		f.twin = s.moves[b.Twin]
	} else if b.Twin != reconcile.None {
		f.twin = s.lines[b.Twin]
	}
	f.reference = s.reference(here, there)
	if r.stays(&f, b.Class) {
		return
	}
	k := r.known[f.identityOfBreak]
	switch {
	case k == nil:
		r.opened = append(r.opened, f)
	case k.status == statusClosed && !k.ended:
		r.reopened = append(r.reopened, k)
	}
	r.end(lines, moves, k, "a break of class "+f.class+" now: "+f.reference)
}

// stays says whether a line that would be missing is a known duplicate: its twin may not have been loaded.
func (r *run) stays(f *foundBreak, class reconcile.Class) bool {
	if class != reconcile.MissingHere && class != reconcile.MissingThere {
		return false
	}
	for _, k := range slices.Concat(r.byLine[f.line], r.byMove[f.transfer]) {
		if k.class == reconcile.Duplicate.String() && !k.ended {
			return true
		}
	}
	return false
}

// end closes the open breaks of lines, but for one; a resolved one is noted.
func (r *run) end(lines, moves []int64, except *knownBreak, why string) {
	one := func(known []*knownBreak) {
		for _, k := range known {
			switch {
			case k == except || k.ended:
			case k.status == statusOpen:
				k.ended = true
				r.closed = append(r.closed, ending{k, why})
			case k.status == statusResolved && except == nil && len(lines) > 0 && len(moves) > 0:
				k.ended = true
				r.noted = append(r.noted, ending{k, "its counterpart came after it was resolved, " + why + "; see whether the resolution still holds"})
			}
		}
	}
	for _, l := range lines {
		one(r.byLine[l])
	}
	for _, m := range moves {
		one(r.byMove[m])
	}
}

// bookID is the id of a transfer as a line: in the order of its number.
func bookID(transfer int64) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(transfer)))
}

// midnight is when a day begins in the channel's time zone.
func (r *run) midnight(d reconcile.Day) time.Time {
	y, m, day := d.Time().Date()
	return time.Date(y, m, day, 0, 0, 0, 0, r.Profile.Location())
}
