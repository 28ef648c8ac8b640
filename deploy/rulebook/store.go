package rulebook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/rules/life"
)

// desk is a rulebook opened for one order: the book as its audit gives it, under the lock that all orders take.
type desk struct {
	ctx      context.Context
	tx       pgx.Tx
	now      time.Time // the database's clock, which all processes share
	policy   life.Policy
	book     *life.Book
	steps    map[string][]life.Step // by ruleset
	breaches []life.Breach
	sources  map[life.Ref][]byte // of versions that are not written yet
}

// open runs f at the desk. What f orders is committed if it returns nil, else nothing is.
func (b *Book) open(ctx context.Context, f func(*desk) error) error {
	ctx, cancel := context.WithTimeout(ctx, orderLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, b.Postgres)
	if err != nil {
		return fmt.Errorf("open the rulebook: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		d := &desk{ctx: ctx, tx: tx, steps: map[string][]life.Step{}, sources: map[life.Ref][]byte{}}
		if err := d.load(b.RequireReview); err != nil {
			return fmt.Errorf("open the rulebook: %w", err)
		}
		return f(d)
	})
}

func (d *desk) load(requireReview bool) error {
	// The lock first: the statements after it see what its last holder has committed.
	if err := d.tx.QueryRow(d.ctx, "SELECT require_review FROM rulebook FOR UPDATE").Scan(&d.policy.ReviewRequired); err != nil {
		return err
	}
	d.policy.ReviewRequired = d.policy.ReviewRequired || requireReview
	if err := d.tx.QueryRow(d.ctx, "SELECT clock_timestamp()").Scan(&d.now); err != nil {
		return err
	}
	all, err := d.readSteps()
	if err != nil {
		return err
	}
	d.book = life.Replay(all)
	for _, s := range all {
		d.steps[s.Name] = append(d.steps[s.Name], s)
	}
	return d.audit()
}

func (d *desk) readSteps() ([]life.Step, error) {
	rows, err := d.tx.Query(d.ctx, `SELECT name, sequence, version, action, from_status, to_status, who, at, why, author, sha256, detail, previous_hash, hash
		FROM ruleset_steps ORDER BY name, sequence`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (life.Step, error) {
		var s life.Step
		var source, detail, previous, hash []byte
		err := row.Scan(&s.Name, &s.Sequence, &s.Number, &s.Action, &s.From, &s.To, &s.Who, &s.When, &s.Why, &s.Author, &source, &detail, &previous, &hash)
		s.When = s.When.UTC()
		copy(s.Source[:], source)
		copy(s.Previous[:], previous)
		copy(s.Hash[:], hash)
		if json.Unmarshal(detail, &s.Detail) != nil || len(s.Detail) == 0 {
			s.Detail = nil // a detail of another form was not written here: the step's hash says so
		}
		return s, err
	})
}

// audit compares everything stored with everything else.
func (d *desk) audit() error {
	heads := map[string]life.Head{}
	rows, err := d.tx.Query(d.ctx, "SELECT name, sequence, hash FROM ruleset_chains")
	if err != nil {
		return err
	}
	var name string
	var head life.Head
	var hash []byte
	if _, err = pgx.ForEachRow(rows, []any{&name, &head.Step, &hash}, func() error {
		copy(head.Hash[:], hash)
		heads[name] = head
		return nil
	}); err != nil {
		return err
	}
	for name := range d.book.Heads {
		if _, ok := heads[name]; !ok {
			heads[name] = life.Head{}
		}
	}
	for name, head := range heads {
		d.breaches = append(d.breaches, life.Audit(name, d.steps[name], head)...)
	}
	return d.auditVersions()
}

// auditVersions compares the table of versions with what their steps have made of them.
func (d *desk) auditVersions() error {
	rows, err := d.tx.Query(d.ctx, "SELECT name, version, sha256(source), author, status, approved_by, unreviewed, in_shadow FROM rulesets")
	if err != nil {
		return err
	}
	var got life.Version
	var source []byte
	seen := 0
	_, err = pgx.ForEachRow(rows, []any{&got.Name, &got.Number, &source, &got.Author, &got.Status, &got.ApprovedBy, &got.Unreviewed, &got.Shadowing}, func() error {
		want := d.book.Versions[got.Ref]
		if want == nil {
			d.breaches = append(d.breaches, life.Breach{Name: got.Name, What: got.Ref.String() + " is there without a step"})
			return nil
		}
		seen++
		if !bytes.Equal(source, want.Source[:]) {
			d.breaches = append(d.breaches, life.Breach{Name: got.Name, What: "the text of " + got.Ref.String() + " is not the one its steps speak of"})
		}
		if got.Author != want.Author || got.Status != want.Status || got.ApprovedBy != want.ApprovedBy || got.Unreviewed != want.Unreviewed || got.Shadowing != want.Shadowing {
			d.breaches = append(d.breaches, life.Breach{Name: got.Name, What: got.Ref.String() + " does not stand where its steps have brought it"})
		}
		return nil
	})
	if err == nil && seen < len(d.book.Versions) {
		d.breaches = append(d.breaches, life.Breach{Name: "rulesets", What: "a version that has steps is missing"})
	}
	return err
}

// take carries out an order and writes its steps down. Over an audit that was tampered with nothing is decided; only the
// way back stays open.
func (d *desk) take(o life.Order) error {
	if breach := d.broken(o.Ref.Name); breach != nil && o.Do != life.Rollback {
		return life.Refuse(life.BrokenAudit, "the audit was changed behind the rulebook's back (%s); sluice rules history shows all; only a rollback is possible until it is restored", breach)
	}
	o.When = d.now
	steps, err := d.book.Take(o, d.policy)
	if err != nil {
		return err
	}
	for i := range steps {
		if err := d.write(&steps[i]); err != nil {
			return fmt.Errorf("write down that %s %ss %s: %w", o.By, o.Do, steps[i].Ref, err)
		}
		d.steps[steps[i].Name] = append(d.steps[steps[i].Name], steps[i])
	}
	return nil
}

// broken returns the first breach in a ruleset's audit, nil if it holds.
func (d *desk) broken(name string) *life.Breach {
	for i := range d.breaches {
		if d.breaches[i].Name == name {
			return &d.breaches[i]
		}
	}
	return nil
}

// write stores a step, what it makes of its version, and the new end of the chain.
func (d *desk) write(s *life.Step) error {
	v := life.Replay(append(d.steps[s.Name], *s)).Versions[s.Ref] // as it is after this step, not after all of the order's
	source, isNew := d.sources[s.Ref]
	var err error
	if isNew {
		_, err = d.tx.Exec(d.ctx, `INSERT INTO rulesets (name, version, source, sha256, author, created_at, status, tested, approved_by, unreviewed, in_shadow, changed_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $6)`,
			s.Name, s.Number, source, v.Source[:], v.Author, s.When, v.Status, v.Tested, v.ApprovedBy, v.Unreviewed, v.Shadowing)
		delete(d.sources, s.Ref)
	} else {
		_, err = d.tx.Exec(d.ctx, `UPDATE rulesets SET status = $3, tested = $4, approved_by = $5, unreviewed = $6, in_shadow = $7, changed_at = $8
			WHERE name = $1 AND version = $2`, s.Name, s.Number, v.Status, v.Tested, v.ApprovedBy, v.Unreviewed, v.Shadowing, s.When)
	}
	if err != nil {
		return err
	}
	detail := s.Detail
	if detail == nil {
		detail = map[string]string{}
	}
	if _, err = d.tx.Exec(d.ctx, `INSERT INTO ruleset_steps (name, sequence, version, action, from_status, to_status, who, at, why, author, sha256, detail, previous_hash, hash)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		s.Name, s.Sequence, s.Number, s.Action, s.From, s.To, s.Who, s.When, s.Why, s.Author, s.Source[:], detail, s.Previous[:], s.Hash[:]); err != nil {
		return err
	}
	_, err = d.tx.Exec(d.ctx, `INSERT INTO ruleset_chains (name, sequence, hash) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash`, s.Name, s.Sequence, s.Hash[:])
	return err
}

// source returns a version's bytes, if they are those its steps speak of.
func (d *desk) source(ref life.Ref) ([]byte, error) {
	if source, ok := d.sources[ref]; ok {
		return source, nil
	}
	var source []byte
	err := d.tx.QueryRow(d.ctx, "SELECT source FROM rulesets WHERE name = $1 AND version = $2", ref.Name, ref.Number).Scan(&source)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, life.Refuse(life.Unknown, "there is no %s; sluice rules history shows what there is", ref)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ref, err)
	}
	if v := d.book.Versions[ref]; v == nil || v.Source != life.SourceHash(source) {
		return nil, life.Refuse(life.BrokenAudit, "the text of %s is not the one its steps speak of: it was changed behind the rulebook's back", ref)
	}
	return source, nil
}
