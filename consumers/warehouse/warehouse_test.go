//go:build !noembed

package warehouse

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sluice/consumers/deadletter"
	"sluice/deploy/embedded"
	"sluice/deploy/embedded/enginestest"
	"sluice/schemas/events"
)

// Everything produced arrives once, and stays once after an orderly end and another start.
func TestEachRecordOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := h.start(h.c)
	h.produce(500)
	h.arrive()
	h.end(r)
	h.exact()
	h.produce(100)
	r = h.start(h.c)
	h.arrive()
	h.end(r)
	h.exact()
}

// A crash between plan and insert, and one between insert and commit: whoever comes next sends the planned ranges again,
// and each record counts once.
func TestCrash(t *testing.T) {
	t.Parallel()
	for _, at := range []Step{StepPlanned, StepInserted} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.produce(300)
			for n := range int64(4) {
				c := h.c
				c.Hook = crashAt(at, 1+3*n)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				if err := Run(ctx, c); !errors.Is(err, errCrash) {
					t.Fatalf("the warehouse ended with %v, not by the crash", err)
				}
				cancel()
				h.produce(60)
			}
			r := h.start(h.c)
			h.arrive()
			h.end(r)
			h.exact()
		})
	}
}

// A partition taken away in the middle of a batch: the next owner finds the plan and sends exactly that range first.
func TestTakeover(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.produce(300)
	stuck := make(chan struct{})
	var once sync.Once
	first := h.c
	first.Hook = func(ctx context.Context, s Step, topic string, partition int32) error {
		if s == StepInserted { // inserted, and then it hears nothing until the partition is gone
			once.Do(func() { close(stuck) })
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	a := h.start(first)
	<-stuck
	b := h.start(h.c)
	h.produce(60)
	a.stop()
	_ = h.waitEnd(a)
	h.arrive()
	h.end(b)
	h.exact()
}

// Inserts that succeed but whose answers never arrive: the warehouse sends them again, and each record counts once.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	p := newProxy(t, h.c.ClickHouse)
	c := h.c
	c.ClickHouse = p.url
	c.Metrics = prometheus.NewRegistry()
	m := newMetrics(c.Metrics)
	h.produce(150)
	r := h.start(c)
	for range 5 {
		p.eatAnswer(h)
	}
	h.arrive()
	h.end(r)
	h.exact()
	if n := testutil.ToFloat64(m.retries); n < 5 {
		t.Errorf("%v inserts were sent again, want at least 5", n)
	}
}

// proxy stands between the warehouse and ClickHouse, and can lose what ClickHouse answers.
type proxy struct {
	url   string
	eat   atomic.Bool // the next answer to an insert is lost
	eaten chan func() // an answer is being lost; calling the function cuts the connection
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &proxy{eaten: make(chan func())}
	backend := u.Host
	u.Host = l.Addr().String()
	p.url = u.String()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(t, conn, backend)
		}
	}()
	return p
}

// blockBytes is less than what a block of rows takes on the wire, and more than any other message of the warehouse.
const blockBytes = 2500

func (p *proxy) serve(t *testing.T, client net.Conn, backend string) {
	server, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", backend)
	if err != nil {
		client.Close()
		return
	}
	cut := sync.OnceFunc(func() { client.Close(); server.Close() })
	defer cut()
	var sent atomic.Int64 // bytes from the client since the server last answered
	go func() {
		defer cut()
		buffer := make([]byte, 64<<10)
		for {
			n, err := client.Read(buffer)
			sent.Add(int64(n))
			if _, werr := server.Write(buffer[:n]); err != nil || werr != nil {
				return
			}
		}
	}()
	buffer := make([]byte, 64<<10)
	losing := false
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		if losing {
			continue
		}
		if sent.Swap(0) > blockBytes && p.eat.CompareAndSwap(true, false) {
			losing = true
			go func() { p.eaten <- cut }()
			continue
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// eatAnswer lets one insert go through without its answer.
func (p *proxy) eatAnswer(h *house) {
	h.Helper()
	p.eat.Store(true)
	select {
	case cut := <-p.eaten:
		before := h.allRows()
		for deadline := time.Now().Add(patience); h.allRows() == before && h.running(); { // until the insert is through
			if time.Now().After(deadline) {
				h.Fatal("the insert does not go through")
			}
		}
		cut()
	case <-time.After(patience):
		h.Fatal("no insert comes")
	}
}

// allRows counts the rows of all raw tables.
func (h *house) allRows() (n uint64) {
	h.Helper()
	if err := h.db.QueryRow(h.Context(), `SELECT (SELECT count() FROM payments) + (SELECT count() FROM loans) + (SELECT count() FROM behaviors)
		+ (SELECT count() FROM results) + (SELECT count() FROM postings) + (SELECT count() FROM dead_letters)`).Scan(&n); err != nil {
		h.Fatal(err)
	}
	return n
}

// running counts the inserts that ClickHouse works on.
func (h *house) running() bool {
	h.Helper()
	var n uint64
	if err := h.db.QueryRow(h.Context(), "SELECT count() FROM system.processes WHERE query_kind = 'Insert' AND current_database = currentDatabase()").Scan(&n); err != nil {
		h.Fatal(err)
	}
	return n > 0
}

// ClickHouse killed in the middle of the work and back later: the part waits, the lag shows, nothing is lost or doubled.
func TestClickHouseAway(t *testing.T) {
	t.Parallel()
	env := enginestest.New(t, enginestest.Kafka)
	engines := enginestest.Exclusive(t, embedded.Options{ClickHouse: true})
	h := newHouseAt(t, env, strings.TrimSuffix(engines.ClickHouseURL, "/default")+"/sluice")
	c := h.c
	c.Metrics = prometheus.NewRegistry()
	m := newMetrics(c.Metrics)
	h.produce(100)
	r := h.start(c)
	h.arrive()
	h.produce(200)
	if err := engines.KillClickHouse(); err != nil {
		t.Fatal(err)
	}
	h.produce(200)
	h.until("the lag shows", func() bool { return testutil.ToFloat64(m.lag.WithLabelValues(part, "payments.decided")) > 0 })
	h.until("it is tried again", func() bool { return testutil.ToFloat64(m.retries) > 3 })
	if err := engines.RestartClickHouse(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.arrive()
	h.until("the lag is gone", func() bool { return testutil.ToFloat64(m.lag.WithLabelValues(part, "payments.decided")) == 0 })
	h.end(r)
	h.exact()
}

func (h *house) until(what string, holds func() bool) {
	h.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatalf("it does not happen that %s", what)
		}
	}
}

// Only what was committed counts, and the lag of a part that has read everything is zero, aborted and control records
// included.
func TestTransactions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	producer, err := h.c.Client(kgo.TransactionalID(h.c.Group("test")))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	c := h.c
	c.Metrics = prometheus.NewRegistry()
	m := newMetrics(c.Metrics)
	r := h.start(c)
	plain := h.producer
	for i := range 12 {
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if i%3 == 2 {
			record := h.c.ToKafka("payments.decided", "C1", nil, []byte("not committed"))
			if err := producer.ProduceSync(t.Context(), record).FirstErr(); err != nil {
				t.Fatal(err)
			}
		} else {
			h.producer = producer
			h.produce(20)
			h.producer = plain
		}
		if err := producer.EndTransaction(t.Context(), kgo.TransactionEndTry(i%3 != 2)); err != nil {
			t.Fatal(err)
		}
	}
	h.arrive()
	h.until("the lag is gone", func() bool {
		return testutil.CollectAndCount(m.lag) == len(topics) && testutil.ToFloat64(m.lag.WithLabelValues(part, "payments.decided")) == 0
	})
	h.end(r)
	h.exact()
}

// A member that the group has given up, without its noticing, is refused its next plan and stops; nothing of it counts
// twice.
func TestZombie(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if h.fake == nil {
		t.Skip("needs the embedded Kafka")
	}
	h.produce(200)
	var refused atomic.Bool
	group := h.c.Group(part)
	h.fake.ControlKey(kmsg.OffsetCommit.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		h.fake.KeepControl()
		commit := req.(*kmsg.OffsetCommitRequest)
		if commit.Group != group || !refused.CompareAndSwap(false, true) {
			return nil, nil, false
		}
		resp := commit.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, t := range commit.Topics {
			topic := kmsg.NewOffsetCommitResponseTopic()
			topic.Topic, topic.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				partition := kmsg.NewOffsetCommitResponseTopicPartition()
				partition.Partition, partition.ErrorCode = p.Partition, 22 // ILLEGAL_GENERATION
				topic.Partitions = append(topic.Partitions, partition)
			}
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	r := h.start(h.c)
	if err := h.waitEnd(r); err == nil {
		t.Fatal("the zombie went on")
	}
	r = h.start(h.c)
	h.arrive()
	h.end(r)
	h.exact()
}

// A dead letter's bytes and headers, and a decided record nobody can read, are kept as they are.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	unreadable := &kgo.Record{Topic: h.c.Topic("payments.decided"), Key: []byte("garbage"), Value: []byte{0xff, 0, 1}, Headers: []kgo.RecordHeader{{Key: "a", Value: []byte{0xfe}}}}
	letter := h.letter()
	h.publish([]*kgo.Record{unreadable, letter})
	r := h.start(h.c)
	h.arrive()
	h.end(r)
	type row struct {
		Reason, Part, Topic, Key, Value, LetterTopic string
		Partition                                    int32
		Offset                                       int64
		Headers                                      [][]any
	}
	read := func(where string) (got row) {
		t.Helper()
		if err := h.db.QueryRow(t.Context(), "SELECT reason, part, topic, key, value, letter_topic, partition, offset, headers FROM dead_letters WHERE "+where).Scan(
			&got.Reason, &got.Part, &got.Topic, &got.Key, &got.Value, &got.LetterTopic, &got.Partition, &got.Offset, &got.Headers); err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := read("letter_topic = 'deadletters'")
	if got.Reason != string(events.CodeUnreadable) || got.Part != "gate" || got.Topic != "payments" || got.Partition != 2 || got.Value != string(letter.Value) || len(got.Headers) != 2 {
		t.Errorf("the dead letter is %+v", got)
	}
	got = read("letter_topic = 'payments.decided'")
	if got.Reason != string(events.CodeUnreadable) || got.Part != part || got.Topic != "payments.decided" || got.Value != string(unreadable.Value) || got.Offset != unreadable.Offset || len(got.Headers) != 1 {
		t.Errorf("the unreadable decision is %+v", got)
	}
}

// A dead letter that was published again is no second one, and a decision published again for another part no second row.
func TestPublishedAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	d := h.decision(events.Payment)
	for string(d.Key) == "garbage" {
		d = h.decision(events.Payment)
	}
	letter := h.c.DeadLetter(d, "poster", errors.New("no such account"))
	h.publish([]*kgo.Record{d, letter})
	if n, err := deadletter.Replay(t.Context(), deadletter.Config{Config: h.c.Config}, ""); n != 1 || err != nil {
		t.Fatalf("%d published again, %v", n, err)
	}
	h.publish([]*kgo.Record{h.letter()})
	r := h.start(h.c)
	h.arrive()
	h.end(r)
	h.exact()
}
