package poster

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What the database itself will not take is set aside as a dead letter, wherever it stands; its neighbours, and what builds
// on them, are posted as if it had not been there.
func TestRefusedByTheDatabase(t *testing.T) {
	t.Parallel()
	for _, poison := range [][]int{{0}, {39}, {17}, {20, 21}, {}} {
		t.Run(fmt.Sprint(poison), func(t *testing.T) {
			t.Parallel()
			url := migrated(t)
			conn := reader(t, url)
			if _, err := conn.Exec(t.Context(), "ALTER TABLE results ADD CONSTRAINT no_poison CHECK (customer_id NOT LIKE 'poison%')"); err != nil {
				t.Fatal(err)
			}
			w := newWriter(t, url, payments0, part{"payments.decided", 1})
			var records []*kgo.Record
			for i := range 200 {
				shard, customer := int32(i%2), "A"
				if slices.Contains(poison, i) {
					customer = "poison"
				}
				records = append(records, decided(t, shard, int64(i/2), payment(topUp, byBank, customer, "", 100)))
			}
			b := w.must(t, records...)
			for i := range b.entries {
				e := &b.entries[i]
				at := int(e.record.Offset)*2 + int(e.record.Partition)
				want := "posted"
				if slices.Contains(poison, at) {
					want = codeUnreadable
				}
				if e.code != want {
					t.Errorf("record %d: %s, want %s", at, e.code, want)
				}
			}
			if got := one[int](t, conn, "SELECT count(*) FROM unreadable WHERE reason = 'refused_by_ledger' AND detail LIKE '%no_poison%'"); got != len(poison) {
				t.Errorf("%d dead letters, want %d", got, len(poison))
			}
			if got := one[int64](t, conn, "SELECT balance FROM accounts WHERE key = 'wallet:A:CNY'"); got != int64(100*(200-len(poison))) {
				t.Errorf("balance %d", got)
			}
			checkBook(t, conn)
		})
	}
}

// A database that refuses everything is ill: nothing is set aside beyond the bound, nothing is lost.
func TestRefusesEverything(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	conn := reader(t, url)
	if _, err := conn.Exec(t.Context(), "ALTER TABLE results ADD CONSTRAINT nobody CHECK (customer_id = '')"); err != nil {
		t.Fatal(err)
	}
	w := newWriter(t, url, payments0)
	_, err := w.send(t.Context(), decided(t, 0, 0, payment(topUp, byBank, "A", "", 100)), decided(t, 0, 1, payment(topUp, byBank, "A", "", 100)))
	if err == nil || !strings.Contains(err.Error(), "after 1 decisions were set aside") {
		t.Errorf("answered %v", err)
	}
	if n := one[int](t, conn, "SELECT count(*) FROM results") + one[int](t, conn, "SELECT count(*) FROM unreadable"); n != 0 {
		t.Errorf("%d rows are in the book", n)
	}
}
