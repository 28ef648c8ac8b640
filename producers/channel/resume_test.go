package channel

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Whatever order the acknowledgements come in: the settled position is the newest mark before which nothing is open, by
// a list of what is open.
func TestTrackerAgreesWithAList(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var tracker Tracker[int]
		open := map[int]func(error){} // by number of the event
		sent, marked, settled := 0, []int{}, -1
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				open[sent] = tracker.Sent()
				sent++
			case 2:
				if len(open) > 0 {
					n := rapid.SampledFrom(slices.Sorted(maps.Keys(open))).Draw(t, "acknowledged")
					open[n](nil)
					delete(open, n)
				}
			case 3:
				tracker.Mark(sent)
				marked = append(marked, sent)
			}
			want := -1
			for _, m := range marked {
				if m <= oldest(open, sent) {
					want = m
				}
			}
			if p, moved := tracker.Settled(); moved {
				settled = p
			}
			if settled != want {
				t.Fatalf("settled %d, want %d", settled, want)
			}
		}
	})
}

func oldest(open map[int]func(error), sent int) int {
	least := sent
	for n := range open {
		least = min(least, n)
	}
	return least
}

func TestAFailedEventIsNeverSettled(t *testing.T) {
	t.Parallel()
	var tracker Tracker[int]
	failure := errors.New("failed")
	tracker.Sent()(failure)
	tracker.Sent()(errors.New("another"))
	tracker.Mark(2)
	if p, moved := tracker.Settled(); moved || tracker.Err() != failure {
		t.Fatalf("settled %d, %v", p, tracker.Err())
	}
}

// At 100 a second for ten seconds of a fake clock there are 1,000 events, and a stall is not made up for by a flood.
func TestPacer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		p := NewPacer(100)
		n := 0
		for p.Wait(ctx) == nil {
			n++
		}
		if n < 1000 || n > 1000+12 { // and what 100 ms make up for
			t.Errorf("%d events in 10 s", n)
		}
		time.Sleep(time.Hour)
		start := time.Now()
		for range 100 {
			if err := p.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took < 850*time.Millisecond {
			t.Errorf("100 events in %s after a stall", took)
		}
	})
}

func TestPacerWithoutRate(t *testing.T) {
	t.Parallel()
	p := NewPacer(0)
	for range 1000 {
		if err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if p.Wait(ctx) == nil {
		t.Fatal("it goes on after ctx has ended")
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "state.json")
	var got struct{ Line int }
	if found, err := ReadState(file, &got); found || err != nil {
		t.Fatalf("no file: %v, %v", found, err)
	}
	for i := range 3 {
		if err := WriteState(file, struct{ Line int }{i}); err != nil {
			t.Fatal(err)
		}
		if found, err := ReadState(file, &got); !found || err != nil || got.Line != i {
			t.Fatalf("%v, %v, %+v", found, err, got)
		}
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadState(file, &got); err == nil {
		t.Fatal("a damaged file is no state")
	}
	if err := WriteState(filepath.Join(file, "below"), 1); err == nil {
		t.Fatal("a file is no folder")
	}
	if left, err := filepath.Glob(file + ".*"); err != nil || len(left) > 0 {
		t.Fatalf("left behind: %v", left)
	}
}
