package settlement

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice/schemas/events"
)

const good = `
settlement: house
convention: modified_following
house: {holder: The House, account: DE89 3704 0044 0532 0130 00, bic: COBADEFFXXX}
calendars:
  china: {time_zone: Asia/Shanghai, weekend: [saturday, sunday], holidays: [2026-01-01, 2026-02-16..2026-02-23], working_days: 2026-02-14, cut_off: "23:00"}
  target: {time_zone: Europe/Berlin, holidays: [2026-12-25]}
defaults:
  merchant: {calendar: china, cycle: T+1, minimum: {CNY: "1.00", JPY: "100"}, payout: {channel: bank, method: bank_transfer}}
  channel: {calendar: china, cycle: T+1}
merchants:
  M1: {cut_off: "12:30", cut_offs: friday, minimum: {CNY: "5.00"}, reserve: {rate: "0.05", days: 180}, payout: {calendar: target, account: "6222 0212", bic: ICBKCNBJ}}
channels:
  card: {calendar: target, cycle: T+2, pays: gross, fee: {basis_points: 55, fixed: {CNY: "0.10"}}}
`

func TestTermsAreRead(t *testing.T) {
	t.Parallel()
	terms, err := Parse("terms.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	jpy := events.MustCurrency("JPY")
	m, other, card := terms.Of("M1"), terms.Of("M2"), terms.OfChannel("card")
	if m.CutOffs.Minutes != 750 || m.Minimum[cny] != 500 || m.Minimum[jpy] != 100 || m.Reserve != 50_000 || m.Held != 180 || m.Bank.Name != "target" || m.PaidBy != "bank" ||
		m.Account.Number != "62220212" || m.Account.IBAN() || m.Convention != ModifiedFollowing || !m.CutOffs.Every.Weekly || m.CutOffs.Every.Weekday != time.Friday {
		t.Errorf("%+v", m)
	}
	if other.CutOffs.Minutes != 23*60 || other.Minimum[cny] != 100 || other.Reserve != 0 || other.Bank != nil {
		t.Errorf("%+v", other)
	}
	if card.After != 2 || !card.Gross || card.Fee(10_000, cny) != 65 || card.CutOffs.Name != "target" || terms.OfChannel("wire") != &terms.Channel {
		t.Errorf("%+v", card)
	}
	if !terms.House.IBAN() || !terms.Calendars["china"].Holidays[date("2026-02-20")] || !terms.Calendars["china"].Business(date("2026-02-14")) {
		t.Errorf("%+v", terms)
	}
	if m.ValueDate(date("2026-12-24")) != date("2026-12-28") { // T+1 is Christmas, on which the bank is closed
		t.Errorf("%s", m.ValueDate(date("2026-12-24")))
	}
}

// Each mistake is said with its place and what to write instead.
func TestMistakesInTerms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, to, want string }{
		{"settlement: house", "", "begin it with settlement: NAME"},
		{"Asia/Shanghai", "Asia/Shanghia", `6:\d+: time_zone: there is no "Asia/Shanghia"; give a name such as Asia/Shanghai`},
		{"sunday", "sundae", `6:\d+: weekend: "sundae" is no day of the week; did you mean sunday\?`},
		{"2026-02-16..2026-02-23", "2026-02-23..2026-02-16", `6:\d+: holidays: .* is no day as 2026-01-31, nor a span`},
		{`"23:00"`, `"25:00"`, `6:\d+: cut_off: "25:00" is no time of day`},
		{"modified_following", "modified", `convention: "modified" is none`},
		{"{calendar: china, cycle: T+1, minimum", "{calendar: chine, cycle: T+1, minimum", `9:\d+: there is no calendar "chine"; did you mean china\?`},
		{"cycle: T+2", "cycle: D+2", `14:\d+: cycle: "D\+2" is not T\+0 to T\+60, in business days`},
		{`CNY: "5.00"`, `CNY: "5.001"`, `12:\d+: minimum: amount 5.001 has more decimals`},
		{`CNY: "5.00"`, `RMB: "5.00"`, `12:\d+: minimum: "RMB" is no currency`},
		{"days: 180", "days: 0", `12:\d+: days is a whole number from 1 to`},
		{`{rate: "0.05", days: 180}`, `{rate: "0.05"}`, `12:\d+: reserve: say how long it is held`},
		{`rate: "0.05"`, `rate: "5"`, `12:\d+: reserve: rate 5 is outside 0 to 1`},
		{"ICBKCNBJ", "icbc", `12:\d+: bic: "icbc" is no BIC`},
		{"DE89 3704", "DE88 3704", `4:\d+: account: .* check digits are wrong`},
		{"method: bank_transfer", "method: cheque", `9:\d+: method: "cheque" is none`},
		{"pays: gross", "pays: all", `14:\d+: pays: "all"; give net`},
		{"basis_points: 55", "basis_points: 55555", `14:\d+: basis_points is a whole number from 0 to 10000`},
		{"friday", "fridays", `12:\d+: cut_offs: "fridays"; give daily, month_end or a day of the week; did you mean friday\?`},
		{"reserve:", "reserves:", `12:\d+: a merchant's terms has no "reserves"; did you mean reserve\?`},
		{"  channel: {calendar: china, cycle: T+1}\n", "", "the merchant and the channel each need a calendar"},
		{"weekend: [saturday, sunday]", "weekend: [monday, tuesday, wednesday, thursday, friday, saturday, sunday]", "every day of the week is weekend|without a business day"},
	} {
		text := strings.Replace(good, c.from, c.to, 1)
		_, err := Parse("terms.yaml", []byte(text))
		if text == good || err == nil || !regexp.MustCompile(c.want).MatchString(err.Error()) || !strings.HasPrefix(err.Error(), "terms.yaml:") {
			t.Errorf("%q: %v, want %s", c.to, err, c.want)
		}
	}
	for _, text := range []string{"", "settlement: x", "- a", "a: [", "settlement: {}"} {
		if _, err := Parse("terms.yaml", []byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// All mistakes of a file are said at once, each once, and nothing that only follows from another.
func TestAllMistakesInTerms(t *testing.T) {
	t.Parallel()
	text := strings.NewReplacer("Asia/Shanghai", "Asia/Shanghia", "modified_following", "modified", "cycle: T+1, minimum", "cycle: D+1, minimum",
		"{calendar: china, cycle: T+1}", "{calendar: chine, cycle: T+1}", `CNY: "5.00"`, `RMB: "5.00"`, `{rate: "0.05", days: 180}`, `{rate: "0.05", days: 0}`,
		`account: "6222 0212"`, "account: [6222]", "pays: gross", "pays: all", "T+2", "D+2").Replace(good)
	_, err := Parse("terms.yaml", []byte(text))
	wants := []string{`convention: "modified"`, "time_zone", "9:38: cycle", "10:23: there is no calendar", `minimum: "RMB"`, "days is a whole number", "account is one value", "cycle", "pays"}
	if err == nil || len(strings.Split(err.Error(), "\n")) != len(wants) {
		t.Fatalf("%d mistakes wanted:\n%v", len(wants), err)
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in\n%v", want, err)
		}
	}
	for text, want := range map[string]string{
		strings.Replace(good, "\ncalendars:", "\ncalendar:", 1):                                  `did you mean calendars?`,
		strings.Replace(good, "merchant: {calendar:", "merchant: {calender:", 1):                 `did you mean calendar?`,
		strings.Replace(good, "settlement: house", "settlement: [a]", 1):                         "settlement is one value",
		strings.Replace(good, `reserve: {rate: "0.05", days`, `reserve: {rate: "0.05", dais`, 1): `did you mean days?`,
	} {
		_, err := Parse("terms.yaml", []byte(text))
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s alone", err, want)
		}
	}
}

// The example of the documentation is one.
func TestDocumentedTerms(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/settlement.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "```yaml\n")
	example, _, closed := strings.Cut(after, "```")
	if !found || !closed {
		t.Fatal("docs/settlement.md has no example")
	}
	if _, err := Parse("docs/settlement.md", []byte(example)); err != nil {
		t.Error(err)
	}
	if Standard().Name != "standard" {
		t.Error("the shipped terms have no name")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add(standard)
	f.Fuzz(func(t *testing.T, data []byte) {
		if terms, err := Parse("f.yaml", data); (terms == nil) == (err == nil) {
			t.Fatal("neither terms nor a mistake")
		}
	})
}
