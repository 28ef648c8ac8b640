package risk_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
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

// BenchmarkDecide is one event through the default pack, with its share of Staged and Commit, in transactions of 100 events
// over 12 partitions that 20,000 customers live in.
func BenchmarkDecide(b *testing.B) {
	const partitions, transaction = 12, 100
	state := risk.NewState(defaultEngine(b))
	for p := range int32(partitions) {
		state.Assign(p)
	}
	w := newTown(20_000)
	sequence := make([]events.Event, 400_000)
	for i := range sequence {
		sequence[i] = w.next()
	}
	step := func(i int) {
		e := &sequence[i%len(sequence)]
		if i >= len(sequence) { // the same life again, later
			e.ID = fmt.Sprint(i)
			e.Time = e.Time.Add(time.Duration(len(sequence)) * w.step)
		}
		state.Decide(int32(e.CustomerID[len(e.CustomerID)-1])%partitions, e)
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
	for b.Loop() {
		step(i)
		i++
	}
}

// BenchmarkMemory prints what an active customer costs after thirty days of ordinary life under the default pack: customer,
// pairs, card, device and its share of the rest; the memory of identities is counted apart.
func BenchmarkMemory(b *testing.B) {
	const people, days = 5_000, 30
	for b.Loop() {
		var before, after runtime.MemStats
		engine := defaultEngine(b)
		runtime.GC()
		runtime.ReadMemStats(&before)
		state := risk.NewState(engine)
		state.Assign(0)
		w := newTown(people)
		bytes := 0
		for i := range people * 6 * days {
			e := w.next()
			state.Decide(0, &e)
			if i%1000 == 999 {
				state.Commit()
			}
		}
		state.Commit()
		runtime.GC()
		runtime.ReadMemStats(&after)
		identities := 6 << 20
		b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc)-float64(identities))/people, "B/customer")
		b.ReportMetric(float64(state.Entities())/people, "entities/customer")
		runtime.KeepAlive(state)
		_ = bytes
	}
}
