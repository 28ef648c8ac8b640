package status

import (
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/schemas/events"
)

var aHit = events.Hit{Rule: "mule", Score: 70, Reason: "R7"}

func noReason(string) string { return "" }

func TestDecisionAsShown(t *testing.T) {
	t.Parallel()
	s := New(Config{Gatherer: prometheus.NewRegistry(), Reason: func(code string) string { return "words for " + code }})
	d := decision(9, aHit)
	d.Score, d.Ruleset, d.Verdict, d.Partition = 70, "fraud@3", events.Review, 4
	d.Event.Reason = "</script><script>alert(1)</script>"
	d.Event.CustomerID = d.Event.Reason
	s.Observe(d)
	d.Hits[0].Rule = "reused by the caller"

	got := document(t, s).Decisions
	if len(got) != 1 {
		t.Fatalf("%d decisions", len(got))
	}
	v := got[0]
	if v.ID != "payments/4/9" || v.Amount != "12.345" || v.Currency != "KWD" || v.Verdict != "review" || v.Kind != "payment.initiated" ||
		v.Customer != d.Event.CustomerID || v.Ruleset != "fraud@3" || v.Score != 70 {
		t.Errorf("got %+v", v)
	}
	if len(v.Hits) != 1 || v.Hits[0] != (Hit{"mule", 70, "R7", "words for R7"}) {
		t.Errorf("hits %+v", v.Hits)
	}
	if _, header, _ := get(t, s, "/status.json"); header.Get("Content-Type") != "application/json" || header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("a browser could take the answer for a page: %v", header)
	}
}

// Decisions that hit no rule are listed at most five times a second; those that did, always.
func TestPlainDecisionsAreSampled(t *testing.T) {
	t.Parallel()
	var r recent
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range int64(10_000) { // ten seconds at a thousand a second, one in a thousand with a hit
		d := decision(i)
		if i%1000 == 0 {
			d.Hits = []events.Hit{aHit}
		}
		r.observe(d, now.Add(time.Duration(i)*time.Millisecond), noReason)
	}
	hits, plain := 0, 0
	for _, d := range r.list() {
		if len(d.Hits) > 0 {
			hits++
		} else {
			plain++
		}
	}
	if hits != 10 || plain != keptDecisions-10 {
		t.Errorf("%d with hits, %d without", hits, plain)
	}
	if n := r.plain.next.Load(); n != 50 {
		t.Errorf("%d plain decisions in ten seconds, want 50", n)
	}
}

func TestBehavioursAreNotListed(t *testing.T) {
	t.Parallel()
	var r recent
	d := decision(1)
	d.Event.Kind = events.BehaviorRegistered
	r.observe(d, time.Unix(1, 0), noReason)
	if got := r.list(); len(got) != 0 {
		t.Errorf("listed %+v", got[0])
	}
}

// On a day when everything hits, some of what passes is still seen; the list is newest first and never too long.
func TestListPrefersHits(t *testing.T) {
	t.Parallel()
	f := func(hits, plain, wantHits, wantPlain int) {
		t.Helper()
		var r recent
		now := time.Unix(1000, 0)
		for i := range max(hits, plain) {
			now = now.Add(plainEvery)
			if i < plain {
				r.observe(decision(int64(i)), now, noReason)
			}
			if i < hits {
				r.observe(decision(int64(i), aHit), now, noReason)
			}
		}
		list := r.list()
		gotHits := 0
		for i, d := range list {
			if len(d.Hits) > 0 {
				gotHits++
			}
			if i > 0 && d.order >= list[i-1].order {
				t.Errorf("not newest first at %d", i)
			}
		}
		if gotHits != wantHits || len(list)-gotHits != wantPlain {
			t.Errorf("%d hits and %d plain: %d and %d listed, want %d and %d", hits, plain, gotHits, len(list)-gotHits, wantHits, wantPlain)
		}
	}
	f(0, 0, 0, 0)
	f(3, 2, 3, 2)
	f(500, 0, 50, 0)
	f(500, 5, 45, 5)
	f(500, 500, 40, 10)
	f(0, 500, 0, 50)
}

func TestObserveFromManyGates(t *testing.T) {
	t.Parallel()
	s := New(Config{Gatherer: prometheus.NewRegistry()})
	var gates sync.WaitGroup
	for range 8 {
		gates.Go(func() {
			for i := range int64(2000) {
				if i%2 == 0 {
					s.Observe(decision(i, aHit))
				} else {
					s.Observe(decision(i))
				}
			}
		})
	}
	for range 50 {
		if n := len(s.Status(time.Now()).Decisions); n > keptDecisions {
			t.Errorf("%d decisions listed", n)
		}
	}
	gates.Wait()
	list := s.Status(time.Now()).Decisions
	if len(list) != keptDecisions {
		t.Errorf("%d decisions listed at the end, want %d", len(list), keptDecisions)
	}
}
