package poster

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/schemas/events"
)

// The connection is cut at every single use of it during a batch, before and after the bytes have arrived. After each
// cut the batch is in the book whole or not at all, its offsets with it; whoever takes over goes on from there.
func TestCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("arrived=%v", after), func(t *testing.T) {
			t.Parallel()
			crashes(t, after)
		})
	}
}

func crashes(t *testing.T, after bool) {
	url := migrated(t)
	conn := reader(t, url)
	newWriter(t, url, payments0).must(t, decided(t, 0, 0, payment(topUp, byBank, "A", "", 1_000_000)))
	next, committed := int64(1), 0
	for cut := int64(0); ; cut++ {
		records := crashRecords(t, next)
		k := &knife{after: after}
		k.uses.Store(1 << 40)
		w := cutWriter(t, url, k)
		if at := w.owned[payments0].next; at != next {
			t.Fatalf("cut %d: the heir goes on at %d, want %d", cut, at, next)
		}
		k.uses.Store(cut)
		_, err := w.send(t.Context(), records...)
		if err == nil && !k.cut.Load() {
			break // the batch needs no more uses than this
		}
		if err != nil && !errors.Is(err, errCut) && !w.conn.IsClosed() {
			t.Fatalf("cut %d: %v", cut, err)
		}
		var found int
		next, found = progress(t, url, conn, next, len(records))
		committed += found
		checkBook(t, conn)
	}
	next += int64(len(crashRecords(t, 0)))
	checkBook(t, conn)
	if got := one[int64](t, conn, "SELECT next_offset FROM offsets"); got != next {
		t.Errorf("the offset is %d, want %d", got, next)
	}
	if got := one[int64](t, conn, "SELECT count(*) FROM results"); got != next {
		t.Errorf("%d results, want %d", got, next)
	}
	if got := one[int64](t, conn, "SELECT count(*) FROM hold_steps WHERE step = 'expired'"); after && got == 0 {
		t.Error("no hold expired")
	}
	// Cut before the bytes arrive, the answer's read may have begun before the commit was written: then no cut falls between.
	if after && committed == 0 {
		t.Error("no cut hit between the commit and its answer")
	}
}

// crashRecords are a batch with everything in it: new accounts, a purchase with its fee, a refusal, a refund of an
// earlier payment, an authorization, a capture of a part of it, another that the next batch's time lets expire, and a record
// that cannot be read.
func crashRecords(t *testing.T, at int64) []*kgo.Record {
	hold := func(kind events.Kind, of, amount int64) events.Decision {
		d := payment(purchase, byCard, "A", "M", amount)
		d.Event.Kind, d.Event.PaymentID = kind, fmt.Sprintf("p0.%d", of)
		d.Event.Time = start.Add(time.Duration(at) * 24 * time.Hour)
		return d
	}
	refund := payment(purchase, byWallet, "A", "M", 1)
	refund.Event.Kind, refund.Event.PaymentID = events.PaymentRefunded, fmt.Sprintf("p0.%d", at+1)
	return []*kgo.Record{
		decided(t, 0, at, payment(transfer, byWallet, "A", fmt.Sprintf("new%d", at), 10)),
		decided(t, 0, at+1, payment(purchase, byWallet, "A", "M", 500)),
		decided(t, 0, at+2, payment(transfer, byWallet, "B", "A", 5_000_000)),
		decided(t, 0, at+3, refund),
		decided(t, 0, at+4, hold(events.PaymentAuthorized, at+4, 700)),
		decided(t, 0, at+5, hold(events.PaymentCaptured, at+4, 300)),
		decided(t, 0, at+6, hold(events.PaymentAuthorized, at+6, 700)),
		{Topic: "payments.decided", Partition: 0, Offset: at + 7, Value: []byte("?")},
	}
}

// progress waits until the server has noticed the cut, and says where the book stands: all of the batch or nothing.
func progress(t *testing.T, url string, conn *pgx.Conn, next int64, n int) (now int64, committed int) {
	t.Helper()
	now = newWriter(t, url, payments0).owned[payments0].next // waits for the lock of a transaction still open
	if now != next && now != next+int64(n) {
		t.Fatalf("the book stands at %d; the batch goes from %d to %d", now, next, next+int64(n))
	}
	if got := one[int64](t, conn, "SELECT count(*) FROM results"); got != now {
		t.Fatalf("%d results at offset %d", got, now)
	}
	if now != next {
		committed = 1
	}
	return now, committed
}

// cutWriter is a writer whose connection goes through the knife.
func cutWriter(t *testing.T, url string, k *knife) *writer {
	t.Helper()
	w := newWriter(t, url, payments0)
	conn, err := connect(t.Context(), url, "test", DefaultBatchTimeout, k.dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConn(conn) })
	closeConn(w.conn)
	w.session = newSession(conn)
	return w
}
