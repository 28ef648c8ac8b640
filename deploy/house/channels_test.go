package house

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pipelines/routing"
	"sluice/schemas"
	"sluice/schemas/warehouse"
)

// Under load a file of channels is published: payments get routes, every promise holds, explain tells the route, and show and
// route answer from what is live; then the house chooses none any more.
func TestChannelsUnderLoad(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs a whole house; -short leaves it out")
	}
	r := start(t, "default")
	ctx := t.Context()
	db, err := warehouse.Open(r.Addresses.ClickHouse)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := r.ShowChannels(ctx, &bytes.Buffer{}, time.Time{}); err == nil || !strings.Contains(err.Error(), "sluice channels publish") {
		t.Errorf("without channels: %v", err)
	}
	stop := r.load(2000)
	r.until("load", func(n totals) bool { return n.decided > 1000 })
	r.Config.Channels = "standard"
	for range 2 { // the second finds it published
		if err := r.prepareChannels(ctx); err != nil {
			t.Fatal(err)
		}
	}
	r.eventually(db, "SELECT count() FROM payments WHERE route = 'acquirer-a' AND method = 'card'")
	r.eventually(db, "SELECT count() FROM payments WHERE route = 'bank-a' AND purpose = 'top_up'")
	// Of one instrument, another table: its id stands in the reasons.
	next := strings.NewReplacer("version: 2", "version: 3", "name: acquirer-a", "name: acquirer-c").Replace(string(routing.Standard))
	file := filepath.Join(t.TempDir(), "next.yaml")
	publish := func(text string) error {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		table, err := LoadChannels(file)
		if err != nil {
			t.Fatal(err)
		}
		return r.PublishChannels(ctx, table, "ann")
	}
	if err := publish(strings.Replace(next, "version: 3", "version: 2", 1)); err == nil || !strings.Contains(err.Error(), "version: 3") {
		t.Errorf("the same version with another text: %v", err)
	}
	if err := publish(next); err != nil {
		t.Fatal(err)
	}
	r.eventually(db, "SELECT count() FROM payments WHERE route = 'acquirer-c' AND endsWith(route_reason, 'standard@3')")
	stop()
	for _, row := range r.verifies().Rows {
		if row.Promise == "a payment is booked on the channel chosen for it" && row.Checked == 0 {
			t.Error("no routed payment was held against the book")
		}
	}
	var id, reason string
	if err := db.QueryRow(ctx, "SELECT decision_id, route_reason FROM payments WHERE route = 'acquirer-c' LIMIT 1").Scan(&id, &reason); err != nil {
		t.Fatal(err)
	}
	says := func(what string, do func(*bytes.Buffer) error, texts ...string) {
		t.Helper()
		var out bytes.Buffer
		if err := do(&out); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for _, text := range texts {
			if !strings.Contains(out.String(), text) {
				t.Errorf("%s does not say %q:\n%s", what, text, &out)
			}
		}
		t.Logf("%s\n%s", what, &out)
	}
	says("explain", func(w *bytes.Buffer) error { return Explain(ctx, r.Addresses.ClickHouse, ExplainOptions{ID: id}, w) }, "payment channel acquirer-c ("+reason+")")
	says("show", func(w *bytes.Buffer) error { return r.ShowChannels(ctx, w, time.Time{}) }, "standard@3", " by ann", "acquirer-c", "up")
	says("show of another day", func(w *bytes.Buffer) error {
		return r.ShowChannels(ctx, w, time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))
	}, "before 2020-01-01T00:00:00Z", "acquirer-c  up     -        0")
	question := RouteQuestion{Method: "card", Purpose: "purchase", Amount: "100.00", Currency: "CNY"}
	says("route", func(w *bytes.Buffer) error { return r.AskRoute(ctx, w, question) }, "acquirer-c\ncheapest of 3 healthy: acquirer-c 0.55 %", "next: acquirer-b, backup")
	question.Currency, question.At = "JPY", time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	question.Amount = "5000"
	says("route of another currency", func(w *bytes.Buffer) error { return r.AskRoute(ctx, w, question) }, "backup\ncheapest of 1 healthy", "2026-01-31T12:00:00Z", "not that method and currency")
	question.Currency = "KWD"
	says("no route", func(w *bytes.Buffer) error { return r.AskRoute(ctx, w, question) }, "declined with R_NOROUTE", "none can carry it")
	question.Method = "cheque"
	if err := r.AskRoute(ctx, &bytes.Buffer{}, question); err == nil || !strings.Contains(err.Error(), "--method") {
		t.Error(err)
	}
	if err := db.Exec(ctx, "INSERT INTO payments (event_time, verdict, route, topic, partition, offset, decided_partition, decided_offset) SELECT event_time, 'approve', 'elsewhere', topic, partition, offset, 99, 1 FROM payments WHERE route = 'acquirer-c' AND verdict = 'approve' AND decision_id IN (SELECT decision_id FROM postings) LIMIT 1"); err != nil {
		t.Fatal(err)
	}
	mustBreak(t, r, "a payment is booked on the channel chosen for it")
	if err := r.EndChannels(ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	if live, err := r.LiveChannels(ctx); err != nil || live != nil {
		t.Errorf("%v, %v", live, err)
	}
	if err := publish(strings.Replace(next, "explore: 0.02", "explore: 0.03", 1)); err == nil || !strings.Contains(err.Error(), "version: 4") {
		t.Errorf("another text under a version that was live before: %v", err)
	}
	if err := publish(strings.Replace(next, "version: 3", "version: 2", 1)); err == nil || !strings.Contains(err.Error(), "version: 4") {
		t.Errorf("a lower version than was live before: %v", err)
	}
	if err := publish(next); err != nil {
		t.Errorf("the same text once more: %v", err)
	}
	if live, err := r.LiveChannels(ctx); err != nil || live == nil || live.Version != 3 {
		t.Errorf("%v, %v", live, err)
	}
}

// What was published is known by the last record of the compacted topic, whatever stands before it; records of an older sluice, which say
// nothing of it, are understood; how many names are remembered has a limit.
func TestPublishedVersions(t *testing.T) {
	t.Parallel()
	table := func(name string, version int, more string) *routing.Table {
		text := fmt.Sprintf("routing: %s\nversion: %d\nchannels:\n  - {name: a, methods: [card], purposes: [purchase], currencies: [CNY], fees: [{bps: 60%s}]}\n", name, version, more)
		loaded, err := routing.Load("test.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return loaded
	}
	p := publishedVersions{}
	p.add(table("main", 7, ""))
	p.add(table("night", 2, ""))
	p.add(table("main", 3, "")) // does not lower it
	told, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	last := publishedVersions{}
	last.read(&kgo.Record{Value: []byte(schemas.ChannelsOff), Headers: []kgo.RecordHeader{{Key: headerBy, Value: []byte("ann")}, {Key: headerPast, Value: told}}})
	for _, c := range []struct {
		table *routing.Table
		want  string
	}{
		{table("main", 8, ""), ""}, {table("main", 7, ""), ""}, {table("night", 2, ""), ""}, {table("other", 1, ""), ""},
		{table("main", 7, ".5"), "version: 8"}, {table("main", 6, ""), "version: 8"}, {table("night", 2, ".5"), "version: 3"},
	} {
		if err := last.check(c.table); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.table.ID(), err, c.want)
		}
	}
	old := publishedVersions{}
	old.read(&kgo.Record{Value: []byte(schemas.ChannelsOff), Headers: []kgo.RecordHeader{{Key: headerPast, Value: []byte("{")}}})
	if err := old.check(table("main", 1, "")); err != nil || len(old) != 0 {
		t.Errorf("%v, %v", old, err)
	}
	for i := range maxPast {
		old.note(fmt.Sprint("t", i), publishedVersion{Version: 1})
	}
	if err := old.check(table("main", 1, "")); err == nil {
		t.Error("the names that are remembered have no limit")
	}
}
