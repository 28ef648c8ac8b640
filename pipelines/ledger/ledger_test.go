package ledger

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/schemas/events"
)

var (
	cny = events.MustCurrency("CNY")
	jpy = events.MustCurrency("JPY")
)

func TestKeys(t *testing.T) {
	t.Parallel()
	for key, want := range map[AccountKey]string{
		Wallet("C42", cny):                       "wallet:C42:CNY",
		CustomerAccount("C42", "", cny):          "wallet:C42:CNY",
		CustomerAccount("C/42%", "sav/ing", cny): "account:C%2F42%25/sav/ing:CNY",
		MerchantPayable("M:7", jpy):              "merchant:M:7:JPY",
		Clearing("card", 3, cny):                 "clearing:card/3:CNY",
		Fees(3, cny):                             "fees/3:CNY",
		InterestIncome(0, cny):                   "interest/0:CNY",
		Suspense(11, cny):                        "suspense/11:CNY",
		LoanReceivable("L9", cny):                "loan:L9:CNY",
		Frozen("C42", cny):                       "frozen:C42:CNY",
		Reserve("M:7", cny):                      "reserve:M:7:CNY",
		Loss(1, cny):                             "loss/1:CNY",
		Points("C42", cny):                       "points:C42:CNY",
		PointsIssued(2, cny):                     "points_issued/2:CNY",
		Shares("C42", "F1", cny):                 "shares:C42/F1:CNY",
		SharesIssued("F1", 2, cny):               "shares_issued:F1/2:CNY",
	} {
		if string(key) != want {
			t.Errorf("got key %q, want %q", key, want)
		}
		a, ok := NewAccount(key)
		if !ok || a.Currency.Code() != want[len(want)-3:] || want[:len(a.Type.Name)] != a.Type.Name {
			t.Errorf("%s: got %+v, %v", key, a, ok)
		}
	}
	for _, key := range []AccountKey{"", "wallet", "wallet:C1", "wallet:C1:XXX", "purse:C1:CNY", ":CNY"} {
		if a, ok := NewAccount(key); ok {
			t.Errorf("%q is an account: %+v", key, a)
		}
	}
}

// Two owners never share an account, whatever their ids hold.
func TestKeysAreUnambiguous(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringOfN(rapid.RuneFrom([]rune("ab/:%2F")), 1, 6, -1)
		c1, a1, c2, a2 := id.Draw(t, "c1"), id.Draw(t, "a1"), id.Draw(t, "c2"), id.Draw(t, "a2")
		same := CustomerAccount(c1, a1, cny) == CustomerAccount(c2, a2, cny)
		if same != (c1 == c2 && a1 == a2) {
			t.Fatalf("%q %q and %q %q: same key %v", c1, a1, c2, a2, same)
		}
	})
}

// naive is the book anyone would write first: a list of transfers and, for each question, a sum over it.
type naive struct{ posted []Transfer }

func (n *naive) sums(key AccountKey) (debits, credits *big.Int) {
	debits, credits = new(big.Int), new(big.Int)
	for _, t := range n.posted {
		if t.Debit == key {
			debits.Add(debits, big.NewInt(t.Amount))
		}
		if t.Credit == key {
			credits.Add(credits, big.NewInt(t.Amount))
		}
	}
	return debits, credits
}

func (n *naive) balance(key AccountKey) *big.Int {
	debits, credits := n.sums(key)
	if kind, _ := key.Type(); kind.Normal == DebitSide {
		return debits.Sub(debits, credits)
	}
	return credits.Sub(credits, debits)
}

// apply answers as Book.Apply must, in a copy that replaces the list only when the whole group stands.
func (n *naive) apply(open map[AccountKey]bool, linked []Transfer) Code {
	if len(linked) > MaxLinked {
		return TooManyLinked
	}
	next := naive{append([]Transfer(nil), n.posted...)}
	for _, t := range linked {
		if code := next.one(open, t); code != OK {
			return code
		}
	}
	*n = next
	return OK
}

func (n *naive) one(open map[AccountKey]bool, t Transfer) Code {
	if t.Amount <= 0 {
		return AmountNotPositive
	}
	if t.Debit == t.Credit {
		return SameAccount
	}
	if !open[t.Debit] || !open[t.Credit] {
		return AccountUnknown
	}
	for _, key := range []AccountKey{t.Debit, t.Credit} {
		if c, _ := key.Currency(); c != t.Currency {
			return CurrencyMismatch
		}
	}
	n.posted = append(n.posted, t)
	limit := big.NewInt(math.MaxInt64)
	debits, _ := n.sums(t.Debit)
	_, credits := n.sums(t.Credit)
	if debits.Cmp(limit) > 0 || credits.Cmp(limit) > 0 {
		return BalanceOverflow
	}
	for side, key := range []AccountKey{DebitSide: t.Debit, CreditSide: t.Credit} {
		kind, _ := key.Type()
		if kind.Floored && Side(side) != kind.Normal && n.balance(key).Cmp(big.NewInt(kind.Floor)) < 0 {
			return InsufficientFunds
		}
	}
	return OK
}

var testKeys = []AccountKey{
	Wallet("A", cny), Wallet("B", cny), Wallet("A", jpy), MerchantPayable("M", cny), Clearing("card", 0, cny),
	Clearing("card", 0, jpy), Fees(1, cny), LoanReceivable("L", cny), Suspense(0, cny), Wallet("closed", cny),
}

func drawTransfer(t *rapid.T) Transfer {
	return Transfer{
		Debit: rapid.SampledFrom(testKeys).Draw(t, "debit"), Credit: rapid.SampledFrom(testKeys).Draw(t, "credit"),
		Amount:   rapid.OneOf(rapid.Int64Range(-1, 20), rapid.Int64Range(1, 1000), rapid.Just(int64(math.MaxInt64-5))).Draw(t, "amount"),
		Currency: rapid.SampledFrom([]events.Currency{cny, cny, cny, cny, jpy}).Draw(t, "currency"), Kind: "test",
	}
}

// The book answers as the naive one does, group by group; no floor is crossed, debits equal credits per currency, each
// balance is the sum of its transfers, and a refused group leaves no trace.
func TestBookEqualsNaiveModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		book, model, open := NewBook(0), &naive{}, map[AccountKey]bool{}
		for _, key := range testKeys[:len(testKeys)-1] {
			a, _ := NewAccount(key)
			book.Load(a)
			open[key] = true
		}
		for range rapid.IntRange(1, 30).Draw(t, "groups") {
			size := rapid.SampledFrom([]int{0, 1, 1, 1, 2, 3}).Draw(t, "linked")
			linked := make([]Transfer, size)
			for i := range linked {
				linked[i] = drawTransfer(t)
			}
			want, got := model.apply(open, linked), book.Apply(linked)
			if got != want {
				t.Fatalf("%+v: got %s, want %s", linked, got, want)
			}
			checkBook(t, book, model)
		}
	})
}

func checkBook(t *rapid.T, book *Book, model *naive) {
	sum := map[events.Currency]*big.Int{cny: new(big.Int), jpy: new(big.Int)}
	versions, changed := map[AccountKey]int64{}, map[AccountKey]bool{}
	if len(book.Posted()) != len(model.posted) {
		t.Fatalf("%d transfers posted, want %d", len(book.Posted()), len(model.posted))
	}
	for i, p := range book.Posted() {
		versions[p.Debit]++
		versions[p.Credit]++
		changed[p.Debit], changed[p.Credit] = true, true
		if p.Transfer != model.posted[i] || p.DebitVersion != versions[p.Debit] || p.CreditVersion != versions[p.Credit] {
			t.Fatalf("transfer %d is %+v, want %+v at versions %d and %d", i, p, model.posted[i], versions[p.Debit], versions[p.Credit])
		}
	}
	for _, key := range testKeys[:len(testKeys)-1] {
		a := book.Account(key)
		if model.balance(key).Cmp(big.NewInt(a.Balance())) != 0 || a.Version != versions[key] {
			t.Fatalf("%s: balance %d at version %d, want %s at %d", key, a.Balance(), a.Version, model.balance(key), versions[key])
		}
		if a.Type.Floored && a.Balance() < a.Type.Floor {
			t.Fatalf("%s is at %d, below its floor", key, a.Balance())
		}
		sum[a.Currency].Add(sum[a.Currency], big.NewInt(a.DebitsPosted)).Sub(sum[a.Currency], big.NewInt(a.CreditsPosted))
	}
	for c, n := range sum {
		if n.Sign() != 0 {
			t.Fatalf("%s: debits and credits differ by %s", c, n)
		}
	}
	for _, a := range book.Changed() {
		if !changed[a.Key] {
			t.Fatalf("%s counts as changed twice, or has no transfer", a.Key)
		}
		delete(changed, a.Key)
	}
	if len(changed) != 0 {
		t.Fatalf("changed accounts are missing: %v", changed)
	}
}

func TestPendingCountsAgainstTheFloor(t *testing.T) {
	t.Parallel()
	book := NewBook(2)
	wallet, _ := NewAccount(Wallet("A", cny))
	wallet.CreditsPosted, wallet.DebitsPending = 100, 40
	other, _ := NewAccount(Wallet("B", cny))
	book.Load(wallet)
	book.Load(other)
	move := func(amount int64) Code {
		return book.Apply([]Transfer{{Debit: wallet.Key, Credit: other.Key, Amount: amount, Currency: cny, Kind: "test"}})
	}
	if got := move(61); got != InsufficientFunds {
		t.Errorf("61 of 100 with 40 held: %s", got)
	}
	if got := move(60); got != OK {
		t.Errorf("60 of 100 with 40 held: %s", got)
	}
}

func TestTooManyLinked(t *testing.T) {
	t.Parallel()
	if got := NewBook(0).Apply(make([]Transfer, MaxLinked+1)); got != TooManyLinked {
		t.Errorf("got %s", got)
	}
}

func TestCodesAreClosed(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range Codes() {
		if c.String() == "" || c.Text() == "" || seen[c.String()] {
			t.Errorf("code %d: %q, %q", c, c.String(), c.Text())
		}
		seen[c.String()] = true
	}
}

// Whatever is changed, left out or swapped changes the hash; so does the batch before.
func TestChainNoticesEveryChange(t *testing.T) {
	t.Parallel()
	at := time.UnixMicro(1_700_000_000_000_001)
	base := func() []Posted {
		return []Posted{
			{Transfer: Transfer{Debit: "wallet:A:CNY", Credit: "wallet:B:CNY", Amount: 100, Currency: cny, Kind: "transfer"}, DebitID: 1, CreditID: 2, DebitVersion: 3, CreditVersion: 4, Number: 5, Sequence: 6, Time: at},
			{Transfer: Transfer{Debit: "wallet:A:CNY", Credit: "fees/0:CNY", Amount: 1, Currency: cny, Kind: "fee"}, DebitID: 1, CreditID: 7, DebitVersion: 4, CreditVersion: 1, Number: 6, Sequence: 6, Time: at},
		}
	}
	seen := map[Hash]string{Chain(Hash{}, base()): "unchanged"}
	for name, change := range map[string]func(p []Posted) []Posted{
		"amount":         func(p []Posted) []Posted { p[0].Amount++; return p },
		"currency":       func(p []Posted) []Posted { p[0].Currency = jpy; return p },
		"kind":           func(p []Posted) []Posted { p[0].Kind = "transfes"; return p },
		"accounts":       func(p []Posted) []Posted { p[0].DebitID, p[0].CreditID = 2, 1; return p },
		"debit version":  func(p []Posted) []Posted { p[0].DebitVersion++; return p },
		"credit version": func(p []Posted) []Posted { p[0].CreditVersion++; return p },
		"number":         func(p []Posted) []Posted { p[1].Number++; return p },
		"sequence":       func(p []Posted) []Posted { p[1].Sequence++; return p },
		"time":           func(p []Posted) []Posted { p[1].Time = at.Add(time.Microsecond); return p },
		"missing":        func(p []Posted) []Posted { return p[:1] },
		"swapped":        func(p []Posted) []Posted { p[0], p[1] = p[1], p[0]; return p },
	} {
		h := Chain(Hash{}, change(base()))
		if other, dup := seen[h]; dup {
			t.Errorf("%s hashes as %s", name, other)
		}
		seen[h] = name
	}
	if _, dup := seen[Chain(Hash{1}, base())]; dup {
		t.Error("the batch before makes no difference")
	}
	if h := Chain(Hash{}, nil); bytes.Equal(h[:], make([]byte, len(h))) {
		t.Error("an empty batch has no hash")
	}
}

// So does whatever is changed in a step of a hold, or a step that looks like a transfer.
func TestChainNoticesEveryChangeOfAStep(t *testing.T) {
	t.Parallel()
	at := time.UnixMicro(1_700_000_000_000_001)
	base := func() []Step {
		return []Step{
			{Pending: "p", Fate: Opened, Amount: 100, Open: 100, DebitID: 1, CreditID: 2, Currency: cny, Kind: "purchase", Expires: at, Number: 1, Sequence: 6, Time: at},
			{Pending: "p", Fate: PostedPart, Amount: 40, Open: 60, DebitID: 1, CreditID: 2, Currency: cny, Kind: "purchase", Expires: at, Number: 2, Sequence: 7, Time: at},
		}
	}
	seen := map[Hash]string{Chain(Hash{}, nil, base()...): "unchanged", Chain(Hash{}, nil): "empty"}
	for name, change := range map[string]func(s []Step) []Step{
		"hold":     func(s []Step) []Step { s[0].Pending = "q"; return s },
		"fate":     func(s []Step) []Step { s[1].Fate = Voided; return s },
		"amount":   func(s []Step) []Step { s[0].Amount++; return s },
		"open":     func(s []Step) []Step { s[0].Open++; return s },
		"accounts": func(s []Step) []Step { s[0].DebitID, s[0].CreditID = 2, 1; return s },
		"currency": func(s []Step) []Step { s[0].Currency = jpy; return s },
		"kind":     func(s []Step) []Step { s[0].Kind = "top_up"; return s },
		"expiry":   func(s []Step) []Step { s[0].Expires = at.Add(time.Microsecond); return s },
		"none":     func(s []Step) []Step { s[0].Expires = time.Time{}; return s },
		"number":   func(s []Step) []Step { s[0].Number++; return s },
		"sequence": func(s []Step) []Step { s[0].Sequence++; return s },
		"time":     func(s []Step) []Step { s[0].Time = at.Add(time.Microsecond); return s },
		"missing":  func(s []Step) []Step { return s[:1] },
		"swapped":  func(s []Step) []Step { s[0], s[1] = s[1], s[0]; return s },
	} {
		h := Chain(Hash{}, nil, change(base())...)
		if other, dup := seen[h]; dup {
			t.Errorf("%s hashes as %s", name, other)
		}
		seen[h] = name
	}
}

func TestTransferIDs(t *testing.T) {
	t.Parallel()
	seen := map[int64]string{}
	for shard := range int32(3) {
		for number := range int64(3) {
			p := Posted{Shard: shard, Number: number}
			at := fmt.Sprint(shard, number)
			if other, dup := seen[p.ID()]; dup {
				t.Errorf("%s has the id of %s", at, other)
			}
			seen[p.ID()] = at
		}
	}
}
