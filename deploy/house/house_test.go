package house

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/deploy/config"
	"sluice/deploy/embedded"
	"sluice/deploy/verify"
	"sluice/producers/channel"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
	"sluice/schemas/warehouse"
)

func TestMain(m *testing.M) {
	embedded.ClickHouseChild()
	os.Exit(m.Run())
}

// patience bounds every wait; nothing here measures.
const patience = 3 * time.Minute

// running is a house with every part, and a way to end it.
type running struct {
	*House
	t *testing.T
}

// start runs every part on engines of its own, or on the Kafka that SLUICE_TEST_KAFKA names.
func start(t *testing.T, rules string) *running {
	t.Helper()
	c := config.Config{Data: filepath.Join(t.TempDir(), "data"), Partitions: 12, Rules: rules}
	if kafka := os.Getenv("SLUICE_TEST_KAFKA"); kafka != "" {
		c.Kafka, c.Prefix = kafka, fmt.Sprintf("house%d-%d.", os.Getpid(), time.Now().UnixNano())
	}
	h, err := Open(t.Context(), c, Options{Embed: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	readiness := NewReadiness(PartNames())
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := h.Run(ctx, PartNames(), Hooks{Ready: readiness.Set}); err != nil {
			t.Errorf("a part failed for good: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		parts.Wait()
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-readiness.All():
	case <-time.After(patience):
		t.Fatalf("not ready: %v", readiness.Report())
	}
	return &running{House: h, t: t}
}

// load publishes simulated events until the function it returns is called.
func (r *running) load(rate int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := r.simulate(ctx, config.Simulation{Rate: rate, Seed: 7, Customers: 1000}); err != nil {
			r.t.Errorf("simulate: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		done.Wait()
	})
	r.t.Cleanup(stop)
	return stop
}

// until waits for a condition on what a person follows.
func (r *running) until(what string, ok func(totals) bool) {
	r.t.Helper()
	limit := time.After(patience)
	for {
		if ok(read(r.Registry)) {
			return
		}
		select {
		case <-limit:
			r.t.Fatalf("%s: it did not come to pass: %+v", what, read(r.Registry))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// verifies waits until everything has gone the whole way and proves every promise.
func (r *running) verifies() *verify.Report {
	r.t.Helper()
	if err := r.Drain(r.t.Context(), func(int64) {}); err != nil {
		r.t.Fatal(err)
	}
	report, err := verify.Run(r.t.Context(), verify.Config{Config: r.Stream("verify"), Postgres: r.Addresses.Postgres, ClickHouse: r.Addresses.ClickHouse})
	if err != nil {
		r.t.Fatal(err)
	}
	var table strings.Builder
	if err := report.Table(&table); err != nil {
		r.t.Fatal(err)
	}
	r.t.Logf("\n%s", table.String())
	if !report.OK() {
		r.t.Error("a promise is broken")
	}
	return report
}

// ClickHouse is killed and stays away while 30,000 events are decided: deciding and posting go on, nothing is lost, and the
// warehouse catches up.
func TestClickHouseAway(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("keeps a whole house under load for half a minute; -short leaves it out")
	}
	r := start(t, "default")
	stop := r.load(1000)
	r.until("load", func(n totals) bool { return n.decided > 1000 && n.rows > 0 })
	if err := r.Engines.KillClickHouse(); err != nil {
		t.Fatal(err)
	}
	before := read(r.Registry)
	r.until("deciding and posting without ClickHouse", func(n totals) bool {
		return n.decided > before.decided+30_000 && n.posted > before.posted+1000
	})
	if err := r.Engines.RestartClickHouse(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	r.verifies()
}

// What had been published goes the whole way while more and more comes. An event of the house's time moves its clock no further.
func TestCatchUpUnderLoad(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs a whole house; -short leaves it out")
	}
	r := start(t, "empty")
	stop := r.load(1000)
	r.until("load", func(n totals) bool { return n.decided > 1000 && n.rows > 0 })
	p, err := channel.New(channel.Config{Config: r.Stream("test"), Source: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	now, err := r.Now(t.Context())
	if err != nil || time.Since(now) < 300*24*time.Hour {
		t.Fatalf("the house's time is %s, %v; the channels began 400 days ago", now, err)
	}
	e := events.Event{ID: "mine", Kind: events.PaymentInitiated, PaymentID: "mine", CustomerID: "C-mine", Time: now, Amount: 100,
		Currency: events.MustCurrency("CNY"), Method: eventsv1.PaymentMethod_PAYMENT_METHOD_CARD, Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP}
	if err := p.Publish(t.Context(), &e); err != nil {
		t.Fatal(err)
	}
	if err := r.CatchUp(t.Context(), func(int64) {}); err != nil {
		t.Fatal(err)
	}
	db, err := warehouse.Open(r.Addresses.ClickHouse)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var counted uint64
	if err := db.QueryRow(t.Context(), "SELECT count() FROM results WHERE payment_id = 'mine'").Scan(&counted); err != nil || counted != 1 {
		t.Errorf("%d results of the payment are counted, want 1: %v", counted, err)
	}
	stop()
	r.verifies()
}

// The proof must fail when something is wrong: each of these is done to a house behind its back.
func TestVerifyNoticesTampering(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs a whole house; -short leaves it out")
	}
	r := start(t, "default")
	stop := r.load(2000)
	r.until("load", func(n totals) bool { return n.decided > 5000 && n.posted > 500 })
	stop()
	r.verifies()
	tamper(t, r)
}

// TestAskingMakesNoHouse: a command that asks a house for something does not build one where there is none.
func TestAskingMakesNoHouse(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "elsewhere")
	_, err := Open(t.Context(), config.Config{Data: folder, Partitions: 12}, Options{Needs: Postgres, Attach: true, Embed: true, Existing: true})
	if err == nil || !strings.Contains(err.Error(), "there is no house in the folder "+folder) {
		t.Error(err)
	}
	if _, err := os.Stat(folder); err == nil {
		t.Error("the folder was made")
	}
}
