package events

import (
	"fmt"
	"math"
	"sort"
	"strings"

	"github.com/shopspring/decimal"
)

// Currency is an ISO 4217 currency the house knows, as an index into its table; the zero value is "none".
type Currency uint8

// currencyTable has the active ISO 4217 currencies that people pay with, and their number of decimals (the standard's
// "minor unit"). Order is part of no contract: outside the process a currency is its code.
var currencyTable = buildCurrencies(map[int]string{
	0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF",
	2: "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE CZK " +
		"DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD " +
		"KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP " +
		"PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH " +
		"USD UYU UZS VES WST XCD XCG YER ZAR ZMW ZWG",
	3: "BHD IQD JOD KWD LYD OMR TND",
})

type currencyInfo struct {
	code     string
	exponent int
}

var currencyByCode map[string]Currency

func buildCurrencies(by map[int]string) []currencyInfo {
	all := []currencyInfo{{}}
	for exponent, codes := range by {
		for _, code := range strings.Fields(codes) {
			all = append(all, currencyInfo{code, exponent})
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].code < all[j].code })
	currencyByCode = make(map[string]Currency, len(all))
	for i, c := range all[1:] {
		currencyByCode[c.code] = Currency(i + 1)
	}
	return all
}

// ParseCurrency returns the currency of an ISO 4217 code, false if the house does not know it.
func ParseCurrency(code string) (Currency, bool) {
	c, ok := currencyByCode[code]
	return c, ok
}

// MustCurrency is ParseCurrency for codes written in the program. It panics on an unknown one.
func MustCurrency(code string) Currency {
	c, ok := currencyByCode[code]
	if !ok {
		panic("events: unknown currency " + code)
	}
	return c
}

// Code returns the ISO 4217 code, "" for none.
func (c Currency) Code() string { return currencyTable[c].code }

// String returns the code.
func (c Currency) String() string { return c.Code() }

// Exponent returns the number of decimals: 2 for CNY, 0 for JPY, 3 for KWD.
func (c Currency) Exponent() int { return currencyTable[c].exponent }

// MaxAmount bounds one amount, in minor units: 10^15 (ten trillion major units at two decimals), so that sums of 9,000
// such amounts still fit an int64.
const MaxAmount int64 = 1_000_000_000_000_000

// maxAmountText bounds the decimal string of an amount: longer is no amount, and would only cost time to parse.
const maxAmountText = 32

// ParseAmount turns a decimal string of major units into minor units. It fails on anything but a plain decimal number
// (no exponent), on more decimals than the currency has, on a negative number and above MaxAmount.
func ParseAmount(text string, c Currency) (int64, error) {
	if text == "" || len(text) > maxAmountText {
		return 0, fmt.Errorf("amount %q is not a decimal number", clip(text, maxAmountText))
	}
	if n, ok := parsePlain(text, c.Exponent()); ok {
		if n > MaxAmount {
			return 0, fmt.Errorf("amount %s is above the limit of %s", text, FormatAmount(MaxAmount, c))
		}
		return n, nil
	}
	if strings.ContainsAny(text, "eE+_ ") {
		return 0, fmt.Errorf("amount %q is not a plain decimal number, such as \"12.50\"", text)
	}
	d, err := decimal.NewFromString(text)
	if err != nil {
		return 0, fmt.Errorf("amount %q is not a decimal number", text)
	}
	minor := d.Shift(int32(c.Exponent()))
	switch {
	case d.IsNegative():
		return 0, fmt.Errorf("amount %s is negative", text)
	case !minor.IsInteger():
		return 0, fmt.Errorf("amount %s has more decimals than %s has (%d)", text, c, c.Exponent())
	case minor.GreaterThan(decimal.New(MaxAmount, 0)):
		return 0, fmt.Errorf("amount %s is above the limit of %s", text, FormatAmount(MaxAmount, c))
	}
	return minor.IntPart(), nil
}

// parsePlain is the quick way for "123" and "123.45" with at most exponent decimals; false sends the caller the long way.
func parsePlain(text string, exponent int) (int64, bool) {
	var n int64
	decimals, digits := -1, 0
	for i := 0; i < len(text); i++ {
		switch ch := text[i]; {
		case ch >= '0' && ch <= '9':
			if n > (math.MaxInt64-9)/10 {
				return 0, false
			}
			n = n*10 + int64(ch-'0')
			digits++
			if decimals >= 0 {
				decimals++
			}
		case ch == '.' && decimals < 0 && digits > 0:
			decimals = 0
		default:
			return 0, false
		}
	}
	if decimals == 0 || decimals > exponent {
		return 0, false
	}
	for i := max(decimals, 0); i < exponent; i++ {
		if n > math.MaxInt64/10 {
			return 0, false
		}
		n *= 10
	}
	return n, true
}

// FormatAmount writes minor units as a decimal string of major units with all the currency's decimals: "12.50".
func FormatAmount(minor int64, c Currency) string {
	return decimal.New(minor, -int32(c.Exponent())).StringFixed(int32(c.Exponent()))
}

// maxExchangeRate bounds a rate of exchange on both sides: no two currencies are further apart.
var maxExchangeRate = decimal.New(1, 9)

// Convert is an amount in minor units of one currency in minor units of another, at a rate: what one major unit of the
// first is in the second. Half a minor unit is rounded up. It fails on a rate that is no plain decimal number above zero
// and at most 10^9, and above MaxAmount.
func Convert(minor int64, from, to Currency, rate string) (int64, error) {
	if rate == "" || len(rate) > maxAmountText || strings.ContainsAny(rate, "eE+_ ") {
		return 0, fmt.Errorf("rate %q is not a plain decimal number, such as \"7.1250\"", clip(rate, maxAmountText))
	}
	r, err := decimal.NewFromString(rate)
	if err != nil || !r.IsPositive() || r.GreaterThan(maxExchangeRate) {
		return 0, fmt.Errorf("rate %q is not a decimal number above 0 and at most %s, such as \"7.1250\"", rate, maxExchangeRate)
	}
	got := decimal.New(minor, int32(to.Exponent()-from.Exponent())).Mul(r).Round(0) // away from zero, and nothing is below it
	if got.GreaterThan(decimal.New(MaxAmount, 0)) {
		return 0, fmt.Errorf("%s %s at the rate %s is above the limit of %s", FormatAmount(minor, from), from, rate, FormatAmount(MaxAmount, to))
	}
	return got.IntPart(), nil
}

// ParseRate turns "0.18" into parts per million. It fails outside 0 to 1 and beyond six decimals.
func ParseRate(text string) (Rate, error) {
	if text == "" || len(text) > maxAmountText || strings.ContainsAny(text, "eE+_ ") {
		return 0, fmt.Errorf("rate %q is not a plain decimal number, such as \"0.18\"", clip(text, maxAmountText))
	}
	d, err := decimal.NewFromString(text)
	if err != nil {
		return 0, fmt.Errorf("rate %q is not a decimal number, such as \"0.18\"", text)
	}
	ppm := d.Shift(6)
	if !ppm.IsInteger() {
		return 0, fmt.Errorf("rate %s has more than six decimals", text)
	}
	if ppm.IsNegative() || ppm.GreaterThan(decimal.New(int64(RateOne), 0)) {
		return 0, fmt.Errorf("rate %s is outside 0 to 1", text)
	}
	return Rate(ppm.IntPart()), nil
}

// FormatRate writes a rate as a decimal string.
func FormatRate(r Rate) string { return decimal.New(int64(r), -6).String() }

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
