package books

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"sluice/schemas/events"
)

// A stripe's name is the whole account's; a period, type or currency that cannot be is said to be so; a limit says what it leaves out.
func TestWhatIsAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.post(0, start, events.PaymentInitiated, topUp, card, 500, "CNY")
	w.post(1, start, events.PaymentInitiated, topUp, card, 300, "CNY")
	for _, name := range []string{"clearing:card:CNY", "clearing:card/1:CNY"} {
		s, err := w.book.Read(t.Context(), name, Period{}, Page{})
		if err != nil || s.Account.Name != "clearing:card:CNY" || len(s.Lines) != 2 || s.Closing.String() != "8" {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	if _, err := w.book.Read(t.Context(), "clearing:card/9:CNY", Period{}, Page{}); !errors.Is(err, ErrUnknown) {
		t.Errorf("a stripe that there is not: %v", err)
	}
	if _, err := w.book.Read(t.Context(), "clearing:card:CNY", Period{From: start.Add(time.Hour), To: start}, Page{}); err == nil || !strings.Contains(err.Error(), "exchange --from and --to") {
		t.Errorf("a period that ends before it begins: %v", err)
	}
	if _, err := w.book.Accounts(t.Context(), Filter{Type: "merchnt"}, time.Time{}); err == nil || !strings.Contains(err.Error(), "wallet, account, frozen, merchant") {
		t.Errorf("an unknown type: %v", err)
	}
	if _, err := w.book.Accounts(t.Context(), Filter{Currency: "cny"}, time.Time{}); err == nil || !strings.Contains(err.Error(), "--currency cny") {
		t.Errorf("an unknown currency: %v", err)
	}
	for _, at := range []time.Time{{}, start.Add(time.Hour)} {
		all, total, err := w.book.List(t.Context(), Filter{Limit: 1}, at)
		if err != nil || len(all) != 1 || total != 3 {
			t.Errorf("%d of %d accounts, %v", len(all), total, err)
		}
	}
	var out bytes.Buffer
	if err := errors.Join(WriteRest(&out, 1, 3), WriteRest(&out, 3, 3)); err != nil || out.String() != "1 of 3; --limit shows more\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}
