package replay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"sluice/consumers/stream"
	"sluice/deploy/embedded/enginestest"
	"sluice/producers/channel"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

func TestMain(m *testing.M) { os.Exit(enginestest.Main(m)) }

// limit bounds a test that waits for something that never comes.
const limit = time.Minute

func house(t *testing.T, partitions int32) stream.Config {
	t.Helper()
	env := enginestest.New(t, enginestest.Kafka)
	c := stream.Config{Brokers: env.Kafka, Prefix: env.Prefix, Partitions: partitions}.Fill()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := c.EnsureTopics(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// published returns the next n records of the input topics.
func published(t *testing.T, c stream.Config, n int) []events.Record {
	t.Helper()
	client, err := c.Client(kgo.ConsumeTopics(c.Topic(schemas.Payments), c.Topic(schemas.Loans), c.Topic(schemas.Behaviors)),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var all []events.Record
	for len(all) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d: %v", len(all), n, err)
		}
		for _, r := range fetches.Records() {
			all = append(all, c.FromKafka(r, nil))
		}
	}
	return all
}

func decoded(t *testing.T, records []events.Record) []events.Event {
	t.Helper()
	all := make([]events.Event, len(records))
	for i := range records {
		var err error
		if all[i], err = events.Decode(&records[i]); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func ids(all []events.Event) []string {
	var ids []string
	for _, e := range all {
		ids = append(ids, e.ID)
	}
	return ids
}

func write(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func topUp(n int) events.Event {
	return events.Event{
		ID: fmt.Sprintf("e%d", n), Source: "recorded", Kind: events.PaymentInitiated, Label: "kept",
		Time:       time.Date(2026, 1, 2, 3, 4, 5, n*1000, time.UTC),
		CustomerID: fmt.Sprintf("C%d", n%7), PaymentID: fmt.Sprintf("p%d", n), Amount: int64(n) + 1, Currency: events.MustCurrency("CNY"),
		Method: eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET, Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP,
	}
}

func jsonLine(t *testing.T, e events.Event) string {
	t.Helper()
	_, value, err := events.EncodeStructured(&e)
	if err != nil {
		t.Fatal(err)
	}
	return string(value)
}

// recording is n events as lines.
func recording(t *testing.T, n int) (text string, all []events.Event) {
	t.Helper()
	var b strings.Builder
	for i := range n {
		all = append(all, topUp(i))
		b.WriteString(jsonLine(t, all[i]) + "\n")
	}
	return b.String(), all
}

// Recorded events are published as they were, in the order of the file.
func TestEventsArePublishedInOrder(t *testing.T) {
	t.Parallel()
	const n = 1500
	kafka := house(t, 1)
	text, want := recording(t, n)
	file := write(t, filepath.Join(t.TempDir(), "events.jsonl"), text)
	var done, total int64
	summary, err := Run(t.Context(), Config{Config: kafka, Path: file, Format: Events, ResumeFile: file + ".resume",
		Progress: func(d, all int64) { done, total = d, all }})
	if err != nil || summary.Published != n || summary.Invalid != 0 || done != n || total != n {
		t.Fatalf("%+v, %v; progress %d of %d", summary, err, done, total)
	}
	if got := decoded(t, published(t, kafka, n)); !reflect.DeepEqual(got, want) {
		t.Fatal("they differ from the file")
	}
	if _, err := os.Stat(file + ".resume"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the resume file of a complete replay: %v", err)
	}
}

// Wrong lines are told by number with the decoder's words, and not sent; the right ones are.
func TestWrongLinesAreReported(t *testing.T) {
	t.Parallel()
	kafka := house(t, 1)
	later := topUp(3)
	later.Time = time.Now().Add(time.Hour)
	text := strings.Join([]string{
		jsonLine(t, topUp(1)), "", "no JSON", strings.Replace(jsonLine(t, topUp(2)), `"CNY"`, `"XXX"`, 1), jsonLine(t, later),
		strings.Repeat("x", 3*events.MaxEventBytes), jsonLine(t, topUp(4)),
	}, "\r\n")
	c := Config{Config: kafka, Path: "-", Format: Events, Input: strings.NewReader(text)}
	summary, err := Run(t.Context(), c)
	if err != nil || summary.Published != 2 || summary.Invalid != 4 {
		t.Fatalf("%+v, %v", summary, err)
	}
	var got []string
	for _, p := range summary.Problems {
		var rejection *events.Rejection
		if !errors.As(p.Err, &rejection) {
			t.Fatal(p)
		}
		got = append(got, fmt.Sprintf("%s:%d %s", p.File, p.Line, rejection.Code))
	}
	want := []string{"-:3 unreadable", "-:4 unknown_currency", "-:5 bad_time", "-:6 oversized"}
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if got := ids(decoded(t, published(t, kafka, 2))); !slices.Equal(got, []string{"e1", "e4"}) {
		t.Fatalf("published %v", got)
	}
}

// With SendInvalid wrong lines go out byte for byte, in their place, for the gate to refuse.
func TestWrongLinesAreSentIfWanted(t *testing.T) {
	t.Parallel()
	kafka := house(t, 1)
	wrong := strings.Replace(jsonLine(t, topUp(2)), `"CNY"`, `"XXX"`, 1)
	text := jsonLine(t, topUp(1)) + "\nno JSON\n" + wrong + "\n" + jsonLine(t, topUp(3))
	summary, err := Run(t.Context(), Config{Config: kafka, Path: "-", Format: Events, Input: strings.NewReader(text), SendInvalid: true})
	if err != nil || summary.Published != 4 || summary.Invalid != 2 {
		t.Fatalf("%+v, %v", summary, err)
	}
	got := published(t, kafka, 4)
	if string(got[1].Value) != "no JSON" || string(got[2].Value) != wrong || string(got[2].Key) != "C2" {
		t.Fatalf("got %q and %q of %q", got[1].Value, got[2].Value, got[2].Key)
	}
	for i, code := range map[int]events.Code{1: events.CodeUnreadable, 2: events.CodeUnknownCurrency} {
		_, err := events.Decode(&got[i])
		var rejection *events.Rejection
		if !errors.As(err, &rejection) || rejection.Code != code {
			t.Errorf("the gate says %v, not %s", err, code)
		}
	}
}

// Stopped after any number of items and run again, nothing is missing; what came twice has the same bytes.
func TestAStoppedReplayGoesOn(t *testing.T) {
	t.Parallel()
	const n, stopAt = 900, 400
	kafka := house(t, 3)
	text, want := recording(t, n)
	file := write(t, filepath.Join(t.TempDir(), "events.jsonl"), text)
	c := Config{Config: kafka, Path: file, Format: Events, ResumeFile: file + ".resume"}
	ctx, cancel := context.WithCancel(t.Context())
	l, err := openLines(c)
	if err != nil {
		t.Fatal(err)
	}
	first := &run{config: c, source: stopping{l, stopAt, cancel}, noted: time.Now()}
	if err := first.run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("a stopped replay: %v", err)
	}
	var kept place
	if found, err := channel.ReadState(c.ResumeFile, &kept); !found || err != nil || kept.Done < stopAt-1 || kept.Done > n {
		t.Fatalf("kept %+v, %v, %v", kept, found, err)
	}
	second, err := Run(t.Context(), c)
	if err != nil || second.Skipped != kept.Done || second.Published != n-kept.Done {
		t.Fatalf("%+v, %v after %+v", second, err, kept)
	}
	total := int(first.summary.Published + second.Published)
	seen := map[string]bool{}
	for _, e := range decoded(t, published(t, kafka, total)) {
		var i int
		if _, err := fmt.Sscanf(e.ID, "e%d", &i); err != nil || !reflect.DeepEqual(e, want[i]) {
			t.Fatalf("published %+v", e)
		}
		seen[e.ID] = true
	}
	if len(seen) != n {
		t.Fatalf("%d of %d events are there", len(seen), n)
	}
}

// stopping is a source in whose middle the user presses Ctrl-C.
type stopping struct {
	*lines
	at     int
	cancel context.CancelFunc
}

func (s stopping) items() iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		n := 0
		for it, err := range s.lines.items() {
			if n++; n == s.at {
				s.cancel()
			}
			if !yield(it, err) {
				return
			}
		}
	}
}

func TestAResumeFileOfAnotherFileIsRefused(t *testing.T) {
	t.Parallel()
	text, _ := recording(t, 3)
	file := write(t, filepath.Join(t.TempDir(), "events.jsonl"), text)
	c := Config{Config: stream.Config{Brokers: []string{"127.0.0.1:1"}}, Path: file, Format: Events,
		ResumeFile: write(t, file+".resume", `{"format":"events","path":"/elsewhere","bytes":7,"done":2}`)}
	if _, err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "delete it to begin anew") {
		t.Fatalf("got %v", err)
	}
	c.Path, c.Input = "-", strings.NewReader(text)
	if _, err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "standard input") {
		t.Fatalf("got %v", err)
	}
}

func TestMistakesAreAnswered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const nodes, txs = "nodeid,isFraud,init_balance,fraudStep\n0,0,1.00,-1\n", "sourceNodeId,targetNodeId,value,time\n0,1,2.00,1\n"
	f := func(want string, c Config) {
		t.Helper()
		c.Brokers = []string{"127.0.0.1:1"}
		if _, err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	folder := func(name, nodes, txs string) string {
		write(t, filepath.Join(dir, name, "nodes.csv"), nodes)
		write(t, filepath.Join(dir, name, "transactions.csv"), txs)
		return filepath.Join(dir, name)
	}
	f("use events or amlsim", Config{Path: dir, Format: "csv"})
	f("no such file", Config{Path: filepath.Join(dir, "nothing"), Format: Events})
	f("a folder is for the format amlsim", Config{Path: dir, Format: Events})
	f("a folder with nodes.csv", Config{Path: filepath.Join(dir, "nothing"), Format: AMLSim})
	f("column 1 is \"id\"", Config{Path: folder("a", "id,isFraud,init_balance,fraudStep\n", txs), Format: AMLSim})
	f("the header has 2 columns", Config{Path: folder("b", nodes, "a,b\n"), Format: AMLSim})
	f("EOF", Config{Path: folder("c", nodes, ""), Format: AMLSim})
	f("line 3", Config{Path: folder("d", nodes, txs+"1,2\n"), Format: AMLSim})
	f("choose a start", Config{Path: folder("e", nodes, txs), Format: AMLSim, Start: time.Now()})
}

// A made-up folder, whole: opening balances in file order, none for zero, then the transfers in file order.
func TestAMLSim(t *testing.T) {
	t.Parallel()
	kafka := house(t, 1)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "nodes.csv"), "nodeid,isFraud,init_balance,fraudStep\n5,0,184.4,-1\n2,1,0,3\n9,1,0.07,-1\n4,0,-3,-1\n")
	write(t, filepath.Join(dir, "transactions.csv"), "sourceNodeId,targetNodeId,value,time\n5,2,163.3,1\n2,9,10,1\n9,9,0.01,2\n5,5,0,2\n9,2,1.234,3\n2,5,3.00,x\n9,2,2.5,30\n")
	summary, err := Run(t.Context(), Config{Config: kafka, Path: dir, Format: AMLSim})
	if err != nil || summary.Published != 6 || summary.Invalid != 4 {
		t.Fatalf("%+v, %v", summary, err)
	}
	var problems []string
	for _, p := range summary.Problems {
		problems = append(problems, fmt.Sprintf("%s:%d", filepath.Base(p.File), p.Line))
	}
	if want := []string{"nodes.csv:5", "transactions.csv:5", "transactions.csv:6", "transactions.csv:7"}; !slices.Equal(problems, want) {
		t.Errorf("problems %v, want %v", problems, want)
	}
	base := events.Event{Source: "amlsim", Kind: events.PaymentInitiated, Channel: "amlsim", Currency: events.MustCurrency("USD")}
	opening := func(id, node string, us int, amount int64) events.Event {
		e := base
		e.ID, e.PaymentID, e.CustomerID, e.Amount = id, id, "aml-"+node, amount
		e.Method, e.Purpose = eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP
		e.Time = time.Date(2026, 1, 1, 0, 0, 0, us*1000, time.UTC)
		return e
	}
	transfer := func(id, from, to string, day, us int, amount int64, label string) events.Event {
		e := base
		e.ID, e.PaymentID, e.CustomerID, e.CounterpartyID, e.Amount, e.Label = id, id, "aml-"+from, "aml-"+to, amount, label
		e.Method, e.Purpose = eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER
		e.Time = time.Date(2026, 1, 1+day, 0, 0, 0, us*1000, time.UTC)
		return e
	}
	want := []events.Event{
		opening("amlsim-open-2", "5", 2, 184_40), opening("amlsim-open-4", "9", 4, 7),
		transfer("amlsim-tx-2", "5", "2", 1, 2, 163_30, ""), transfer("amlsim-tx-3", "2", "9", 1, 3, 10_00, LabelAMLSim),
		transfer("amlsim-tx-4", "9", "9", 2, 4, 1, LabelAMLSim), transfer("amlsim-tx-8", "9", "2", 30, 8, 2_50, LabelAMLSim),
	}
	if got := decoded(t, published(t, kafka, 6)); !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v\nwant %+v", got, want)
	}
}

// No transfer is sent before every opening balance is acknowledged.
func TestOpeningBalancesSettleFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "nodes.csv"), "nodeid,isFraud,init_balance,fraudStep\n0,0,1.00,-1\n1,0,1.00,-1\n")
	write(t, filepath.Join(dir, "transactions.csv"), "sourceNodeId,targetNodeId,value,time\n0,1,2.00,1\n1,0,2.00,1\n")
	a, err := openAMLSim(Config{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	var settles []bool
	for it, err := range a.items() {
		if err != nil {
			t.Fatal(err)
		}
		settles = append(settles, it.settle)
	}
	if !slices.Equal(settles, []bool{false, false, true, false}) || a.total() != 4 {
		t.Fatalf("got %v of %d", settles, a.total())
	}
}

// The real data set: every line is an event, in file order in the one partition, money as it stands in the file.
func TestAMLSimWhole(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("..", "..", "..", "shared", "data", "amlsim")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the data set is not here: %v", err)
	}
	kafka := house(t, 1)
	summary, err := Run(t.Context(), Config{Config: kafka, Path: dir, Format: AMLSim})
	if err != nil || summary.Published != 20_000+120_558 || summary.Invalid != 0 {
		t.Fatalf("%+v, %v", summary, err)
	}
	t.Logf("%d events in %s", summary.Published, summary.Took)
	all := decoded(t, published(t, kafka, 20_000+120_558))
	labelled := 0
	for i := range all {
		want := fmt.Sprintf("amlsim-open-%d", i+2)
		if i >= 20_000 {
			want = fmt.Sprintf("amlsim-tx-%d", i-20_000+2)
		}
		if all[i].ID != want || i > 0 && all[i].Time.Before(all[i-1].Time) {
			t.Fatalf("number %d is %s at %s, want %s", i, all[i].ID, all[i].Time, want)
		}
		if all[i].Label != "" {
			labelled++
		}
	}
	if first := all[20_000]; first.CustomerID != "aml-216" || first.CounterpartyID != "aml-14730" || first.Amount != 163_30 {
		t.Errorf("the first transfer is %+v", first)
	}
	if labelled != 7885 {
		t.Errorf("%d transfers are labelled", labelled)
	}
}

// Lines of any length, with any end, are split as strings.Split does; too long ones are counted, not kept.
func TestSplitLines(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			n := rapid.SampledFrom([]int{0, 1, 20, events.MaxEventBytes, events.MaxEventBytes + 2, 3 * events.MaxEventBytes}).Draw(t, "length")
			return strings.Repeat("x", n)
		}), 1, 6).Draw(t, "lines")
		want := parts
		if want[len(want)-1] == "" { // nothing follows the last line's end
			want = want[:len(want)-1]
		}
		var got []string
		for line, err := range splitLines(strings.NewReader(strings.Join(parts, "\n"))) {
			if err != nil {
				t.Fatal(err)
			}
			if line.long > 0 {
				got = append(got, strings.Repeat("x", int(line.long)))
				continue
			}
			got = append(got, string(line.text))
		}
		for i := range got { // a long line's length counts its end
			if i < len(want) && len(got[i]) == len(want[i])+1 && len(want[i]) > events.MaxEventBytes {
				got[i] = want[i]
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%d lines, want %d", len(got), len(want))
		}
	})
}

func TestAddress(t *testing.T) {
	t.Parallel()
	f := func(line, topic, key string) {
		t.Helper()
		if gotTopic, gotKey := address([]byte(line)); gotTopic != topic || gotKey != key {
			t.Errorf("%s: %s, %q; want %s, %q", line, gotTopic, gotKey, topic, key)
		}
	}
	f(`{"type":"loan.repaid","data":{"customer_id":"C1"}}`, "loans", "C1")
	f(`{"type":"behavior.viewed","data":{"customerId":"C2"}}`, "behaviors", "C2")
	f(`{"type":"loan.repaid","datacontenttype":"application/protobuf","data_base64":"EgJDMw=="}`, "loans", "C3")
	f(`{"type":"behavior.viewed","datacontenttype":"application/protobuf","data_base64":"CgJDNA=="}`, "behaviors", "C4")
	f(`{"type":"payment.initiated","data_base64":"eyJjdXN0b21lcl9pZCI6IkM1In0="}`, "payments", "C5")
	f(`{"type":"lone.repaid","data":{"customer_id":"C6"}}`, "payments", "C6")
	f(`no JSON`, "payments", "")
	f(`{"type":"loan.repaid","data_base64":"!"}`, "loans", "")
}
