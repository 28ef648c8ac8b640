package deadletter

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/stream"
	"sluice/deploy/embedded/enginestest"
	"sluice/schemas"
	"sluice/schemas/events"
)

func TestMain(m *testing.M) { os.Exit(enginestest.Main(m)) }

type house struct {
	*testing.T
	c      Config
	client *kgo.Client
}

func newHouse(t *testing.T) *house {
	t.Helper()
	env := enginestest.New(t, enginestest.Kafka)
	h := &house{T: t, c: Config{Config: stream.Config{Brokers: env.Kafka, Prefix: env.Prefix, Partitions: 3}}}
	if err := h.c.EnsureTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	var err error
	if h.client, err = h.c.Client(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.client.Close)
	return h
}

// refuse puts a record of a topic among the dead letters.
func (h *house) refuse(topic, key, value string, why error) {
	h.Helper()
	r := &kgo.Record{Topic: h.c.Topic(topic), Partition: 1, Offset: 7, Timestamp: time.UnixMilli(1_790_000_000_000), Key: []byte(key), Value: []byte(value),
		Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte(key + "-1")}}}
	if err := h.client.ProduceSync(h.Context(), h.c.DeadLetter(r, "gate", why)).FirstErr(); err != nil {
		h.Fatal(err)
	}
}

func (h *house) list(reason string) (all []Letter) {
	h.Helper()
	if err := List(h.Context(), h.c, reason, func(l Letter) bool { all = append(all, l); return true }); err != nil {
		h.Fatal(err)
	}
	return all
}

// published reads everything on payments.
func (h *house) published() (all []*kgo.Record) {
	h.Helper()
	client, err := h.c.Client(kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		h.Fatal(err)
	}
	defer client.Close()
	topic := h.c.Topic(schemas.Payments)
	left, from, err := extent(h.Context(), client, topic)
	if err != nil {
		h.Fatal(err)
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	for len(left) > 0 {
		for _, r := range client.PollFetches(h.Context()).Records() {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() {
				all = append(all, r)
			}
		}
	}
	slices.SortFunc(all, func(a, b *kgo.Record) int { return bytes.Compare(a.Key, b.Key) })
	return all
}

func (h *house) replay(want int, reason string, at ...Position) {
	h.Helper()
	n, err := Replay(h.Context(), h.c, reason, at...)
	if err != nil || n != want {
		h.Fatalf("%d published again, %v; want %d", n, err, want)
	}
}

var missing = &events.Rejection{Code: events.CodeMissing, Field: "customer_id", Detail: "it is\nrequired"}

// A letter goes back to where its record stood, as it came, once: by reason, by position, and never twice.
func TestReplay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.refuse(schemas.Payments, "a", "\x00\xff", missing)
	h.refuse(schemas.Payments, "b", "two", &events.Rejection{Code: events.CodeTime})
	h.refuse(schemas.Payments, "c", "three", &events.Rejection{Code: events.CodeTime})
	h.replay(0, "no_such_reason")
	h.replay(1, string(events.CodeMissing))
	h.replay(0, string(events.CodeMissing))
	late := h.list(string(events.CodeTime))
	if len(late) != 2 || late[0].Replayed || late[1].Replayed {
		t.Fatalf("letters are %+v", late)
	}
	h.replay(1, "", late[0].At)
	h.replay(1, "")
	h.replay(0, "")
	got := h.published()
	if len(got) != 3 {
		t.Fatalf("%d records were published", len(got))
	}
	if a := got[0]; string(a.Key) != "a" || string(a.Value) != "\x00\xff" || len(a.Headers) != 2 || string(a.Headers[0].Value) != "a-1" || a.Headers[1].Key != HeaderReplayed {
		t.Errorf("published again is %+v", a)
	}
	for _, l := range h.list("") {
		if !l.Replayed || l.Topic != schemas.Payments || l.Partition != 1 || l.Offset != 7 || l.Part != "gate" || l.RecordTime.UnixMilli() != 1_790_000_000_000 {
			t.Errorf("letter is %+v", l)
		}
	}
}

// What is not the record's own bytes, or has nowhere to go, stays.
func TestReplayLeavesAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.refuse(schemas.Payments, "a", "4111111111111111", &events.Rejection{Code: events.CodeCardNumber})
	h.refuse("no-such-topic", "b", "x", missing)
	h.replay(0, "")
	if got := h.published(); len(got) != 0 {
		t.Errorf("%d records were published", len(got))
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var empty bytes.Buffer
	if err := Print(t.Context(), h.c, &empty); err != nil || empty.String() != "0 dead letters\n" {
		t.Fatalf("%q, %v", empty.String(), err)
	}
	h.refuse(schemas.Payments, "a", "abc", missing)
	h.replay(1, "")
	h.refuse(schemas.Payments, "a", "abc", missing)
	var out bytes.Buffer
	if err := Print(t.Context(), h.c, &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 || lines[3] != "2 dead letters" || !strings.Contains(lines[1], "missing_field") || !strings.Contains(lines[1], "payments/1/7") ||
		!strings.Contains(lines[1], "it is required") || !strings.Contains(lines[1], "yes") || strings.Contains(lines[2], "yes") {
		t.Errorf("printed\n%s", out.String())
	}
}

func TestParsePosition(t *testing.T) {
	t.Parallel()
	if p, err := ParsePosition("3/1200"); err != nil || p != (Position{3, 1200}) || p.String() != "3/1200" {
		t.Errorf("%v, %v", p, err)
	}
	for _, s := range []string{"", "3", "a/1", "1/a", "-1/1", "1/-1"} {
		if _, err := ParsePosition(s); err == nil {
			t.Errorf("%q is no position", s)
		}
	}
}
