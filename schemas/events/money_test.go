package events

import (
	"math/big"
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"
)

func TestCurrencies(t *testing.T) {
	t.Parallel()
	f := func(code string, exponent int) {
		t.Helper()
		c, ok := ParseCurrency(code)
		if !ok || c.Code() != code || c.Exponent() != exponent {
			t.Errorf("%s: got %q with %d decimals, %v; want %d", code, c, c.Exponent(), ok, exponent)
		}
	}
	f("CNY", 2)
	f("JPY", 0)
	f("KWD", 3)
	if _, ok := ParseCurrency("cny"); ok {
		t.Error("cny is no code")
	}
	if _, ok := ParseCurrency(""); ok {
		t.Error("the empty code is no currency")
	}
}

// The quick way of ParseAmount agrees with decimal arithmetic on every text.
func TestParseAmountAgreesWithDecimal(t *testing.T) {
	t.Parallel()
	texts := rapid.OneOf(rapid.StringMatching(`[0-9]{1,18}(\.[0-9]{0,5})?`), rapid.StringMatching(`[-+.0-9e]{0,8}`))
	rapid.Check(t, func(t *rapid.T) {
		text := texts.Draw(t, "text")
		c := MustCurrency(rapid.SampledFrom([]string{"JPY", "CNY", "KWD"}).Draw(t, "currency"))
		got, err := ParseAmount(text, c)
		d, bad := decimal.NewFromString(text)
		minor := d.Shift(int32(c.Exponent()))
		fine := bad == nil && !d.IsNegative() && minor.IsInteger() && !minor.GreaterThan(decimal.New(MaxAmount, 0))
		if err == nil && (!fine || !minor.Equal(decimal.New(got, 0))) {
			t.Fatalf("%q %s: got %d, decimal says %s", text, c, got, minor)
		}
		if err != nil && fine && isPlain(text) {
			t.Fatalf("%q %s: refused (%v), decimal says %s", text, c, err, minor)
		}
	})
}

func isPlain(text string) bool {
	dot := false
	for i, r := range text {
		switch {
		case r >= '0' && r <= '9':
		case r == '.' && !dot && i > 0 && i < len(text)-1:
			dot = true
		default:
			return false
		}
	}
	return text != ""
}

func TestFormatAmountIsParsedBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := MustCurrency(rapid.SampledFrom([]string{"JPY", "CNY", "KWD"}).Draw(t, "currency"))
		n := rapid.Int64Range(0, MaxAmount).Draw(t, "minor")
		got, err := ParseAmount(FormatAmount(n, c), c)
		if err != nil || got != n {
			t.Fatalf("%d is written %s and read %d, %v", n, FormatAmount(n, c), got, err)
		}
	})
}

func TestCardNumbers(t *testing.T) {
	t.Parallel()
	f := func(in, want string) {
		t.Helper()
		if got := string(MaskCardNumbers([]byte(in))); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f(`{"card_token":"4111111111111111"}`, `{"card_token":"411111******1111"}`)
	f(`4111 1111 1111 1111 and 5500-0000-0000-0004`, `4111 11** **** 1111 and 5500-00**-****-0004`)
	f(`tok_4111`, `tok_4111`)
	f(`4111111111111112`, `4111111111111112`) // fails Luhn: no card number
	f(`12345678901234567890123`, `12345678901234567890123`)
	f("", "")
}

// TestConvert: what comes out is the nearest minor unit, half a one rounded up, by big rationals.
func TestConvert(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		currency := rapid.SampledFrom([]string{"JPY", "CNY", "KWD"})
		from, to := MustCurrency(currency.Draw(t, "from")), MustCurrency(currency.Draw(t, "to"))
		minor := rapid.Int64Range(0, MaxAmount).Draw(t, "minor")
		rate := decimal.New(rapid.Int64Range(1, 1_000_000_000).Draw(t, "coefficient"), -rapid.Int32Range(0, 9).Draw(t, "decimals"))
		got, err := Convert(minor, from, to, rate.String())
		exact := new(big.Rat).Mul(big.NewRat(minor, 1), rate.Rat())
		exact.Mul(exact, decimal.New(1, int32(to.Exponent()-from.Exponent())).Rat())
		if exact.Cmp(big.NewRat(MaxAmount, 1)) > 0 {
			if err == nil && got > MaxAmount {
				t.Fatalf("%d is above the limit", got)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		off := new(big.Rat).Sub(big.NewRat(got, 1), exact) // above -1/2, at most 1/2
		if off.Cmp(big.NewRat(-1, 2)) <= 0 || off.Cmp(big.NewRat(1, 2)) > 0 {
			t.Fatalf("%d %s at %s is %d %s, exactly %s", minor, from, rate, got, to, exact.RatString())
		}
	})
	for _, rate := range []string{"", "0", "-1", "1e3", "x", "1000000000.1", " 1"} {
		if _, err := Convert(1, MustCurrency("CNY"), MustCurrency("USD"), rate); err == nil {
			t.Errorf("%q was taken for a rate", rate)
		}
	}
}
