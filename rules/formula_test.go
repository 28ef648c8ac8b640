package rules

import (
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

func priceTerms(t testing.TB) *Terms {
	terms, err := NewTerms([]string{"payment.method", "payment.purpose", "customer.tier", "event.currency"}, []Term{
		{Name: "amount", Says: "of all that moved", Amount: true}, {Name: "fee", Says: "kept of it", Amount: true, AtMost: "amount"},
		{Name: "payment.exchanged", Says: "in two currencies", Flag: true},
		{Name: "payment.channel", Says: "that carries it", Text: func(e *events.Event) string { return e.PaymentChannel }},
	})
	if err != nil {
		t.Fatal(err)
	}
	return terms
}

// drawFormula draws a formula that type-checks.
func drawFormula(t *rapid.T, depth int) string {
	pick := func(of ...string) string { return rapid.SampledFrom(of).Draw(t, "pick") }
	if depth == 0 {
		return pick("amount", "amount", "fee", "3", "0.006", "0.5", "-2.5", "0.123456789", "120")
	}
	x, y := drawFormula(t, depth-1), drawFormula(t, depth-1)
	shape := pick("+", "-", "*", "/", "min", "max", "round", "floor", "ceil", "round_half_even", "?", "neg")
	switch shape {
	case "+", "-":
		return "(" + x + " " + shape + " " + y + ")"
	case "*":
		return "(" + x + " * " + pick("0.006", "0.9", "3", "0.000125") + ")"
	case "/":
		return "(" + x + " / " + pick("1.06", "3.0", "0.7") + ")"
	case "min", "max":
		return shape + "(" + x + ", " + y + ")"
	case "?":
		return "(" + pick(`customer.tier == "gold"`, "amount > 100", "payment.exchanged", `payment.channel == "x"`) + " ? " + x + " : " + y + ")"
	case "neg":
		return "-(" + x + ")"
	}
	return shape + "(" + x + " + 0.0)"
}

// TestFormulas: what a formula is lowered to agrees with fractions of any size, and stays within its range and under its line.
func TestFormulas(t *testing.T) {
	t.Parallel()
	terms := priceTerms(t)
	rapid.Check(t, func(t *rapid.T) { formulas(t, terms) })
}

func formulas(t *rapid.T, terms *Terms) {
	text := drawFormula(t, rapid.IntRange(0, 4).Draw(t, "depth"))
	n, mistakes := terms.scope.number(text)
	if mistakes != nil { // whole numbers are not divided, decimals stand beside no amounts
		for _, m := range mistakes {
			if !strings.Contains(m.message, "cannot be used") && !strings.Contains(m.message, "not divided") && !strings.Contains(m.message, "bytes") {
				t.Fatalf("%s: %v", text, m)
			}
		}
		return
	}
	f := terms.NewFrame()
	currency := events.MustCurrency(rapid.SampledFrom([]string{"CNY", "JPY", "KWD"}).Draw(t, "currency"))
	f.Reset(&events.Event{Kind: events.PaymentInitiated, Currency: currency, PaymentChannel: rapid.SampledFrom([]string{"", "x"}).Draw(t, "channel"),
		Method: eventsv1.PaymentMethod_PAYMENT_METHOD_CARD}, Context{Tier: rapid.SampledFrom([]string{"", "gold"}).Draw(t, "tier")})
	amount := rapid.OneOf(rapid.Int64Range(1, 100_000), rapid.Int64Range(1, events.MaxAmount), rapid.Just(events.MaxAmount)).Draw(t, "amount")
	exponent := uint8(currency.Exponent())
	f.Set(0, Value{Decimal{amount, exponent}, true})
	f.Set(1, Value{Decimal{rapid.Int64Range(0, amount).Draw(t, "fee"), exponent}, true})
	f.Set(2, Value{Known: rapid.Bool().Draw(t, "exchanged")})
	tree := n.checked.NativeRep()
	exactly, ok := (&wide{tree, n.scope, f}).number(tree.Expr())
	if !ok {
		t.Fatalf("%s has no value", text)
	}
	if d, ok := n.Eval(f); ok && rat(d).Cmp(exactly) != 0 {
		t.Fatalf("%s is %v, and by fractions %v", text, d, exactly)
	}
	s := (&spans{tree: tree, scope: n.scope, terms: terms, base: "amount"}).of(tree.Expr())
	if s.low != nil && exactly.Cmp(s.low) < 0 || s.high != nil && exactly.Cmp(s.high) > 0 {
		t.Fatalf("%s is %v, outside of %v to %v", text, exactly, s.low, s.high)
	}
	if s.slope != nil {
		line := new(big.Rat).Mul(s.slope, rat(Decimal{amount, exponent}))
		if exactly.Cmp(line.Add(line, s.plus)) > 0 {
			t.Fatalf("%s is %v, above %v × amount + %v", text, exactly, s.slope, s.plus)
		}
	}
}

// TestPriceLists: single formulas in minor units of the yuan, for 1,234.56.
func TestPriceLists(t *testing.T) {
	t.Parallel()
	terms := priceTerms(t)
	for _, c := range []struct {
		formula string
		want    int64
	}{
		{"amount * 0.006", 741}, {`amount * (customer.tier == "gold" ? 0.004 : 0.006)`, 494}, {"min(amount * 0.006 + 0.3, 5)", 500},
		{"floor(amount)", 123_400}, {"ceil(amount / 10)", 12_400}, {`customer.tier == "gold" ? 1 : amount`, 100}, {"max(amount - 2000, 0)", 0},
		{"fee * 0.06 / 1.06", 42}, {"round(amount * 20) / 20", 123_455}, {"0.005", 1},
	} {
		n, mistakes := terms.scope.number(c.formula)
		if mistakes != nil {
			t.Fatal(c.formula, mistakes)
		}
		f := terms.NewFrame()
		f.Reset(&events.Event{Kind: events.PaymentInitiated, Currency: events.MustCurrency("CNY")}, Context{Tier: "gold"})
		f.Set(0, Value{Decimal{123_456, 2}, true})
		f.Set(1, Value{Decimal{741, 2}, true})
		if got, ok := n.Units(f, 2, RoundHalfUp); !ok || got != c.want {
			t.Errorf("%s is %d, want %d", c.formula, got, c.want)
		}
	}
}

// TestCan: what a condition can come to with some words fixed.
func TestCan(t *testing.T) {
	t.Parallel()
	terms := priceTerms(t)
	for _, c := range []struct {
		when       string
		method     string
		exchanged  bool
		hold, fail bool
	}{
		{`payment.method == "card"`, "card", false, true, false},
		{`payment.method == "card"`, "wallet", false, false, true},
		{`payment.method != "card" && customer.tier == "gold"`, "wallet", false, true, true},
		{`!payment.exchanged`, "wallet", true, false, true},
		{`!payment.exchanged || amount > 5`, "wallet", true, true, true},
		{`payment.method in ["card", "wallet"]`, "wallet", true, true, false},
	} {
		cond, mistakes := terms.scope.compile(c.when)
		if mistakes != nil {
			t.Fatal(c.when, mistakes)
		}
		hold, fail := terms.Can(cond, map[string]string{"payment.method": c.method}, map[string]bool{"payment.exchanged": c.exchanged})
		if hold != c.hold || fail != c.fail {
			t.Errorf("%s with %s: holds %v, fails %v", c.when, c.method, hold, fail)
		}
	}
}

// FuzzFormulas is TestFormulas, looked for by the fuzzer.
func FuzzFormulas(f *testing.F) {
	terms := priceTerms(f)
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) { formulas(t, terms) }))
}
