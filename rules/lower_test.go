package rules

import (
	"bytes"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// language is a ruleset whose aggregates have every type; its conditions are generated.
const language = `
ruleset: language
version: 1
conversion: {to: CNY, as_of: 2026-11-01, rates: {JPY: 0.0465}}
aggregates:
  tries: {count: payment, by: card, window: 10m}
  spent: {sum: payment.amount, of: payment, by: customer, window: 1h}
  usual: {avg: payment.amount, of: payment, by: customer, window: 1h}
  changed: {since: behavior.password_changed, by: customer, window: 1h}
  spread: {stddev: payment.amount, of: payment, by: customer, window: 1h}
  hops: {cycle: payment, window: 1h, hops: 4}
`

// watched is a set of lists: everything of one letter is listed, and names are alike by their length.
type watched struct{}

func (watched) Listed(list, value string, _ time.Time) bool {
	return list == "watch" && len(value) <= 1 // a missing value is never asked about
}
func (watched) Similarity(list, name string, _ time.Time) Decimal {
	return Decimal{int64(min(len(list)*max(len(name), 1), 100)), 2}
}

// given is a source of aggregates with fixed values.
type given []Value

func (g given) Aggregate(i int) Value { return g[i] }

func languageScope(t testing.TB) *Ruleset {
	rs, err := Load("language.yaml", []byte(language))
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// expressions draws a condition of the language that type-checks.
type expressions struct{ t *rapid.T }

func (x expressions) pick(label string, of ...string) string {
	return rapid.SampledFrom(of).Draw(x.t, label)
}

func (x expressions) truth(depth int) string {
	shapes := []string{"order", "words", "known", "flag", "literal", "span", "in", "part", "listed", "converted", "matches"}
	if depth > 0 {
		shapes = append(shapes, "and", "or", "not", "choose", "same", "and", "or")
	}
	switch x.pick("truth", shapes...) {
	case "and":
		return "(" + x.truth(depth-1) + " && " + x.truth(depth-1) + ")"
	case "or":
		return "(" + x.truth(depth-1) + " || " + x.truth(depth-1) + ")"
	case "not":
		return "!(" + x.truth(depth-1) + ")"
	case "choose":
		return "(" + x.truth(depth-1) + " ? " + x.truth(depth-1) + " : " + x.truth(depth-1) + ")"
	case "same":
		return "(" + x.truth(depth-1) + ") == (" + x.truth(depth-1) + ")"
	case "words":
		return x.word() + x.pick("op", " == ", " != ", " < ", " >= ") + x.word()
	case "known":
		return "known(" + x.pick("name", "payment.amount", "usual", "changed", "tries", "device.id", "customer.tier") + ")"
	case "flag":
		return x.pick("flag", "device.known", "ip.known", "location.known")
	case "literal":
		return x.pick("literal", "true", "false")
	case "span":
		return "changed " + x.pick("op", "<", "<=", ">", ">=", "==", "!=") + ` duration("` + x.pick("span", "0s", "10m", "1h30m", "1500ms") + `")`
	case "in":
		return x.pick("in", `payment.method in ["card", "wallet"]`, "event.hour in [0, 1, 12]", "tries in [3]", "device.id in []")
	case "listed":
		return `listed("` + x.pick("list", "watch", "other") + `", ` + x.pick("field", "device.id", "payment.card", "customer.name") + ")"
	case "converted":
		op := " " + x.pick("op", "<", "<=", ">", ">=", "==", "!=") + " "
		return "converted(" + x.money(depth-1) + ")" + op + x.pick("right", "5", "0.0465", "99999999", "converted("+x.money(depth-1)+")", "2.5 * converted(spread)")
	case "matches":
		return x.pick("word", "device.id", "payment.card") + `.matches("` + x.pick("pattern", "^d", "[0-9]$", "") + `")`
	case "part":
		return x.word() + "." + x.pick("part", "startsWith", "endsWith", "contains") + "(" + x.word() + ")"
	}
	return x.comparison(depth)
}

func (x expressions) comparison(depth int) string {
	op := " " + x.pick("op", "<", "<=", ">", ">=", "==", "!=") + " "
	switch x.pick("sides", "int", "money", "moneys", "decimal", "mixed") {
	case "int":
		return x.whole(depth) + op + x.whole(depth)
	case "money":
		return x.money(depth) + op + x.pick("literal", "5", "12.5", "0.01", "0", "99999999", "0.000001", "-3")
	case "moneys":
		return x.money(depth) + op + x.money(depth)
	case "decimal":
		return x.decimal(depth) + op + x.pick("literal", "1", "0.5", "0.333333333", "2")
	}
	return x.whole(depth) + " " + x.pick("order", "<", "<=", ">", ">=") + " " + x.pick("literal", "0.5", "2.999")
}

func (x expressions) whole(depth int) string {
	if depth > 0 && rapid.Bool().Draw(x.t, "deeper") {
		switch x.pick("whole shape", "extreme", "choice", "plain", "plain") {
		case "extreme":
			return x.pick("extreme", "min(", "max(") + x.whole(depth-1) + ", " + x.whole(depth-1) + ")"
		case "choice":
			return "(" + x.truth(depth-1) + " ? " + x.whole(depth-1) + " : " + x.whole(depth-1) + ")"
		}
		if x.pick("arity", "1", "2") == "1" {
			return "-(" + x.whole(depth-1) + ")"
		}
		return "(" + x.whole(depth-1) + x.pick("op", " + ", " - ", " * ") + x.whole(depth-1) + ")"
	}
	return x.pick("whole", "tries", "hops", "event.hour", "event.weekday", "3", "0", "-7", "9223372036854775807", "4611686018427387905")
}

func (x expressions) money(depth int) string {
	if depth > 0 && rapid.Bool().Draw(x.t, "deeper") {
		switch x.pick("shape", "sum", "factor", "part", "scaled", "minus", "extreme", "rounded", "choice") {
		case "extreme":
			return x.pick("extreme", "min(", "max(") + x.money(depth-1) + ", " + x.pick("other", "3", "0.5", x.money(depth-1)) + ")"
		case "rounded":
			return x.pick("rounding", "round(", "floor(", "ceil(", "round_half_even(") + x.money(depth-1) + ")"
		case "choice":
			return "(" + x.truth(depth-1) + " ? " + x.money(depth-1) + " : " + x.pick("other", "3", "0.5", x.money(depth-1)) + ")"
		case "sum":
			return "(" + x.money(depth-1) + x.pick("op", " + ", " - ") + x.money(depth-1) + ")"
		case "factor":
			return "(" + x.pick("factor", "3", "0.9", "1.25", "tries") + " * " + x.money(depth-1) + ")"
		case "part":
			return "(" + x.money(depth-1) + " / " + x.pick("divisor", "3", "0.7", "tries", "0") + ")"
		case "scaled":
			return "(" + x.money(depth-1) + " * " + x.decimal(depth-1) + ")"
		}
		return "-(" + x.money(depth-1) + ")"
	}
	return x.pick("money", "payment.amount", "spent", "usual", "spread")
}

func (x expressions) decimal(depth int) string {
	switch x.pick("decimal", "ratio", "share", "sum", "alike") {
	case "alike":
		return `similarity("` + x.pick("list", "names", "n") + `", ` + x.pick("name", "customer.name", "payment.counterparty_name") + ")"
	case "ratio":
		return "ratio(" + x.whole(depth-1) + ", " + x.whole(depth-1) + ")"
	case "share":
		return "(" + x.money(depth-1) + " / " + x.money(depth-1) + ")"
	}
	return "(ratio(tries, 3) " + x.pick("op", "+", "-", "*", "/") + " " + x.pick("literal", "2", "0.5") + ")"
}

func (x expressions) word() string {
	return x.pick("word", "device.id", "payment.card", "payment.merchant", "event.channel", "customer.id", `"d1"`, `"d"`, `""`)
}

// drawFrame draws an event and aggregates, with much that is missing.
func drawFrame(t *rapid.T, rs *Ruleset) *Frame {
	maybe := func(s string) string { return rapid.SampledFrom([]string{"", s}).Draw(t, s) }
	amount := rapid.SampledFrom([]int64{0, 1, 499, 500, 501, 1250, events.MaxAmount})
	e := &events.Event{
		Kind: events.PaymentInitiated, Time: time.Unix(rapid.Int64Range(0, 2e9).Draw(t, "time"), 0).UTC(), CustomerID: "c1",
		DeviceID: maybe("d1"), CardToken: maybe("d"), IP: maybe("10.0.0.1"), Country: maybe("CN"), Channel: maybe("app"), MerchantID: maybe("m1"),
		Amount: amount.Draw(t, "amount"), Currency: events.MustCurrency(rapid.SampledFrom([]string{"CNY", "JPY", "KWD"}).Draw(t, "currency")),
		Method:       eventsv1.PaymentMethod(rapid.IntRange(0, 4).Draw(t, "method")),
		CustomerName: maybe("Zhang Wei"), CounterpartyName: maybe("Li"),
	}
	exponent := uint8(e.Currency.Exponent())
	known := func(d Decimal) Value { return Value{d, rapid.Bool().Draw(t, "known")} }
	source := given{
		known(Int(rapid.SampledFrom([]int64{0, 1, 3, 4, 1 << 40}).Draw(t, "tries"))),
		known(Decimal{amount.Draw(t, "spent"), exponent}),
		known(Decimal{amount.Draw(t, "usual") * 1000, 9}),
		known(Decimal{rapid.SampledFrom([]int64{0, 600_000, 1500, 7_200_000}).Draw(t, "changed"), 3}),
		known(Decimal{amount.Draw(t, "spread"), exponent}),
		known(Int(rapid.Int64Range(2, 4).Draw(t, "hops"))),
	}
	f := rs.NewFrame()
	c := Context{Tier: maybe("gold"), Aggregates: source}
	if rapid.Bool().Draw(t, "lists") {
		c.Lists = watched{}
	}
	f.Reset(e, c)
	return f
}

// TestClosuresAgreeWithCEL: what a condition is lowered to answers as cel-go does, unknown for its errors included.
func TestClosuresAgreeWithCEL(t *testing.T) {
	t.Parallel()
	rs := languageScope(t)
	rapid.Check(t, func(t *rapid.T) { agree(t, rs) })
}

// FuzzClosures is the same property, looked for by the fuzzer.
func FuzzClosures(f *testing.F) {
	rs := languageScope(f)
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) { agree(t, rs) }))
}

func agree(t *rapid.T, rs *Ruleset) {
	text := expressions{t}.truth(3)
	if len(text) > MaxConditionBytes {
		return
	}
	c, mistakes := rs.scope.compile(text)
	if mistakes != nil {
		t.Fatalf("%s: %v", text, mistakes)
	}
	if !c.Lowered {
		t.Fatalf("%s is not lowered", text)
	}
	reference, err := rs.scope.interpret(c.checked)
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		f := drawFrame(t, rs)
		if got, want := c.Eval(f), reference(f); got != want {
			t.Fatalf("%s\n%+v\n%+v\nclosures say %d, cel-go %d", text, *f.event, f.source, got, want)
		}
	}
}

// TestConditions: single conditions, over an event whose amount is exactly 5,000.00 yuan.
func TestConditions(t *testing.T) {
	t.Parallel()
	rs := languageScope(t)
	e := &events.Event{Kind: events.PaymentInitiated, Time: time.Date(2026, 3, 1, 23, 30, 0, 0, time.UTC), CustomerID: "c1", DeviceID: "d1",
		CustomerName: "Z", Amount: 500_000, Currency: events.MustCurrency("CNY"), Method: eventsv1.PaymentMethod_PAYMENT_METHOD_CARD}
	source := given{{Int(5), true}, {Decimal{123_456, 2}, true}, {}, {Decimal{90_000, 3}, true}, {}, {Int(3), true}}
	for _, c := range []struct {
		when string
		want Truth
	}{
		{"payment.amount >= 5000", True},
		{"payment.amount > 5000", False},
		{"payment.amount == 5000", True},
		{"payment.amount == 5000.00", True},
		{"payment.amount > 4999.995", True},
		{"payment.amount >= 5000.005", False},
		{"5000 <= payment.amount", True},
		{"payment.amount >= 4 * spent", True},
		{"payment.amount / spent > 4.05", True},
		{"0.1 * payment.amount + 0.2 * payment.amount == 1500", True}, // 0.1 + 0.2 is 0.3 here
		{"payment.amount > usual", Unknown},
		{"payment.amount > usual || tries == 5", True},
		{"payment.amount > usual && tries != 5", False},
		{"!known(usual) && known(spent)", True},
		{`changed < duration("2m") && changed == duration("90s")`, True},
		{"ratio(tries, 10) == 0.5", True},
		{"ratio(tries, 0) > 1", Unknown},
		{"event.hour == 23 && event.weekday == 7", True},
		{`payment.method == "card" && event.currency == "CNY"`, True},
		{`device.known && !ip.known && device.id == "d1" && customer.tier == ""`, True},
		{`device.id.matches("^d[0-9]$")`, True},
		{`size(device.id) == 2`, True}, // by cel-go
		{`size(device.id) == 2 && listed("watch", device.id)`, False},
		{`size(device.id) == 2 && listed("watch", customer.name)`, True},
		{`listed("watch", customer.name) && !listed("watch", payment.card) && !listed("other", customer.name)`, True},
		{`similarity("names", customer.name) == 0.05 && similarity("names", payment.card) == 0`, True},
		{"converted(payment.amount) == 5000 && hops == 3", True},
		{"2 * converted(payment.amount) > converted(spent)", True},
		{`event.time > timestamp("2026-01-01T00:00:00Z")`, True},
		{"tries * 9223372036854775807 > 0", Unknown},
		{"tries + 9223372036854775807 > 0", Unknown},
		{"-9223372036854775807 - tries < 0", Unknown},
		{"5 - tries == 0 && tries + tries == 10", True},
	} {
		cond, mistakes := rs.scope.compile(c.when)
		if mistakes != nil {
			t.Fatal(c.when, mistakes)
		}
		t.Run(c.when, func(t *testing.T) {
			t.Parallel()
			f := rs.NewFrame()
			f.Reset(e, Context{Aggregates: source, Lists: watched{}})
			if got := cond.Eval(f); got != c.want {
				t.Fatalf("got %d, want %d", got, c.want)
			}
		})
	}
}

// TestDecimalsAreExact: against big rationals; what does not fit is said, never wrong.
func TestDecimalsAreExact(t *testing.T) {
	t.Parallel()
	ratOf := func(d Decimal) *big.Rat {
		return new(big.Rat).SetFrac(big.NewInt(d.Coefficient), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.Exponent)), nil))
	}
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) Decimal {
			c := rapid.OneOf(rapid.Int64Range(-1000, 1000), rapid.Int64Range(-1<<62, 1<<62), rapid.SampledFrom([]int64{0, 1<<63 - 1, -1<<63 + 1}))
			return Decimal{c.Draw(t, name), uint8(rapid.IntRange(0, maxExponent).Draw(t, "decimals"))}
		}
		a, b := draw("a"), draw("b")
		x, y := ratOf(a), ratOf(b)
		if got := a.Compare(b); got != x.Cmp(y) {
			t.Fatalf("%v compared with %v is %d", a, b, got)
		}
		check := func(op string, d Decimal, ok bool, want *big.Rat) {
			if ok && ratOf(d).Cmp(want) != 0 {
				t.Fatalf("%v %s %v = %v, want %v", a, op, b, d, want)
			}
		}
		sum, ok := a.Add(b)
		check("+", sum, ok, new(big.Rat).Add(x, y))
		diff, ok := a.Subtract(b)
		check("-", diff, ok, new(big.Rat).Sub(x, y))
		product, ok := a.Multiply(b)
		check("*", product, ok, new(big.Rat).Mul(x, y))
		if q, ok := a.Divide(b); ok {
			// Cut off towards zero: |q| <= |a/b| < |q| + 10^-9.
			want := new(big.Rat).Quo(x, y)
			gap := new(big.Rat).Sub(new(big.Rat).Abs(want), new(big.Rat).Abs(ratOf(q)))
			if gap.Sign() < 0 || gap.Cmp(big.NewRat(1, 1_000_000_000)) >= 0 {
				t.Fatalf("%v / %v = %v, want %v", a, b, q, want)
			}
		}
		small := Decimal{a.Coefficient % 1_000_000, a.Exponent % 4}
		if text := small.String(); strings.Count(text, ".") > 1 {
			t.Fatal(text)
		} else if back, ok := new(big.Rat).SetString(text); !ok || back.Cmp(ratOf(small)) != 0 {
			t.Fatalf("%v is written %q", small, text)
		}
	})
	if _, ok := Int(1 << 40).Add(Decimal{1 << 40, 2}); !ok {
		t.Error("an ordinary sum does not fit")
	}
	if _, ok := (Decimal{events.MaxAmount, 2}).Multiply(Decimal{125, 2}); !ok {
		t.Error("1.25 times the largest amount does not fit")
	}
}

// TestInstalment: the balance after the last equal instalment is at most what rounding up has overpaid.
func TestInstalment(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		principal := rapid.Int64Range(1, 1_000_000_000).Draw(t, "principal")
		rate := events.Rate(rapid.Int64Range(0, 1_000_000).Draw(t, "rate"))
		months := rapid.Int32Range(1, events.MaxTermMonths).Draw(t, "months")
		n, ok := instalment(principal, rate, months)
		if !ok {
			t.Fatal("unknown")
		}
		after := func(n int64) *big.Rat {
			balance := new(big.Rat).SetInt64(principal)
			growth := new(big.Rat).Add(big.NewRat(1, 1), big.NewRat(int64(rate), 12_000_000))
			for range months {
				balance.Mul(balance, growth)
				balance.Sub(balance, new(big.Rat).SetInt64(n))
			}
			return balance
		}
		if after(n).Sign() > 0 {
			t.Fatalf("%d over %d months at %v: %d does not repay it", principal, months, rate, n)
		}
		if n > 1 && after(n-1).Sign() <= 0 {
			t.Fatalf("%d over %d months at %v: %d is more than needed", principal, months, rate, n)
		}
	})
}

func TestSuggestions(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{"cust": "", "divice": "; did you mean device?", "merchnat": "; did you mean merchant?", "zzz": ""} {
		if got := suggest(word, append(fieldNames, "a", "b", "c")); got != want {
			t.Errorf("%s: %q", word, got)
		}
	}
	if got := distance("merchnat", "merchant"); got != 1 {
		t.Errorf("swapped letters are %d apart", got)
	}
}

// BenchmarkCondition compares closures with cel-go on one condition of the fraud pack.
func BenchmarkCondition(b *testing.B) {
	rs := languageScope(b)
	c, mistakes := rs.scope.compile(`payment.method == "card" && payment.amount < 50 && tries >= 5`)
	if mistakes != nil {
		b.Fatal(mistakes)
	}
	reference, err := rs.scope.interpret(c.checked)
	if err != nil {
		b.Fatal(err)
	}
	f := rs.NewFrame()
	f.Reset(&events.Event{Kind: events.PaymentInitiated, Amount: 1250, Currency: events.MustCurrency("CNY"), Method: eventsv1.PaymentMethod_PAYMENT_METHOD_CARD},
		Context{Aggregates: given{{Int(5), true}, {}, {}, {}, {}, {}}})
	for name, eval := range map[string]truth{"closures": c.eval, "cel-go": reference} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if eval(f) != True {
					b.Fatal("it holds")
				}
			}
		})
	}
}

// TestSharingChangesNothing: rules made of a few sub-conditions come to the same, answered once for all or in each.
func TestSharingChangesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		x := expressions{t}
		pool := make([]string, rapid.IntRange(1, 4).Draw(t, "pool"))
		for i := range pool {
			pool[i] = x.truth(1)
		}
		source := language + "rules:\n"
		for i := range rapid.IntRange(1, 6).Draw(t, "rules") {
			op := x.pick("op", " && ", " || ")
			parts := make([]string, rapid.IntRange(1, 5).Draw(t, "parts"))
			for j := range parts {
				parts[j] = x.pick("part", pool...)
			}
			source += fmt.Sprintf("  - {id: r%d, when: %q, then: {score: 1, reason: R, say: s}}\n", i, strings.Join(parts, op))
		}
		shared, err := Load("shared.yaml", []byte(source))
		if err != nil {
			t.Fatal(source, err)
		}
		each, err := load("each.yaml", []byte(source), func(l *loader) { l.alone = true })
		if err != nil {
			t.Fatal(err)
		}
		f := shared.NewFrame() // goes from event to event
		for range 3 {
			g := each.NewFrame()
			drawn := drawFrame(t, shared)
			c := Context{Tier: drawn.tier, Aggregates: drawn.source, Lists: drawn.lists}
			f.Reset(drawn.event, c)
			g.Reset(drawn.event, c)
			a, b := shared.Evaluate(f), each.Evaluate(g)
			if fmt.Sprint(idsOf(a.Hits), a.Errors) != fmt.Sprint(idsOf(b.Hits), b.Errors) || !bytes.Equal(f.Trace(nil), g.Trace(nil)) {
				t.Fatalf("%s\nshared %v %v\neach   %v %v", source, idsOf(a.Hits), a.Errors, idsOf(b.Hits), b.Errors)
			}
		}
	})
}

// TestRounding: against the definition on big rationals.
func TestRounding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := Decimal{rapid.OneOf(rapid.Int64Range(-2000, 2000), rapid.Int64()).Filter(func(n int64) bool { return n != -1<<63 }).Draw(t, "coefficient"),
			uint8(rapid.IntRange(0, maxExponent).Draw(t, "exponent"))}
		decimals := uint8(rapid.IntRange(0, maxExponent).Draw(t, "decimals"))
		how := Rounding(rapid.IntRange(0, 3).Draw(t, "how"))
		got := d.Round(decimals, how)
		if d.Exponent <= decimals {
			if got != d {
				t.Fatalf("%v has no more decimals than %d and became %v", d, decimals, got)
			}
			return
		}
		scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.Exponent-decimals)), nil)
		floor, rest := new(big.Int).DivMod(big.NewInt(d.Coefficient), scale, new(big.Int)) // rest is not negative
		half := new(big.Int).Lsh(rest, 1).Cmp(scale)
		up := map[Rounding]bool{RoundDown: false, RoundUp: rest.Sign() > 0, RoundHalfUp: half > 0 || half == 0 && d.Coefficient > 0,
			RoundHalfEven: half > 0 || half == 0 && floor.Bit(0) == 1}[how]
		if up {
			floor.Add(floor, big.NewInt(1))
		}
		if got.Exponent != decimals || floor.Cmp(big.NewInt(got.Coefficient)) != 0 {
			t.Fatalf("%v to %d decimals, way %d: %v, want %v", d, decimals, how, got, floor)
		}
	})
}
