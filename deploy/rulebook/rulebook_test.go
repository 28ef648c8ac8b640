package rulebook

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/poster"
	"sluice/consumers/stream"
	"sluice/deploy/embedded/enginestest"
	"sluice/rules/life"
	"sluice/rules/packs"
)

// promoterPostgres and promoterKafka make the test binary be somebody who promotes fraud@2, for a test that kills it.
const (
	promoterPostgres = "SLUICE_TEST_PROMOTER_POSTGRES"
	promoterKafka    = "SLUICE_TEST_PROMOTER_KAFKA"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(promoterPostgres); url != "" {
		b := New(Config{Config: stream.Config{Brokers: []string{os.Getenv(promoterKafka)}}, Postgres: url})
		_, err := b.Promote(context.Background(), life.Ref{Name: "fraud", Number: 2}, life.Ref{Name: "fraud", Number: 1}, "ann", "measured")
		fmt.Println("it should have been killed:", err)
		os.Exit(3)
	}
	os.Exit(enginestest.Main(m))
}

// fraud is a version of a ruleset that says its number.
func fraud(number int) []byte {
	return fmt.Appendf(nil, "# version: 99 in a comment\nruleset: fraud\nversion: %d # of the team\nrules:\n  - id: large\n    when: payment.amount >= %d\n    then: {score: 50, reason: R1, say: \"large\"}\noutcomes: {review: 50}\n", number, number*1000)
}

func at(number int) life.Ref { return life.Ref{Name: "fraud", Number: number} }

// before is the version before, nothing before the first.
func before(number int) life.Ref {
	if number == 1 {
		return life.Ref{}
	}
	return at(number - 1)
}

// world is a rulebook on engines of its own.
type world struct {
	*Book
	t  *testing.T
	db *pgx.Conn
}

func newWorld(t *testing.T) *world {
	t.Helper()
	env := enginestest.New(t, enginestest.Kafka, enginestest.Postgres)
	b := New(Config{Config: stream.Config{Brokers: env.Kafka, Prefix: env.Prefix, Partitions: 1}, Postgres: env.PostgresURL})
	if err := poster.Migrate(t.Context(), b.Postgres); err != nil {
		t.Fatal(err)
	}
	if err := b.EnsureTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	db, err := pgx.Connect(t.Context(), b.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	return &world{b, t, db}
}

// did ends the test if an order that must succeed did not; it says where the version then stands.
func (w *world) did(v life.Version, err error) func(life.Status) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	return func(want life.Status) {
		w.t.Helper()
		if v.Status != want {
			w.t.Fatalf("%s is %s, want %s", v.Ref, v.Status, want)
		}
	}
}

func (w *world) refused(code life.Code, err error) {
	w.t.Helper()
	if r := new(life.Refusal); !errors.As(err, &r) || r.Code != code {
		w.t.Errorf("%v, want the refusal %s", err, code)
	}
}

// approved brings a version of ann's to where ben has approved it.
func (w *world) approved(number int) {
	w.t.Helper()
	ctx, ref := w.t.Context(), at(number)
	w.did(w.Submit(ctx, Submission{File: "fraud.yaml", Source: fraud(number), By: "ann", Why: "losses"}))(life.Draft)
	w.did(w.Check(ctx, ref, "ann"))(life.Checked)
	w.did(w.Test(ctx, ref, "ann", Result{Passed: true, Detail: map[string]string{"cases": "12"}}))(life.Tested)
	w.did(w.Approve(ctx, ref, "ben", "reads well"))(life.Approved)
}

// onTopic checks what gates read under a key; nil: nothing.
func (w *world) onTopic(key string, want []byte) {
	w.t.Helper()
	topic, err := w.topic(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if got := topic[key]; string(got) != string(want) {
		w.t.Errorf("on the topic under %s:\n%s\nwant\n%s", key, got, want)
	}
}

// holds checks that the audit is without a breach and returns it as a table.
func (w *world) holds(name string) string {
	w.t.Helper()
	h, err := w.History(w.t.Context(), name)
	if err != nil || len(h.Breaches) > 0 {
		w.t.Fatal(err, h.Breaches)
	}
	var out strings.Builder
	if err := h.Table(&out); err != nil {
		w.t.Fatal(err)
	}
	return out.String()
}

func TestWholeLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.did(w.Submit(ctx, Submission{File: "fraud.yaml", Source: fraud(1), By: "ann", Why: "losses"}))(life.Draft)
	w.did(w.Check(ctx, at(1), "ann"))(life.Checked)
	_, err := w.Approve(ctx, at(1), "ben", "trust me")
	w.refused(life.TooEarly, err)
	_, err = w.Test(ctx, at(1), "ann", Result{Source: fraud(2), Passed: true})
	w.refused(life.OtherSource, err)
	w.did(w.Test(ctx, at(1), "ann", Result{Source: fraud(1), Passed: true}))(life.Tested)
	w.did(w.RecordBacktest(ctx, at(1), "ann", Result{Detail: map[string]string{"events": "100000", "declined": "0.4 %"}}))(life.Backtested)
	w.did(w.Shadow(ctx, at(1), "ann", "a week"))(life.Shadow)
	w.onTopic("shadow/fraud", fraud(1))
	w.did(w.Unshadow(ctx, at(1), "ann", ""))(life.Backtested)
	w.onTopic("shadow/fraud", nil)
	w.did(w.Shadow(ctx, at(1), "ann", "another week"))(life.Shadow)
	_, err = w.Approve(ctx, at(1), "Ann", "I am sure")
	w.refused(life.OwnWork, err)
	_, err = w.Promote(ctx, at(1), life.Ref{}, "ann", "I am sure")
	w.refused(life.TooEarly, err)
	w.did(w.Approve(ctx, at(1), "ben", "the shadow agrees"))(life.Approved)
	w.onTopic("default", nil)
	w.did(w.Promote(ctx, at(1), life.Ref{}, "ann", "Monday"))(life.Live)
	w.onTopic("default", fraud(1))
	w.onTopic("shadow/fraud", nil)

	w.approved(2)
	w.did(w.Promote(ctx, at(2), at(1), "cat", "measured"))(life.Live)
	w.onTopic("default", fraud(2))
	w.did(w.Rollback(ctx, life.Ref{}, at(2), "dan", "declines doubled"))(life.Live)
	w.onTopic("default", fraud(1)) // the same bytes, comments and all
	audit := w.holds("fraud")
	for _, want := range []string{"events=100000", "declines doubled", "rolled_back", "the shadow agrees", "without=backtested, shadow"} {
		if !strings.Contains(audit, want) {
			t.Errorf("the history does not say %q:\n%s", want, audit)
		}
	}
	if repaired, err := w.Reconcile(ctx); err != nil || repaired != nil {
		t.Errorf("there was something to repair: %v, %v", repaired, err)
	}
}

// One version of a ruleset is in the shadow at a time, and its end leaves the topic with a record that stays.
func TestShadowReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.approved(1)
	w.approved(2)
	w.did(w.Promote(t.Context(), at(1), life.Ref{}, "ann", "first"))(life.Live)
	w.approved(3)
	w.did(w.Shadow(t.Context(), at(2), "ann", ""))(life.Approved)
	w.did(w.Shadow(t.Context(), at(3), "ann", ""))(life.Approved)
	w.onTopic("shadow/fraud", fraud(3))
	w.did(w.Reject(t.Context(), at(3), "ben", "too strict"))(life.Rejected)
	w.onTopic("shadow/fraud", nil)
	w.holds("fraud")
	records := w.records()
	if last := records[len(records)-1]; string(last.Key) != "default" || last.Value == nil {
		t.Errorf("the topic ends with %s %q: once a deletion is forgotten its readers wait", last.Key, last.Value)
	}
}

func (w *world) records() []*kgo.Record {
	w.t.Helper()
	client, err := w.Client(kgo.ConsumeTopics(w.Topic("rules")), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	// A mark of our own ends the wait.
	mark := &kgo.Record{Topic: w.Topic("rules"), Key: []byte("mark")}
	if err := client.ProduceSync(w.t.Context(), mark).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
	var all []*kgo.Record
	for {
		for _, r := range client.PollFetches(w.t.Context()).Records() {
			if string(r.Key) == "mark" {
				return all
			}
			all = append(all, r)
		}
	}
}

// A file made from an older version than the newest would undo what came between.
func TestSubmitNumbers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.did(w.Submit(ctx, Submission{File: "f", Source: fraud(7), By: "ann"}))(life.Draft) // brought from elsewhere
	for _, number := range []int{6, 7, 9} {
		_, err := w.Submit(ctx, Submission{File: "f", Source: fraud(number), By: "ben"})
		w.refused(life.WrongNumber, err)
	}
	v, err := w.Submit(ctx, Submission{File: "f", Source: fraud(7), By: "ben", Renumber: true})
	w.did(v, err)(life.Draft)
	source, err := w.Source(ctx, at(8))
	if want := strings.Replace(string(fraud(7)), "version: 7 ", "version: 8 ", 1); v.Ref != at(8) || err != nil || string(source) != want {
		t.Errorf("%s, %v:\n%s\nwant\n%s", v.Ref, err, source, want)
	}
	if _, err := w.Submit(ctx, Submission{File: "f", Source: []byte("ruleset: fraud\nversion: 9\nrule: []\n"), By: "ann"}); err == nil || !strings.Contains(err.Error(), "f:3") {
		t.Errorf("a file with a mistake: %v", err)
	}
	if _, err := w.Submit(ctx, Submission{File: "f", Source: []byte("{ruleset: fraud, version: 1}"), By: "ann", Renumber: true}); !errors.Is(err, errNoVersionLine) {
		t.Errorf("a number that cannot be written in: %v", err)
	}
}

// The process that promotes is killed between its commit and its publication. Kafka has the old ruleset until somebody looks.
func TestCrashBetweenCommitAndPublication(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.approved(1)
	w.did(w.Promote(ctx, at(1), life.Ref{}, "ann", "first"))(life.Live)
	w.approved(2)
	deaf := w.deafKafka()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), promoterPostgres+"="+w.Postgres, promoterKafka+"="+deaf.Addr().String())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := deaf.Accept(); err != nil { // it publishes: it has committed
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	w.onTopic("default", fraud(1))
	s, err := w.Status(ctx)
	if err != nil || s.Live == nil || s.Live.Ref != at(2) || len(s.Repaired) != 1 || s.Repaired[0] != "default" {
		t.Errorf("%v: %+v", err, s)
	}
	w.onTopic("default", fraud(2))
	w.holds("fraud")
}

// deafKafka takes connections and never answers.
func (w *world) deafKafka() net.Listener {
	w.t.Helper()
	deaf, err := new(net.ListenConfig).Listen(w.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = deaf.Close() })
	return deaf
}

// A Kafka that does not answer loses nothing: the order stands and says so.
func TestUnpublishedOrderSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.approved(1)
	deaf := w.deafKafka()
	away := *w.Book
	away.Brokers = []string{deaf.Addr().String()}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // the person gives up waiting for Kafka
		_, _ = deaf.Accept()
		cancel()
	}()
	_, err := away.Promote(ctx, at(1), life.Ref{}, "ann", "first")
	if u := new(Unpublished); !errors.As(err, &u) {
		t.Fatalf("%v, want it to be said that Kafka lacks it", err)
	}
	if repaired, err := w.Reconcile(t.Context()); err != nil || len(repaired) != 1 {
		t.Errorf("repaired %v, %v", repaired, err)
	}
	w.onTopic("default", fraud(1))
}

// live asks the table, without waiting for anybody's lock.
func (w *world) live() (life.Ref, error) {
	var ref life.Ref
	err := w.db.QueryRow(w.t.Context(), "SELECT name, version FROM rulesets WHERE status = 'live'").Scan(&ref.Name, &ref.Number)
	if errors.Is(err, pgx.ErrNoRows) {
		return ref, nil
	}
	return ref, err
}

// Of those who promote at once over the same live version one wins; the others are told that it is another now.
func TestPromoteAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.approved(1)
	w.did(w.Promote(ctx, at(1), life.Ref{}, "ann", "first"))(life.Live)
	numbers := []int{2, 3, 4}
	for _, n := range numbers {
		w.approved(n)
	}
	var all sync.WaitGroup
	errs := make([]error, len(numbers))
	for i, n := range numbers {
		all.Go(func() { _, errs[i] = w.Promote(ctx, at(n), at(1), "ann", "measured") })
	}
	all.Wait()
	won := 0
	for i, n := range numbers {
		if errs[i] == nil {
			won = n
			continue
		}
		w.refused(life.LiveChanged, errs[i])
	}
	if live, err := w.live(); err != nil || won == 0 || live != at(won) {
		t.Errorf("%s is live, fraud@%d won (%v)", live, won, err)
	}
	w.onTopic("default", fraud(won))
	if n := strings.Count(w.holds("fraud"), "promote"); n != 2 {
		t.Errorf("%d promotions, want 2", n)
	}
}

// Orders from many processes at once leave one gapless chain, and Kafka with what Postgres says.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	var all sync.WaitGroup
	const people = 4
	for i := range people {
		all.Go(func() {
			for j := range 3 {
				if _, err := w.Publish(ctx, Submission{File: "f", Source: fraud(1 + i*10 + j), By: fmt.Sprintf("p%d", i), Why: "try"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := strings.Count(w.holds("fraud"), "UNREVIEWED"); n != people*3 {
		t.Errorf("%d publications, want %d", n, people*3)
	}
	live, err := w.live()
	if err != nil {
		t.Fatal(err)
	}
	source, err := w.Source(ctx, live)
	if err != nil {
		t.Fatal(err)
	}
	w.onTopic("default", source)
}

// The short way says that it is one, and is shut where review is required.
func TestPublishUnreviewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	first := func() ([]byte, error) { return packs.Default(), nil }
	if err := w.Begin(ctx, first); err != nil {
		t.Fatal(err)
	}
	w.onTopic("default", packs.Default())
	if err := w.Begin(ctx, func() ([]byte, error) { return nil, errors.New("asked again") }); err != nil {
		t.Fatal(err)
	}
	v, err := w.Publish(ctx, Submission{File: "f", Source: fraud(1), By: "ann", Why: "try"})
	w.did(v, err)(life.Live)
	again, err := w.Publish(ctx, Submission{File: "f", Source: fraud(1), By: "ben", Why: "try"})
	if w.did(again, err)(life.Live); again.Ref != v.Ref || !again.Unreviewed {
		t.Errorf("the same again: %+v", again)
	}
	strict := *w.Book
	strict.RequireReview = true
	if err := strict.Begin(ctx, first); err != nil {
		t.Fatal(err)
	}
	_, err = w.Publish(ctx, Submission{File: "f", Source: fraud(2), By: "ann", Why: "try"}) // who does not say so is bound too
	w.refused(life.ReviewRequired, err)
	w.onTopic("default", fraud(1))
	w.did(w.Rollback(ctx, life.Ref{}, v.Ref, "ann", "back to the pack"))(life.Live) // the emergency exit stays open
	w.onTopic("default", packs.Default())
	if audit := w.holds(""); strings.Count(audit, "UNREVIEWED") != 2 {
		t.Errorf("the audit does not say that nobody reviewed it:\n%s", audit)
	}
}

// A house that is older than its rulebook: what its gates decide by is taken over, not replaced.
func TestBeginTakesOverWhatIsLive(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		found []byte
		live  life.Ref
	}{"live": {fraud(12), at(12)}, "broken": {[]byte("rulset: fraud"), life.Ref{Name: "default", Number: 1}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if err := w.produce(t.Context(), []*kgo.Record{w.record("default", c.found)}); err != nil {
				t.Fatal(err)
			}
			if err := w.Begin(t.Context(), func() ([]byte, error) { return packs.Default(), nil }); err != nil {
				t.Fatal(err)
			}
			if live, err := w.live(); live != c.live || err != nil {
				t.Errorf("%s is live, want %s (%v)", live, c.live, err)
			}
			w.holds("")
		})
	}
}

// The control topic follows the rulebook, not the other way round.
func TestReconcileUndoesWhatOthersPublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.approved(1)
	w.did(w.Promote(t.Context(), at(1), life.Ref{}, "ann", "first"))(life.Live)
	if err := w.produce(t.Context(), []*kgo.Record{w.record("default", packs.Empty), w.record("shadow/x", packs.Empty), w.record("other", packs.Empty)}); err != nil {
		t.Fatal(err)
	}
	if repaired, err := w.Reconcile(t.Context()); err != nil || strings.Join(repaired, " ") != "shadow/x default" {
		t.Errorf("repaired %v, %v", repaired, err)
	}
	w.onTopic("default", fraud(1))
	w.onTopic("shadow/x", nil)
	w.onTopic("other", packs.Empty) // another house's business
}

// What is changed in the tables behind the rulebook's back is noticed, and nothing is decided or published on its word; the
// way back stays open.
func TestTamperingIsNoticed(t *testing.T) {
	t.Parallel()
	off := func(table, trigger, sql string) []string {
		return []string{"ALTER TABLE " + table + " DISABLE TRIGGER " + trigger, sql}
	}
	for name, statements := range map[string][]string{
		"reason":   off("ruleset_steps", "append_only", "UPDATE ruleset_steps SET why = 'nobody saw this' WHERE action = 'approve' AND version = 2"),
		"approver": off("ruleset_steps", "append_only", "UPDATE ruleset_steps SET who = 'eve' WHERE action = 'approve' AND version = 2"),
		"detail":   off("ruleset_steps", "append_only", `UPDATE ruleset_steps SET detail = '["x"]' WHERE action = 'test' AND version = 2`),
		"removed":  off("ruleset_steps", "append_only", "DELETE FROM ruleset_steps WHERE sequence = (SELECT max(sequence) FROM ruleset_steps)"),
		"text":     off("rulesets", "keep_text", "UPDATE rulesets SET source = 'x', sha256 = sha256('x') WHERE version = 3"),
		"smuggled": {"INSERT INTO ruleset_steps SELECT name, 99, 3, 'shadow', 'tested', 'shadow', 'eve', at, '', author, sha256, '{}', hash, hash FROM ruleset_steps WHERE version = 3"},
		"status":   {"UPDATE rulesets SET status = 'approved', tested = true, approved_by = 'eve' WHERE version = 3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ctx := t.Context()
			for _, n := range []int{1, 2} {
				w.approved(n)
				w.did(w.Promote(ctx, at(n), before(n), "ann", "measured"))(life.Live)
			}
			w.did(w.Submit(ctx, Submission{File: "f", Source: fraud(3), By: "ann"}))(life.Draft)
			w.holds("fraud")
			for _, sql := range statements {
				if _, err := w.db.Exec(ctx, sql); err != nil {
					t.Fatal(err)
				}
			}
			h, err := w.History(ctx, "fraud")
			if err != nil || len(h.Breaches) == 0 {
				t.Fatalf("not noticed: %v", err)
			}
			t.Log(h.Breaches)
			_, err = w.Promote(ctx, at(3), at(2), "ann", "quick")
			w.refused(life.BrokenAudit, err)
			if repaired, err := w.Reconcile(ctx); err != nil || repaired != nil {
				t.Errorf("published %v on its word (%v)", repaired, err)
			}
			w.did(w.Rollback(ctx, life.Ref{}, at(2), "dan", "emergency"))(life.Live)
			w.onTopic("default", fraud(1))
		})
	}
}

// The database has the last word, whoever writes.
func TestDatabaseVetoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.approved(1)
	w.did(w.Submit(t.Context(), Submission{File: "f", Source: fraud(2), By: "ann"}))(life.Draft)
	for name, c := range map[string]struct{ sql, code string }{
		"change of a step":        {"UPDATE ruleset_steps SET why = 'x'", "23001"},
		"removal of a step":       {"DELETE FROM ruleset_steps", "23001"},
		"removal of all":          {"TRUNCATE ruleset_steps", "23001"},
		"change of a text":        {"UPDATE rulesets SET source = 'x', sha256 = sha256('x')", "23001"},
		"change of an author":     {"UPDATE rulesets SET author = 'eve'", "23001"},
		"removal of a version":    {"DELETE FROM rulesets", "23001"},
		"removal of a chain":      {"DELETE FROM ruleset_chains", "23001"},
		"approval by the author":  {"UPDATE rulesets SET approved_by = 'ANN'", "23514"},
		"live without approval":   {"UPDATE rulesets SET status = 'live' WHERE version = 2", "23514"},
		"two live":                {"UPDATE rulesets SET status = 'live', unreviewed = true", "23505"},
		"two in the shadow":       {"UPDATE rulesets SET in_shadow = true", "23505"},
		"a text of another hash":  {"INSERT INTO rulesets SELECT name, 9, 'x', sha256, author, now(), status, false, '', false, false, now() FROM rulesets WHERE version = 2", "23514"},
		"step of no version":      {"INSERT INTO ruleset_steps SELECT name, 99, 99, action, from_status, to_status, who, at, why, author, sha256, detail, hash, hash FROM ruleset_steps WHERE sequence = 1", "23503"},
		"step in another's place": {"INSERT INTO ruleset_steps SELECT * FROM ruleset_steps WHERE sequence = 1", "23505"},
		"step approved by author": {"INSERT INTO ruleset_steps SELECT name, 99, version, 'approve', 'tested', 'approved', 'Ann', at, 'x', author, sha256, detail, hash, hash FROM ruleset_steps WHERE sequence = 1", "23514"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.db.Exec(t.Context(), c.sql)
			if pg := new(pgconn.PgError); !errors.As(err, &pg) || pg.Code != c.code {
				t.Errorf("%s: %v, want SQLSTATE %s", c.sql, err, c.code)
			}
		})
	}
}
