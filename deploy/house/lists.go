package house

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/rules"
	"sluice/rules/lists"
	"sluice/schemas"
)

const (
	// listsWait bounds the reading of the topic lists: a million entries take some seconds.
	listsWait = 2 * time.Minute
	// listsTell is how many entries are published between two words of progress.
	listsTell = 5_000
)

// listed is what the topic lists says.
type listed struct {
	set     *lists.Set             // as gates have it
	entries map[string]lists.Entry // by key
}

// readLists reads every list.
func (h *House) readLists(ctx context.Context) (*listed, error) {
	l := &listed{set: lists.NewSet(), entries: map[string]lists.Entry{}}
	ctx, cancel := context.WithTimeout(ctx, listsWait)
	defer cancel()
	err := h.controlRecords(ctx, schemas.Lists, func(r *kgo.Record) {
		e, removed, err := lists.Decode(r.Key, r.Value)
		switch {
		case err != nil: // gates refuse it too
		case removed:
			l.set.Remove(e)
			delete(l.entries, e.Key())
		case l.set.Put(e) == nil:
			l.entries[e.Key()] = e
		}
	})
	return l, err
}

// controlRecords reads what a control topic of one partition holds now, in order; markers of transactions are left out.
func (h *House) controlRecords(ctx context.Context, topic string, see func(*kgo.Record)) error {
	s := h.Stream("control")
	name := s.Topic(topic)
	client, err := s.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{name: {0: kgo.NewOffset().AtStart()}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListCommittedOffsets(ctx, name)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("read the control topic %s: %w", name, err)
	}
	starts, err := kadm.NewClient(client).ListStartOffsets(ctx, name)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return fmt.Errorf("read the control topic %s: %w", name, err)
	}
	end, _ := ends.Lookup(name, 0)
	start, _ := starts.Lookup(name, 0)
	for next := start.Offset; next < end.Offset; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read the control topic %s: %w", name, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if next = r.Offset + 1; !r.Attrs.IsControl() {
				see(r)
			}
		})
	}
	return nil
}

// AddToLists publishes entries: all of them or, on an error, none. Gates ask for them from their next transaction on.
// progress is told how many are published; it may be nil.
func (h *House) AddToLists(ctx context.Context, entries []lists.Entry, progress func(done, total int64)) error {
	l, err := h.readLists(ctx)
	if err != nil {
		return err
	}
	records := make([]*kgo.Record, len(entries))
	for i := range entries {
		if err := l.set.Put(entries[i]); err != nil {
			return fmt.Errorf("%w; nothing was changed", err)
		}
		key, value, err := entries[i].Encode()
		if err != nil {
			return fmt.Errorf("%s: %w", entries[i].Key(), err)
		}
		records[i] = &kgo.Record{Topic: h.Stream("lists").Topic(schemas.Lists), Key: key, Value: value}
	}
	return h.publishTogether(ctx, records, progress)
}

// publishTogether publishes records in one transaction.
func (h *House) publishTogether(ctx context.Context, records []*kgo.Record, progress func(done, total int64)) error {
	s := h.Stream("lists")
	client, err := s.Client(kgo.TransactionalID(s.Group("lists-" + rand.Text())))
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin to publish: %w", err)
	}
	for from := 0; from < len(records); from += listsTell {
		some := records[from:min(from+listsTell, len(records))]
		if err := client.ProduceSync(ctx, some...).FirstErr(); err != nil {
			return errors.Join(fmt.Errorf("publish %d entries: %w; nothing was changed", len(records), err),
				client.EndTransaction(context.WithoutCancel(ctx), kgo.TryAbort))
		}
		if progress != nil {
			progress(int64(from+len(some)), int64(len(records)))
		}
	}
	if err := client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("commit %d entries: %w; `sluice lists show` tells whether they are there", len(records), err)
	}
	return nil
}

// RemoveFromList takes an entry out. The error says when it was not there.
func (h *House) RemoveFromList(ctx context.Context, e lists.Entry) error {
	l, err := h.readLists(ctx)
	if err != nil {
		return err
	}
	if _, ok := l.entries[e.Key()]; !ok {
		return fmt.Errorf("the list %s has no entry of kind %s with the value %q; `sluice lists show %s` prints them", e.List, e.Kind, e.Value, e.List)
	}
	record := &kgo.Record{Topic: h.Stream("lists").Topic(schemas.Lists), Key: []byte(e.Key())}
	return h.publishTogether(ctx, []*kgo.Record{record}, nil)
}

// ImportList reads a CSV file into a list and returns how many entries it published: all of them or, on an error, none.
func (h *House) ImportList(ctx context.Context, list, path, by string, progress func(done, total int64)) (int, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("%s: there is no such file", path)
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	entries, err := lists.ParseCSV(file, list, by, now())
	if err != nil {
		return 0, fmt.Errorf("%s: nothing was imported:\n%w", path, err)
	}
	return len(entries), h.AddToLists(ctx, entries, progress)
}

// now is the time at which an entry is added.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

// NewEntry makes an entry that is added now; expires is a day, a time or "".
func NewEntry(list, kind, value, reason, by, expires string) (lists.Entry, error) {
	k, err := lists.ParseKind(kind)
	if err != nil {
		return lists.Entry{}, err
	}
	e, err := lists.New(list, k, value)
	if err != nil {
		return lists.Entry{}, err
	}
	e.Reason, e.By, e.Added = reason, by, now()
	if expires != "" {
		if e.Expires, err = lists.ParseExpires(expires); err != nil {
			return lists.Entry{}, err
		}
	}
	return e, e.Check()
}

// AskedList says whether the live ruleset asks for a list; "" if it does, otherwise a word on it for the user.
func (h *House) AskedList(ctx context.Context, list string) string {
	source, err := h.LiveRuleset(ctx)
	if err != nil || source == nil {
		return ""
	}
	rs, err := rules.Load(liveRuleset, source)
	if err != nil || slices.Contains(rs.Lists, list) || list == rules.SnoozeList {
		return ""
	}
	return fmt.Sprintf("no condition of the live ruleset %s asks for the list %s", rs.ID(), list)
}

// ShowLists prints every list with its size, or the entries of one.
func (h *House) ShowLists(ctx context.Context, w io.Writer, list string) error {
	l, err := h.readLists(ctx)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if list == "" {
		fmt.Fprintln(t, "LIST\tENTRIES")
		for _, name := range l.set.Names() {
			fmt.Fprintf(t, "%s\t%s\n", name, thousands(int64(l.set.Len(name))))
		}
		return t.Flush()
	}
	if l.set.Len(list) == 0 {
		return fmt.Errorf("there is no list %s, or it has no entries; the lists are: %s", list, strings.Join(l.set.Names(), ", "))
	}
	l.print(t, list, time.Now())
	return t.Flush()
}

func (l *listed) print(w io.Writer, list string, now time.Time) {
	var entries []lists.Entry
	for _, e := range l.entries {
		if e.List == list {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b lists.Entry) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value)) })
	fmt.Fprintln(w, "KIND\tVALUE\tADDED\tEXPIRES\tBY\tREASON")
	for _, e := range entries {
		expires := "never"
		if !e.Expires.IsZero() {
			expires = e.Expires.Format(time.RFC3339)
			if !now.Before(e.Expires) {
				expires += " (past)"
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", e.Kind, e.Value, e.Added.Format(time.RFC3339), expires, e.By, e.Reason)
	}
}

// Snooze stops one rule for one entity, "customer=C42", for a time.
func (h *House) Snooze(ctx context.Context, rule, entity string, long time.Duration, reason, by string) (lists.Entry, error) {
	field, value, ok := strings.Cut(entity, "=")
	if err := checkField(field); err != nil || !ok || value == "" {
		return lists.Entry{}, cmp.Or(err, fmt.Errorf("%q is not FIELD=VALUE, such as customer=C42", entity))
	}
	if err := h.checkRule(ctx, rule); err != nil {
		return lists.Entry{}, err
	}
	if long <= 0 {
		return lists.Entry{}, errors.New("--for must be more than nothing, such as 24h")
	}
	e, err := lists.New(rules.SnoozeList, lists.Value, rule+"/"+field+"/"+value)
	if err != nil {
		return lists.Entry{}, err
	}
	e.Reason, e.By, e.Added = reason, by, now()
	e.Expires = e.Added.Add(long)
	if err := e.Check(); err != nil {
		return lists.Entry{}, err
	}
	return e, h.AddToLists(ctx, []lists.Entry{e}, nil)
}

func checkField(word string) error {
	var words []string
	for f := rules.Customer; f <= rules.Category; f++ {
		words = append(words, f.String())
	}
	if slices.Contains(words, word) {
		return nil
	}
	return fmt.Errorf("%q is no field: give FIELD=VALUE with one of %s", word, strings.Join(words, ", "))
}

// checkRule says whether the live ruleset has a rule.
func (h *House) checkRule(ctx context.Context, id string) error {
	source, err := h.LiveRuleset(ctx)
	if err != nil {
		return err
	}
	rs, err := rules.Load(liveRuleset, source)
	if err != nil {
		return err
	}
	ids := make([]string, len(rs.Rules))
	for i := range rs.Rules {
		ids[i] = rs.Rules[i].ID
	}
	if slices.Contains(ids, id) {
		return nil
	}
	return fmt.Errorf("the live ruleset %s has no rule %q; it has %s", rs.ID(), id, strings.Join(ids, ", "))
}
