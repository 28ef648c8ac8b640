package poster

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pipelines/ledger"
	"sluice/pipelines/lending"
	"sluice/pipelines/payments"
)

// batch is what one transaction posts: entries in the order of shards, and within a shard as they were polled.
type batch struct {
	entries []entry
	shards  []int32 // sorted
	claims  []claim // in the order of topic and partition

	checkPositions bool // an earlier attempt met a position that was posted before
	refused        int  // entries that earlier attempts have set aside

	// Loaded by begin, open and lock; new for each attempt.
	heads       map[int32]head
	know        knowledge
	accounts    []ledger.Account
	places      []pgtype.TID                 // where the rows of accounts stand; locked, they stay there
	closedUntil time.Time                    // transfers are not dated before
	pending     map[ledger.ID]ledger.Pending // holds that the batch names, or that expire in it
	opened      map[ledger.AccountKey]int64
	closed      map[ledger.AccountKey]bool

	// Decided.
	book   *ledger.Book
	next   map[int32]head
	months []month // of its transfers, that the session did not know to be open
}

// newBatch reads the records. A record that cannot be read is part of the batch like any other.
func newBatch(records []*kgo.Record, claims []claim) *batch {
	b := &batch{entries: make([]entry, len(records)), claims: claims}
	slices.SortFunc(b.claims, func(x, y claim) int {
		return cmp.Or(cmp.Compare(x.topic, y.topic), cmp.Compare(x.partition, y.partition))
	})
	records = slices.Clone(records)
	slices.SortStableFunc(records, func(x, y *kgo.Record) int { return cmp.Compare(x.Partition, y.Partition) })
	for i, r := range records {
		b.entries[i].read(r)
		if i == 0 || records[i-1].Partition != r.Partition {
			b.shards = append(b.shards, r.Partition)
		}
	}
	return b
}

// reset forgets what an attempt that failed had loaded.
func (b *batch) reset() {
	b.heads = make(map[int32]head, len(b.shards))
	b.next = make(map[int32]head, len(b.shards))
	b.know = knowledge{counted: map[identity]bool{}, payments: map[string]*payments.Payment{}, loans: map[string]*lending.Loan{}}
	b.accounts, b.places, b.pending = b.accounts[:0], b.places[:0], map[ledger.ID]ledger.Pending{}
	b.opened, b.closed = map[ledger.AccountKey]int64{}, map[ledger.AccountKey]bool{}
}

// maxAttempts bounds how often a batch is tried before the poster starts again from what is committed.
const maxAttempts = 5

// post brings a batch into the book, whole or not at all; what the database will not take becomes a dead letter of it.
// After an error nothing is known but that: the session is to be closed, and the poster starts again from the committed
// offsets.
func (s *session) post(ctx context.Context, b *batch, o options) error {
	for attempt := 1; ; attempt++ {
		err := s.try(ctx, b, o)
		if err == nil || !again(err) && !refuses(err) {
			return err
		}
		b.checkPositions = b.checkPositions || violates(err, "results_position")
		if _, err := s.conn.Exec(ctx, "ROLLBACK"); err != nil {
			return err
		}
		if again(err) && attempt < maxAttempts {
			continue
		}
		if !refuses(err) {
			return err
		}
		if err := s.isolate(ctx, b, o, err); err != nil {
			return err
		}
		attempt = 0
	}
}

// options are what a batch needs to know beside itself.
type options struct {
	postings payments.Postings
	timeout  time.Duration
	base     func(topic string) string
}

func (s *session) try(ctx context.Context, b *batch, o options) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	if err := s.stage(ctx, b, o); err != nil {
		return err
	}
	return s.commit(ctx, b)
}

// stage does all of a batch but the commit.
func (s *session) stage(ctx context.Context, b *batch, o options) error {
	b.reset()
	if err := s.begin(ctx, b); err != nil {
		return err
	}
	if err := s.decide(ctx, b, o.postings); err != nil {
		return err
	}
	return s.write(ctx, b, o.base)
}

// decide finds out which accounts the batch names, by deciding it dry; locks them; and decides it.
func (s *session) decide(ctx context.Context, b *batch, post payments.Postings) error {
	dry := &dryBook{keys: make(map[ledger.AccountKey]bool, 2*len(b.entries))}
	for _, p := range b.pending {
		dry.keys[p.Debit], dry.keys[p.Credit] = true, true
	}
	decide(b.entries, &b.know, dry, post)
	keys := make([]ledger.AccountKey, 0, len(dry.keys))
	for key := range dry.keys {
		keys = append(keys, key)
	}
	for len(keys) > 0 {
		if err := s.take(ctx, b, keys); err != nil {
			return err
		}
		wet := b.newBook()
		decide(b.entries, &b.know, wet, post)
		b.book, keys = wet.Book, wet.missing
		slices.Sort(keys)
		keys = slices.Compact(keys)
	}
	if b.book == nil || len(dry.keys) == 0 {
		b.book = ledger.NewBook(0)
	}
	for shard, h := range b.heads {
		b.next[shard] = h
	}
	for shard, at := range b.clocks() {
		h := b.next[shard]
		h.clock = at
		b.next[shard] = h
	}
	return nil
}

func (b *batch) newBook() *wetBook {
	book := ledger.NewBook(len(b.accounts))
	for i := range b.accounts {
		book.Load(b.accounts[i])
	}
	for _, p := range b.pending {
		book.LoadPending(p)
	}
	for shard, h := range b.heads {
		book.LoadClock(shard, h.clock)
	}
	return &wetBook{Book: book, closed: b.closed}
}

// clocks are the event times at which the batch leaves its shards.
func (b *batch) clocks() map[int32]time.Time {
	clocks := make(map[int32]time.Time, len(b.shards))
	for shard, h := range b.heads {
		clocks[shard] = h.clock
	}
	for i := range b.entries {
		if e := &b.entries[i]; e.counts() && e.when().After(clocks[e.shard]) {
			clocks[e.shard] = e.when()
		}
	}
	return clocks
}

// transfers counts what the batch has posted.
func (b *batch) transfers() int { return len(b.book.Posted()) }
