package house

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/rules/lists"
	"sluice/rules/packs"
	"sluice/schemas"
	"sluice/schemas/warehouse"
)

// version returns the default pack under another version.
func version(n int, edit func(string) string) []byte {
	text := regexp.MustCompile(`(?m)^version: \d+`).ReplaceAllString(string(packs.Default()), fmt.Sprintf("version: %d", n))
	return []byte(edit(text))
}

// publish puts a ruleset on the control topic.
func (r *running) publish(key string, source []byte) {
	r.t.Helper()
	client, err := r.Stream("test").Client()
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	record := &kgo.Record{Topic: r.Stream("test").Topic(schemas.Rules), Key: []byte(key), Value: source}
	if err := client.ProduceSync(r.t.Context(), record).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}

// eventually asks ClickHouse until a number is more than zero.
func (r *running) eventually(db driver.Conn, query string) {
	r.t.Helper()
	limit := time.After(patience)
	for {
		var n uint64
		if err := db.QueryRow(r.t.Context(), query).Scan(&n); err != nil {
			r.t.Fatalf("%s: %v", query, err)
		}
		if n > 0 {
			return
		}
		select {
		case <-limit:
			r.t.Fatalf("%s: still none", query)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Under load a shadow is published, a list is filled, a rule snoozed and the live ruleset changed: every promise holds, each
// decision since has one verdict of the shadow in ClickHouse, and ClickHouse alone explains decisions of both versions.
func TestRulesChangeUnderLoad(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs a whole house; -short leaves it out")
	}
	r := start(t, "default")
	db, err := warehouse.Open(r.Addresses.ClickHouse)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	stop := r.load(2000)
	r.until("load", func(n totals) bool { return n.decided > 3000 })
	r.publish(schemas.ShadowKey("strict"), version(900, func(s string) string { return strings.Replace(s, "review: 50", "review: 5", 1) }))
	r.eventually(db, "SELECT count() FROM shadow_verdicts WHERE shadow = 'strict'")

	entry, err := NewEntry("watch", "prefix", "dev-", "test", "ann", "")
	if err == nil {
		err = r.AddToLists(t.Context(), []lists.Entry{entry}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Snooze(t.Context(), "no-such-rule", "customer=C1", time.Hour, "test", "ann"); err == nil || !strings.Contains(err.Error(), "it has") {
		t.Errorf("a rule that is not there is snoozed: %v", err)
	}
	r.publish(liveRuleset, version(901, func(s string) string {
		return strings.Replace(s, "\nrules:\n", `
rules:
  - id: watched
    on: payment.initiated
    when: listed("watch", device.id)
    missing: skip
    then: {score: 1, reason: R999, say: "the device is on the list watch"}
`, 1)
	}))
	r.eventually(db, "SELECT count() FROM payments WHERE ruleset LIKE '%@901' AND has(rules, 'watched')")
	stop()
	r.verifies()
	r.shadowed(db)
	r.explains(db)
	if err := db.Exec(t.Context(), "INSERT INTO shadow_verdicts SELECT * FROM shadow_verdicts LIMIT 1"); err != nil {
		t.Fatal(err)
	}
	mustBreak(t, r, "a shadow speaks once of a decision")
}

// shadowed holds the shadow's verdicts against the decisions that ask, from the first one it was asked about on.
func (r *running) shadowed(db driver.Conn) {
	r.t.Helper()
	const query = `WITH first AS (SELECT topic, partition, min(offset) AS since FROM shadow_verdicts GROUP BY topic, partition),
		asked AS (SELECT topic, partition, offset, verdict, ruleset FROM payments WHERE type IN ('payment.initiated', 'payment.authorized') AND verdict != 'duplicate'
			UNION ALL SELECT topic, partition, offset, verdict, ruleset FROM loans WHERE type = 'loan.applied' AND verdict != 'duplicate')
		SELECT
			(SELECT count() FROM shadow_verdicts), (SELECT uniqExact(topic, partition, offset) FROM shadow_verdicts),
			(SELECT count() FROM asked JOIN first USING (topic, partition) WHERE offset >= since),
			(SELECT count() FROM asked AS a JOIN shadow_verdicts AS s USING (topic, partition, offset) WHERE a.verdict = s.live_verdict AND a.ruleset = s.live_ruleset)`
	var rows, distinct, asked, same uint64
	if err := db.QueryRow(r.t.Context(), query).Scan(&rows, &distinct, &asked, &same); err != nil {
		r.t.Fatal(err)
	}
	if rows == 0 || rows != distinct || rows != asked || rows != same {
		r.t.Errorf("%d shadow verdicts, %d distinct, of %d decisions asked, %d with the same live verdict", rows, distinct, asked, same)
	}
}

// explains asks for the explanation of some decisions of each kind, as `sluice explain` does.
func (r *running) explains(db driver.Conn) {
	r.t.Helper()
	var ids []string
	err := db.QueryRow(r.t.Context(), `SELECT groupArray(decision_id) FROM (
		SELECT decision_id FROM payments WHERE type = 'payment.initiated' AND verdict != 'duplicate' ORDER BY cityHash64(event_id) LIMIT 20 BY ruleset, verdict
		UNION ALL SELECT decision_id FROM loans WHERE type = 'loan.applied' AND verdict != 'duplicate' ORDER BY cityHash64(event_id) LIMIT 20 BY ruleset, verdict)`).Scan(&ids)
	if err != nil || len(ids) == 0 {
		r.t.Fatalf("%d decisions, %v", len(ids), err)
	}
	watched := false
	for _, id := range ids {
		x, err := explain(r.t.Context(), db, ExplainOptions{ID: id})
		if err != nil {
			r.t.Errorf("%s: %v", id, err)
			continue
		}
		if len(x.Notes) > 0 || x.Explanation.Outcome != x.Verdict || x.Explanation.Score != x.Score || x.Explanation.Ruleset != x.Ruleset {
			r.t.Errorf("%s was decided %s with score %d by %s and is explained as\n%s%v", id, x.Verdict, x.Score, x.Ruleset, x.Explanation, x.Notes)
		}
		watched = watched || len(x.Explanation.Lists) > 0
		if len(x.Shadows) > 0 {
			s, err := explain(r.t.Context(), db, ExplainOptions{ID: id, Shadow: "strict"})
			if err != nil || len(s.Notes) > 0 || s.Verdict != x.Shadows[0].Verdict {
				r.t.Errorf("what the shadow said of %s: %+v, %v", id, s, err)
			}
		}
	}
	if !watched {
		r.t.Error("no explanation names a list")
	}
	var text, object bytes.Buffer
	if err := Explain(r.t.Context(), r.Addresses.ClickHouse, ExplainOptions{ID: ids[0]}, &text); err != nil || !strings.Contains(text.String(), "customer") {
		r.t.Errorf("%v: %s", err, &text)
	}
	if err := Explain(r.t.Context(), r.Addresses.ClickHouse, ExplainOptions{ID: ids[0], JSON: true}, &object); err != nil || !strings.Contains(object.String(), `"explanation"`) {
		r.t.Errorf("%v: %s", err, &object)
	}
	r.t.Logf("\n%s", &text)
	for id, say := range map[string]string{"payments/0/99999999": "has no decision", "behaviors/0/1": "is no decision to explain", "x": "such as payments/3/1207"} {
		if _, err := explain(r.t.Context(), db, ExplainOptions{ID: id}); err == nil || !strings.Contains(err.Error(), say) {
			r.t.Errorf("%s: %v", id, err)
		}
	}
}
