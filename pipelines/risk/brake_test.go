package risk_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/pipelines/risk"
	"sluice/schemas/events"
)

// braked declines everything of 10 and more; its brake allows a fifth of what is asked about in 96 minutes, tiles of one.
const braked = `
ruleset: braked
version: 1
rules:
  - {id: bad, when: payment.amount >= 10, brake: {share: 0.2, window: 96m, after: 20}, then: {score: 90, reason: R, say: s}}
  - {id: good, when: payment.amount == 7, then: {score: 90, reason: R, say: s}}
outcomes: {review: 50, decline: 80}
`

// TestABadRuleIsHeldAtItsShare: whatever the pace, and over three partitions in one gate, the rule turns events into
// declines while fewer than 20 are asked about, and beyond that while one more keeps it within a fifth of them: of those in
// the window and the tile that its far edge lies in. When it is held it asks for review. Other rules go on declining.
func TestABadRuleIsHeldAtItsShare(t *testing.T) {
	t.Parallel()
	engine := load(t, braked)
	rapid.Check(t, func(t *rapid.T) {
		state := owner(engine, 0, 1, 2)
		now := noon
		type ask struct {
			at      time.Time
			charged bool
		}
		var past []ask
		for i := range rapid.IntRange(1, 300).Draw(t, "events") {
			now = now.Add(rapid.SampledFrom([]time.Duration{0, time.Second, 30 * time.Second, 3 * time.Minute, 40 * time.Minute}).Draw(t, "pause"))
			yuan := rapid.SampledFrom([]int64{10, 10, 7, 5}).Draw(t, "amount")
			s := (&story{at: now}).pay(fmt.Sprint("c", i%7), yuan, purchase)
			s.all[0].ID = fmt.Sprint(i)
			d := state.Decide(int32(i%3), &s.all[0])
			if rapid.IntRange(0, 3).Draw(t, "commit") == 0 {
				state.Commit()
			}
			past = append(past, ask{at: now})
			first := now.Truncate(time.Minute).Add(-window) // the tile that the window's far edge lies in
			asked, charged := 0, 0
			for _, p := range past {
				if !p.at.Before(first) {
					asked++
					if p.charged {
						charged++
					}
				}
			}
			held := asked >= 20 && 5*(charged+1) > asked
			switch {
			case yuan == 10:
				if d.Hits[0].Braked != held || (d.Verdict == events.Review) != held || (d.Verdict == events.Decline) == held {
					t.Fatalf("event %d: %s, braked %v; %d are asked about, %d declined", i, d.Verdict, d.Hits[0].Braked, asked, charged)
				}
			case yuan == 7 && d.Verdict != events.Decline, yuan == 5 && d.Verdict != events.Approve:
				t.Fatalf("event %d of %d yuan: %s", i, yuan, d.Verdict)
			}
			past[i].charged = yuan == 10 && d.Verdict == events.Decline
		}
	})
}

// TestGatesShareABrake: three gates that follow each other hold a rule at its share together, as one gate does; and a gate
// that takes over from gate.state goes on where it was.
func TestGatesShareABrake(t *testing.T) {
	t.Parallel()
	engine := load(t, braked)
	gates, disk := []*risk.State{owner(engine, 0), owner(engine, 1), owner(engine, 2)}, gateState{}
	random := rand.New(rand.NewPCG(3, 4))
	declined := 0
	s := &story{at: noon}
	const n = 2000
	for i := range n {
		p := random.IntN(3)
		s.after(time.Second).pay(fmt.Sprint("c", i), 10, purchase)
		if gates[p].Decide(int32(p), &s.all[i]).Verdict == events.Decline {
			declined++
		}
		disk.take(gates[p])
		gates[p].Staged(func(q int32, key, value []byte) {
			for _, g := range gates {
				if err := g.Follow(q, key, value); err != nil {
					t.Fatal(err)
				}
			}
		})
		gates[p].Commit()
		if i%100 == 99 { // another gate takes the partition over
			gates[p] = owner(engine, int32(p))
			for q, keys := range disk {
				for key, value := range keys {
					take := gates[p].Follow
					if q == int32(p) {
						take = gates[p].Restore
					}
					if err := take(q, []byte(key), value); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	if declined != n/5 { // 2,000 seconds are less than the window
		t.Errorf("%d of %d are declined", declined, n)
	}
	for key := range disk[0] {
		if strings.HasPrefix(key, "brakes:") != (key == "brakes:*" || key == "brakes:bad") {
			t.Errorf("a brake's key is %s", key)
		}
	}
}

// TestNoEntityHasABrakesKey: whatever events carry, what is kept of them lies elsewhere than what brakes count.
func TestNoEntityHasABrakesKey(t *testing.T) {
	t.Parallel()
	engine := load(t, withRules(everything, all...))
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"", "*", "stop", "brakes:*", "brakes:stop", "*:brakes", "brakes"})
		state := owner(engine, 0)
		s := (&story{at: noon}).pay("brakes:stop", 5, purchase)
		e := &s.all[0]
		e.CustomerID = rapid.SampledFrom([]string{"*", "stop", "brakes:*", "brakes:stop"}).Draw(t, "customer")
		e.DeviceID, e.MerchantID, e.CounterpartyID = name.Draw(t, "device"), name.Draw(t, "merchant"), name.Draw(t, "payee")
		state.Decide(0, e)
		brakes := 0
		state.Staged(func(_ int32, key, _ []byte) {
			if strings.HasPrefix(string(key), "brakes:") {
				brakes++
			}
		})
		if brakes != 1 { // asked about, not declined
			t.Fatalf("%d records of brakes", brakes)
		}
	})
}
