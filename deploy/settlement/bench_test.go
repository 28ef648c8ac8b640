package settlement

import (
	"math/rand/v2"
	"testing"
	"time"
)

// BenchmarkRun settles a day of 100,000 transfers on the accounts of 1,000 merchants, and of half as many on a channel's: the run,
// the publishing, the book's answer and the payout files. Run it with -benchtime 1x: a world is made for each round.
func BenchmarkRun(b *testing.B) {
	for range b.N {
		b.StopTimer()
		w := newWorld(b)
		w.day(monday, 50_000, 1000, rand.New(rand.NewPCG(11, 12)))
		b.StartTimer()
		begin := time.Now()
		lap := func(what string) {
			b.ReportMetric(time.Since(begin).Seconds(), what)
			begin = time.Now()
		}
		out, err := w.Settle(b.Context(), Options{Until: monday})
		if err != nil {
			b.Fatal(err)
		}
		lap("s/settle")
		b.ReportMetric(float64(out.Lines), "transfers")
		b.ReportMetric(float64(out.Orders), "orders")
		if _, err := w.Publish(b.Context(), w); err != nil {
			b.Fatal(err)
		}
		lap("s/publish")
		w.answered()
		lap("s/answer")
		if _, err := w.MakeFiles(b.Context()); err != nil {
			b.Fatal(err)
		}
		if _, err := w.WriteFiles(b.Context(), b.TempDir(), 0); err != nil {
			b.Fatal(err)
		}
		lap("s/files")
		if again, err := w.Settle(b.Context(), Options{Until: monday}); err != nil || again.Batches != 0 {
			b.Fatalf("%+v, %v", again, err)
		}
		lap("s/again")
		w.sound()
	}
}
