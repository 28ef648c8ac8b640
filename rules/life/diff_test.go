package life

import (
	"strings"
	"testing"

	"sluice/rules/packs"
)

const before = `ruleset: fraud
version: 1
aggregates:
  small: {count: payment.initiated, by: card, window: 10m}
  old: {count: payment.failed, by: card, window: 1h}
rules:
  - id: testing
    when: small >= 5
    then: {score: 60, reason: R1, say: "many"}
  - id: gone
    when: old >= 5
    then: {score: 10, reason: R2, say: "old"}
outcomes: {review: 50, decline: 80}
`

const after = `# a comment
version: 2
ruleset: fraud
outcomes: {review: 50, decline: 90}
aggregates:
  small: {count: payment.initiated, by: card, window: 20m}
rules:
  - id: new
    when: small >= 9
    then: {score: 5, reason: R3, say: "new"}
  - {id: testing, when: small >= 5, then: {score: 80, reason: R1, say: "many", verdict: decline}}
`

func TestDiff(t *testing.T) {
	t.Parallel()
	changes, err := Diff([]byte(before), []byte(after))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	PrintDiff(&out, changes)
	const want = `aggregates
  ~ small
      window  10m → 20m
  - old  {count: payment.failed, by: card, window: 1h}
rules
  + new  {id: new, when: small >= 9, then: {score: 5, reason: R3, say: new}}
  ~ testing
      then.score  60 → 80
      then.verdict  (none) → decline
  - gone  {id: gone, when: old >= 5, then: {score: 10, reason: R2, say: old}}
outcomes
  ~ decline
      80 → 90
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// A pack differs from itself in nothing, and from the empty one in every rule.
func TestDiffOfPacks(t *testing.T) {
	t.Parallel()
	for _, pack := range [][]byte{packs.Default(), packs.Fraud, packs.Credit, packs.Empty} {
		if changes, err := Diff(pack, pack); err != nil || len(changes) > 0 {
			t.Errorf("a pack differs from itself: %v, %v", changes, err)
		}
	}
	changes, err := Diff(packs.Empty, packs.Fraud)
	rules := 0
	for _, c := range changes {
		if c.Section == "rules" {
			rules++
		}
	}
	if want := strings.Count(string(packs.Fraud), "\n  - id: "); err != nil || rules != want {
		t.Errorf("%d rules were added, want %d (%v)", rules, want, err)
	}
}
