package risk_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/pipelines/risk"
	"sluice/rules"
	"sluice/rules/packs"
	"sluice/schemas/events"
)

// town is a steady stream of ordinary life: customers who sign in, shop, send money and top up, each some six times a day.
type town struct {
	random *rand.Rand
	people int
	now    time.Time
	step   time.Duration
	n      int
}

func newTown(people int) *town {
	return &town{random: rand.New(rand.NewPCG(1, 2)), people: people, now: noon, step: 24 * time.Hour / time.Duration(6*people)}
}

func (w *town) next() events.Event {
	w.now, w.n = w.now.Add(w.step), w.n+1
	who := w.random.IntN(w.people)
	id := fmt.Sprint("C", who)
	e := events.Event{ID: fmt.Sprint("e", w.n), Source: "app", Kind: events.PaymentInitiated, Time: w.now, CustomerID: id, DeviceID: "D" + id,
		IP: fmt.Sprintf("10.%d.%d.1", who>>8&255, who&255), Country: "CN", Channel: "app", Method: wallet, Currency: events.MustCurrency("CNY")}
	switch n := w.random.IntN(100); {
	case n < 25:
		e.Kind, e.Currency, e.Method = events.BehaviorSignedIn, 0, 0
	case n < 75:
		e.Purpose, e.MerchantID, e.Amount = purchase, fmt.Sprint("M", w.random.IntN(max(1, w.people/100))), w.random.Int64N(300_00)+1
		if n < 40 {
			e.Method, e.CardToken = card, "T"+id
		}
	case n < 92:
		e.Purpose, e.CounterpartyID, e.Amount = transfer, fmt.Sprint("C", w.random.IntN(w.people)), w.random.Int64N(900_00)+1
	default:
		e.Purpose, e.Amount = topUp, 5_000_00
	}
	return e
}

func defaultEngine(b testing.TB) *risk.Engine {
	rs, err := rules.Load("default.yaml", packs.Default())
	if err != nil {
		b.Fatal(err)
	}
	return risk.NewEngine(rs)
}

// hundred is a ruleset of 100 rules over 40 aggregates of all functions: by customer, pair, device, merchant, card and payee,
// every fifth rule with a brake.
func hundred(t testing.TB) *rules.Ruleset {
	var b strings.Builder
	b.WriteString("ruleset: hundred\nversion: 1\naggregates:\n")
	keys := []string{"customer", "'[customer, device]'", "device", "merchant", "card"}
	functions := []string{"count: payment.initiated", "sum: payment.amount, of: payment.initiated", "avg: payment.amount, of: payment.initiated",
		"stddev: payment.amount, of: payment.initiated", "since: [payment.initiated, behavior.signed_in]", "distinct: merchant, of: payment.initiated",
		"count: payment.initiated, delay: 1d", "max: payment.amount, of: payment.initiated"}
	numbers := []bool{true, true, true, true, false, true, true, true}
	for i := range 40 {
		key := strings.Trim(keys[i/8], "'")
		fmt.Fprintf(&b, "  a%d: {%s, by: %s, window: %s}\n", i, functions[i%8], key, []string{"10m", "1h", "1d", "7d", "20d"}[(i+i/8)%5])
	}
	b.WriteString("rules:\n")
	for i := range 100 {
		limit := "> 100000"
		if !numbers[i*3%8] {
			limit = "< duration(\"1s\")"
		}
		brake := ""
		if i%5 == 0 {
			brake = "brake: {share: 0.05, window: 1h, after: 200}, "
		}
		fmt.Fprintf(&b, "  - {id: r%d, when: 'payment.amount > %d && a%d %s', missing: skip, %sthen: {score: 10, reason: R, say: s}}\n", i, i%7, i*3%40, limit, brake)
	}
	b.WriteString("outcomes: {review: 50, decline: 80}\n")
	rs, err := rules.Load("hundred.yaml", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// circles looks for cycles of transfers alone.
var circles = one(`{cycle: payment.initiated, where: payment.purpose == "transfer", window: 30d, hops: 5}`)

// BenchmarkDecide is one event through the default pack, through 100 rules over 40 aggregates, through these with the
// default pack as a shadow, and through one aggregate of cycles; with its share of Staged and Commit, in transactions of 100 events over 12 partitions that 20,000
// customers live in.
func BenchmarkDecide(b *testing.B) {
	w := newTown(20_000)
	sequence := make([]events.Event, 400_000)
	for i := range sequence {
		sequence[i] = w.next()
	}
	pack := defaultEngine(b).Ruleset()
	for _, c := range []struct {
		name   string
		engine *risk.Engine
	}{{"default", risk.NewEngine(pack)}, {"rules=100", risk.NewEngine(hundred(b))}, {"shadow", risk.NewEngine(hundred(b), pack)},
		{"cycle", load(b, circles)}} {
		b.Run(c.name, func(b *testing.B) { benchmarkDecide(b, c.engine, sequence, w.step) })
	}
}

func benchmarkDecide(b *testing.B, engine *risk.Engine, sequence []events.Event, pause time.Duration) {
	const partitions, transaction = 12, 100
	state := risk.NewState(engine)
	for p := range int32(partitions) {
		state.Assign(p)
	}
	step := func(i int) {
		e := sequence[i%len(sequence)]
		if i >= len(sequence) { // the same life again, later
			e.ID = fmt.Sprint(i)
			e.Time = e.Time.Add(time.Duration(i/len(sequence)*len(sequence)) * pause)
		}
		state.Decide(int32(e.CustomerID[len(e.CustomerID)-1])%partitions, &e)
		if i%transaction == transaction-1 {
			state.Staged(func(int32, []byte, []byte) {})
			state.Commit()
		}
	}
	for i := range len(sequence) / 2 {
		step(i)
	}
	i := len(sequence) / 2
	b.ReportAllocs()
	before := processor(b)
	for b.Loop() {
		step(i)
		i++
	}
	b.ReportMetric(float64(processor(b)-before)/float64(b.N), "cpu-ns/op")
}

// processor is the processor time used so far, garbage collection included: on a busy machine it says more than the clock.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMemory prints what an active customer costs after thirty days of ordinary life under the default pack: the
// customer, its pairs, its device and its share of the rest, in a State that was restored. The memory of identities is
// bounded for each partition and left out. Cycles are by themselves, among people who send money to anybody, so that nearly
// every account's set is full.
func BenchmarkMemory(b *testing.B) {
	b.Run("default", func(b *testing.B) { benchmarkMemory(b, defaultEngine(b)) })
	b.Run("cycle", func(b *testing.B) { benchmarkMemory(b, load(b, circles)) })
}

func benchmarkMemory(b *testing.B, engine *risk.Engine) {
	const people, days = 2_000, 30
	state, disk := owner(engine, 0), gateState{}
	w := newTown(people)
	for i := range people * 6 * days {
		e := w.next()
		state.Decide(0, &e)
		if i%1000 == 999 {
			disk.take(state)
			state.Commit()
		}
	}
	maps.DeleteFunc(disk[0], func(key string, _ []byte) bool { return strings.HasPrefix(key, "ids:") })
	for b.Loop() {
		before := heap()
		restored := owner(engine, 0)
		for key, value := range disk[0] {
			if err := restored.Restore(0, []byte(key), value); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(heap()-before)/people, "B/customer")
		b.ReportMetric(float64(restored.Entities())/people, "entities/customer")
		runtime.KeepAlive(restored)
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
