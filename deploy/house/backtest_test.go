package house

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/deploy/config"
	"sluice/pipelines/backtest"
	"sluice/pipelines/routing"
	"sluice/rules"
	"sluice/rules/packs"
	"sluice/schemas"
	"sluice/schemas/events"
	"sluice/schemas/warehouse"
)

// Events come back from the warehouse as they were published, in the order of their time; and the live ruleset, run again
// over them, says what the gate said. The gate takes events as they come over twelve partitions of three topics, a backtest in
// the order of their time, so a payment can have been decided before the sign-in that came first, or a shared device been seen
// with fewer events of other partitions: what differs is bounded and told.
func TestBacktestOfWhatTheGateDecided(t *testing.T) {
	t.Parallel()
	r := start(t, "default")
	stop := r.load(2000)
	r.until("events are decided", func(n totals) bool { return n.decided > 12_000 })
	stop()
	if err := r.Drain(t.Context(), func(int64) {}); err != nil {
		t.Fatal(err)
	}
	published := r.published()
	conn, err := warehouse.Open(r.Addresses.ClickHouse)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := &past{conn: conn}
	spans, total, err := p.spans(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan []placed, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		if err := p.stream(t.Context(), spans, out); err != nil {
			t.Error(err)
		}
	})
	defer reading.Wait()
	seen := int64(0)
	var last time.Time
	for batch := range out {
		for i := range batch {
			e := batch[i].Event
			want, known := published[e.Source+"/"+e.ID]
			want.Latitude, want.Longitude, want.Located, want.Text = 0, 0, false, ""                                             // no rule reads them
			want.Splits, want.Exchange, want.RespondBy, want.Outcome, want.Evidence = nil, events.Exchange{}, time.Time{}, 0, "" // nor these
			if e.Kind.Family() == events.Behavior {
				want.CustomerName = "" // the table has none
			}
			if !known || !reflect.DeepEqual(e, want) {
				t.Errorf("%+v\nwas published as\n%+v", e, want)
			}
			if e.Time.Before(last) {
				t.Errorf("%s after %s", e.Time, last)
			}
			last = e.Time
			seen++
		}
	}
	if seen != total || seen != int64(len(published)) {
		t.Errorf("%d events, counted %d, published %d", seen, total, len(published))
	}
	r.sameAgain()
}

// A payment that no channel could carry was approved by the rules: that is what a backtest holds against.
func TestARecordedDeclineOfRoutingIsTheRulesApproval(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rules   []string
		verdict events.Verdict
		left    int
		want    events.Verdict
	}{
		{[]string{"large", routing.RoutingRule}, events.Decline, 1, events.Approve},
		{[]string{"large"}, events.Decline, 1, events.Decline},
		{nil, events.Review, 0, events.Review},
	} {
		verdict := c.verdict
		if left := withoutRouting(c.rules, &verdict); len(left) != c.left || verdict != c.want {
			t.Errorf("%v %s: %v %s", c.rules, c.verdict, left, verdict)
		}
	}
}

// published are the events on the input topics, by source and id.
func (r *running) published() map[string]events.Event {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	s := r.Stream("test")
	all := map[string]events.Event{}
	want := read(r.Registry).decided
	client, err := s.Client(kgo.ConsumeTopics(s.Topic(schemas.Payments), s.Topic(schemas.Loans), s.Topic(schemas.Behaviors)),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	for float64(len(all)) < want {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			r.t.Fatalf("%v after %d of %g events", err, len(all), want)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			in := events.Record{Topic: rec.Topic, Partition: rec.Partition, Key: rec.Key, Value: rec.Value}
			for _, h := range rec.Headers {
				in.Headers = append(in.Headers, events.Header{Key: h.Key, Value: h.Value})
			}
			e, err := events.Decode(&in)
			if err != nil {
				r.t.Fatal(err)
			}
			all[e.Source+"/"+e.ID] = e
		})
	}
	return all
}

// sameAgain runs the live ruleset again, against itself and a stricter version.
func (r *running) sameAgain() {
	t := r.t
	t.Helper()
	stricter := filepath.Join(t.TempDir(), "stricter.yaml")
	source := strings.Replace(string(packs.Default()), "payment: {review: 50, decline: 80}", "payment: {review: 30, decline: 60}", 1)
	if err := os.WriteFile(stricter, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(t.TempDir(), "report.html")
	var out, progress bytes.Buffer
	b := &backtesting{o: BacktestOptions{Rules: stricter, JSON: true, HTML: page, Out: &out, Err: &progress}, labels: backtest.NewLabels()}
	report, _, err := b.warehouse(t.Context(), r.House)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.tell(report); err != nil {
		t.Fatal(err)
	}
	var again backtest.Report
	if err := json.Unmarshal(out.Bytes(), &again); err != nil {
		t.Fatal(err)
	}
	a := again.Again
	if a.Compared != again.Counts.Asked || a.Compared == 0 {
		t.Errorf("%d of %d verdicts were compared", a.Compared, again.Counts.Asked)
	}
	t.Logf("%d of %d verdicts are the same again", a.Same, a.Compared)
	order := orderedRules(t)
	for _, d := range a.Differ {
		t.Logf("%+v", d)
		for _, rule := range slices.Concat(d.Rules, d.RecordedRules) {
			if slices.Contains(d.Rules, rule) != slices.Contains(d.RecordedRules, rule) && !order[rule] {
				t.Errorf("%s: recorded %s by %v, again %s by %v: what %s reads comes in one order only", d.Event, d.RecordedVerdict, d.RecordedRules, d.Verdict, d.Rules, rule)
			}
		}
	}
	// Simulated days pass in seconds here, so partitions and topics overtake each other by hours; still nearly all is the same.
	if float64(a.Same) < 0.9*float64(a.Compared) {
		t.Errorf("only %d of %d verdicts are the same again", a.Same, a.Compared)
	}
	if again.Labels.Fraud == 0 || again.Rules.Flagged.Recall < again.Against.Flagged.Recall {
		t.Errorf("a stricter ruleset catches less: %+v %+v", again.Rules.Flagged, again.Against.Flagged)
	}
	if html, err := os.ReadFile(page); err != nil || !bytes.Contains(html, []byte("</html>")) || bytes.Contains(html, []byte("http")) {
		t.Errorf("the page: %v", err)
	}
}

// orderedRules are the rules of the default pack whose answer depends on the order in which partitions or topics come: they
// read what several partitions count (a device, a card, a payee), or events of another topic than the one asked about.
func orderedRules(t *testing.T) map[string]bool {
	t.Helper()
	rs, err := rules.Load("default", packs.Default())
	if err != nil {
		t.Fatal(err)
	}
	ordered := map[string]bool{}
	for i := range rs.Rules {
		for _, index := range rs.Rules[i].Reads {
			a := &rs.Aggregates[index]
			for _, kind := range events.Kinds() {
				if a.By.Shared() || a.Of.Has(kind) && !rs.Rules[i].On.Has(kind) && kind.Family() == events.Behavior {
					ordered[rs.Rules[i].ID] = true
				}
			}
		}
	}
	return ordered
}

// The accounts of an AMLSim folder are labelled by its nodes; the same folder gives the same report.
func TestBacktestOfAMLSim(t *testing.T) {
	t.Parallel()
	folder := filepath.Join("..", "..", "..", "shared", "data", "amlsim")
	if _, err := os.Stat(folder); err != nil {
		t.Skip("no AMLSim data set beside the project")
	}
	var first []byte
	for range 2 {
		var out, progress bytes.Buffer
		if err := Backtest(t.Context(), config.Config{}, BacktestOptions{Rules: "fraud", AMLSim: folder, JSON: true, Out: &out, Err: &progress}); err != nil {
			t.Fatal(err)
		}
		var r backtest.Report
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if r.Labels.Fraud != 1804 || r.Labels.Good != 18_196 || r.Unit != backtest.ByAccount || r.Counts.Asked != 140_558 || r.Against != nil {
			t.Errorf("%+v %+v %s", r.Labels, r.Counts, r.Unit)
		}
		if first != nil && !bytes.Equal(first, out.Bytes()) {
			t.Error("another report of the same data")
		}
		first = out.Bytes()
	}
}
