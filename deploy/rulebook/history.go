package rulebook

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sluice/rules/life"
)

// History is the audit of a ruleset, or of all, with what is wrong in it.
type History struct {
	Steps    []life.Step // in order of time
	Breaches []life.Breach
}

// History reads the audit and checks that it is complete and unchanged; name "" is every ruleset.
func (b *Book) History(ctx context.Context, name string) (History, error) {
	var h History
	err := b.open(ctx, func(d *desk) error {
		for of, steps := range d.steps {
			if name == "" || of == name {
				h.Steps = append(h.Steps, steps...)
			}
		}
		for _, breach := range d.breaches {
			if name == "" || breach.Name == name {
				h.Breaches = append(h.Breaches, breach)
			}
		}
		if len(h.Steps) == 0 && name != "" {
			return life.Refuse(life.Unknown, "there is no ruleset %s; there are %s", name, strings.Join(slices.Sorted(maps.Keys(d.steps)), ", "))
		}
		return nil
	})
	slices.SortStableFunc(h.Steps, func(a, b life.Step) int {
		return cmp.Or(a.When.Compare(b.When), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Sequence, b.Sequence))
	})
	return h, err
}

// Table writes the history for a person.
func (h History) Table(w io.Writer) error {
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "WHEN\tWHO\tDID\tTO\tNOW\tWHY")
	for _, s := range h.Steps {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", s.When.Format("2006-01-02 15:04:05"), s.Who, s.Action, s.Ref, s.To, remark(s))
	}
	_ = table.Flush() // into memory
	for _, breach := range h.Breaches {
		fmt.Fprintf(&out, "TAMPERED: %s\n", breach)
	}
	for line := range strings.Lines(out.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// remark is a step's reason, with its figures, on one line.
func remark(s life.Step) string {
	parts := []string{strings.Join(strings.Fields(s.Why), " ")}
	if s.Action == life.Publish {
		parts = append(parts, "UNREVIEWED")
	}
	for _, key := range slices.Sorted(maps.Keys(s.Detail)) {
		parts = append(parts, key+"="+s.Detail[key])
	}
	return strings.TrimPrefix(strings.Join(parts, "; "), "; ")
}

// jsonStep is a step as --json prints it.
type jsonStep struct {
	Ruleset  string            `json:"ruleset"`
	Version  int               `json:"version"`
	Sequence int64             `json:"sequence"`
	When     time.Time         `json:"when"`
	Who      string            `json:"who"`
	Action   life.Action       `json:"action"`
	From     life.Status       `json:"from"`
	To       life.Status       `json:"to"`
	Why      string            `json:"why"`
	Author   string            `json:"author"`
	Source   string            `json:"source_sha256"`
	Detail   map[string]string `json:"detail,omitempty"`
	Previous string            `json:"previous_hash"`
	Hash     string            `json:"hash"`
}

// JSON writes the history for a program: {"steps": […], "breaches": […]}.
func (h History) JSON(w io.Writer) error {
	out := struct {
		Steps    []jsonStep `json:"steps"`
		Breaches []string   `json:"breaches"`
	}{[]jsonStep{}, []string{}}
	for _, s := range h.Steps {
		out.Steps = append(out.Steps, jsonStep{s.Name, s.Number, s.Sequence, s.When, s.Who, s.Action, s.From, s.To, s.Why, s.Author,
			s.Source.String(), s.Detail, s.Previous.String(), s.Hash.String()})
	}
	for _, breach := range h.Breaches {
		out.Breaches = append(out.Breaches, breach.String())
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(out)
}

// Status is where everything stands.
type Status struct {
	Live           *life.Version // nil: nothing
	Open           []life.Version
	ReviewRequired bool
	Breaches       []life.Breach
	Repaired       []string // keys that Kafka lacked until now
}

// Status first finishes what a crash has left unpublished, then tells where everything stands.
func (b *Book) Status(ctx context.Context) (Status, error) {
	var s Status
	repaired, err := b.Reconcile(ctx)
	if err != nil {
		return s, err
	}
	s.Repaired = repaired
	err = b.open(ctx, func(d *desk) error {
		s.ReviewRequired, s.Breaches = d.policy.ReviewRequired, d.breaches
		for _, v := range d.book.Versions {
			if v.Status == life.Live {
				s.Live = v
			} else if WaitsFor(v) != "" {
				s.Open = append(s.Open, *v)
			}
		}
		return nil
	})
	slices.SortFunc(s.Open, func(a, b life.Version) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Number, b.Number))
	})
	return s, err
}

// WaitsFor says what a version waits for, and from whom; "" if for nothing.
func WaitsFor(v *life.Version) string {
	switch v.Status {
	case life.Live, life.Superseded, life.RolledBack, life.Rejected, life.Withdrawn:
		return ""
	case life.Draft, life.Checked:
		return "its test: sluice rules test " + v.Ref.String()
	case life.Approved:
		return "promotion, by anybody: sluice rules promote " + v.Ref.String()
	}
	return "approval, by anybody but " + v.Author + ": sluice rules approve " + v.Ref.String()
}

// Table writes the status for a person.
func (s Status) Table(w io.Writer) error {
	switch {
	case s.Live == nil:
		fmt.Fprintln(w, "nothing is live")
	case s.Live.Unreviewed:
		fmt.Fprintf(w, "live: %s, by %s, unreviewed, since %s\n", s.Live.Ref, s.Live.Author, s.Live.Changed.Format(time.DateTime))
	default:
		fmt.Fprintf(w, "live: %s, by %s, approved by %s, since %s\n", s.Live.Ref, s.Live.Author, s.Live.ApprovedBy, s.Live.Changed.Format(time.DateTime))
	}
	if len(s.Open) > 0 {
		table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		fmt.Fprintln(table, "VERSION\tAUTHOR\tSTATUS\tIN SHADOW\tWAITS FOR")
		for i := range s.Open {
			v := &s.Open[i]
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", v.Ref, v.Author, v.Status, map[bool]string{true: "yes", false: "no"}[v.Shadowing], WaitsFor(v))
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	if s.ReviewRequired {
		fmt.Fprintln(w, "review is required: nothing goes live without the approval of a second person")
	}
	for _, key := range s.Repaired {
		fmt.Fprintf(w, "published now, Kafka did not have it yet: %s\n", key)
	}
	for _, breach := range s.Breaches {
		fmt.Fprintf(w, "TAMPERED: %s\n", breach)
	}
	return nil
}
