package statement

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/text/encoding/simplifiedchinese"

	"sluice/pipelines/reconcile"
	"sluice/schemas/events"
)

// acme is a profile that uses most of what there is.
const acme = `
profile: acme
delimiter: ";"
skip: 2
date_format: DD.MM.YYYY
decimal: ","
thousands: "."
currency: EUR
debit: [S]
credit: [H]
amounts: gross
columns: {reference: Ref, date: Buchung, value_date: Valuta, amount: Betrag, sign: S/H, fee: Gebühr, text: Text, balance: Saldo}
reference: 'PAY-\d+'
collective: '^Auszahlung'
ignore: '^Summe'
time_zone: Europe/Berlin
tolerance: {amount: "0.05", days: 1, fee: 60, group_days: 3}
`

const acmeHead = "Konto 4711\nerstellt heute\nRef;Buchung;Valuta;Betrag;S/H;Gebühr;Text;Saldo\n"

func profile(t testing.TB, text string) *Profile {
	t.Helper()
	p, err := ParseProfile("p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// read returns the lines in short, one a line.
func read(text string, p *Profile) (string, Summary, error) {
	var out strings.Builder
	s, err := Read("s", strings.NewReader(text), p, func(l Line) error {
		fmt.Fprintf(&out, "%d: %q %s/%s %d+%d %s %q", l.Position, l.Reference, l.Date, l.ValueDate, l.Amount, l.Fee, l.Currency, l.Text)
		if l.Collective {
			fmt.Fprintf(&out, " collective %d", l.Count)
		}
		fmt.Fprintln(&out)
		return nil
	})
	return out.String(), s, err
}

func TestCSV(t *testing.T) {
	t.Parallel()
	got, s, err := read(acmeHead+
		"x PAY-1 y;02.03.2026;03.03.2026;1.234,50;H;1,50;Kauf;2.233,00\r\n"+
		";03.03.2026;;100;S;;\"Erstattung; PAY-2\";2.133,00\n"+
		"Auszahlung;04.03.2026;;2.000,00;S;;;133,00\n"+
		"null;04.03.2026;;0,00;S;;;133,00\n"+
		"Summe;;;;;;;\n", profile(t, acme))
	want := `4: "PAY-1" 2026-03-02/2026-03-03 123300+150 EUR "Kauf"
5: "PAY-2" 2026-03-03/1970-01-01 -10000+0 EUR "Erstattung; PAY-2"
6: "Auszahlung" 2026-03-04/1970-01-01 -200000+0 EUR "" collective 0
`
	if err != nil || got != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	if s.Lines != 3 || s.Ignored != 2 || s.From.String() != "2026-03-02" || s.To.String() != "2026-03-04" || fmt.Sprint(s.Balances) != "[{EUR 100000 13300}]" {
		t.Errorf("%+v", s)
	}
}

func TestCSVShapes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ profile, file, want string }{
		"columns by number, tabs": {"profile: n\ndelimiter: \"\\t\"\ncolumns: {reference: 2, date: 1, amount: 3, currency: 4}",
			"2026-03-01\tA\t-1.5\tUSD\n2026-03-01\tB\t+2\tJPY\n", "1: \"A\" 2026-03-01/1970-01-01 -150+0 USD \"\"\n2: \"B\" 2026-03-01/1970-01-01 2+0 JPY \"\"\n"},
		"debit and credit columns": {"profile: n\ncurrency: CNY\ncolumns: {reference: ref, date: date, debit: out, credit: in}",
			"\xef\xbb\xbfref,date,out,in\nA,2026-03-01,1.00,\nB,2026-03-01,,2.00\nC,2026-03-01,-3.00,\n",
			"2: \"A\" 2026-03-01/1970-01-01 -100+0 CNY \"\"\n3: \"B\" 2026-03-01/1970-01-01 200+0 CNY \"\"\n4: \"C\" 2026-03-01/1970-01-01 -300+0 CNY \"\"\n"},
		"times, brackets, a minus behind": {"profile: n\ncurrency: CNY\ndate_format: MM/DD/YY hh:mm\ncolumns: {reference: 1, date: 2, amount: 3}",
			"A,03/01/26 10:11,(1.00)\nB,03/02/26 23:59,2.00-\n", "1: \"A\" 2026-03-01/1970-01-01 -100+0 CNY \"\"\n2: \"B\" 2026-03-02/1970-01-01 -200+0 CNY \"\"\n"},
		"the newest first": {"profile: n\ncurrency: CNY\norder: newest_first\ncolumns: {reference: 1, date: 2, amount: 3, balance: 4}",
			"B,2026-03-02,5.00,16.00\nA,2026-03-01,1.00,11.00\n", "1: \"B\" 2026-03-02/1970-01-01 500+0 CNY \"\"\n2: \"A\" 2026-03-01/1970-01-01 100+0 CNY \"\"\n"},
		"a reference's group": {"profile: n\ncurrency: CNY\nreference: 'no (\\w+)'\ncolumns: {text: 1, date: 2, amount: 3}",
			"order no A7 of shop,2026-03-02,5.00\n", "1: \"A7\" 2026-03-02/1970-01-01 500+0 CNY \"order no A7 of shop\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, _, err := read(c.file, profile(t, c.profile)); err != nil || got != c.want {
				t.Errorf("%v\n%s\nwant\n%s", err, got, c.want)
			}
		})
	}
}

func TestEncodings(t *testing.T) {
	t.Parallel()
	plain := "商户订单号,日期,金额,说明\nP1,2026-03-01,5.00,购物\n"
	gbk, err := simplifiedchinese.GBK.NewEncoder().String(plain)
	if err != nil {
		t.Fatal(err)
	}
	text := "profile: n\ncurrency: CNY\ncolumns: {reference: 商户订单号, date: 日期, amount: 金额, text: 说明}\n"
	want := "2: \"P1\" 2026-03-01/1970-01-01 500+0 CNY \"购物\"\n"
	if got, _, err := read(plain, profile(t, text)); err != nil || got != want {
		t.Error(err, got)
	}
	if got, _, err := read(gbk, profile(t, text+"encoding: gbk\n")); err != nil || got != want {
		t.Error(err, got)
	}
	numbers := "profile: n\ncurrency: CNY\ncolumns: {reference: 1, date: 2, amount: 3, text: 4}\nskip: 1\n"
	if _, _, err := read(gbk, profile(t, numbers)); err == nil || !strings.Contains(err.Error(), "s:2:") || !strings.Contains(err.Error(), "encoding: gbk") {
		t.Error(err)
	}
}

// A mistake says where it is and what to do.
func TestCSVMistakes(t *testing.T) {
	t.Parallel()
	simple := "profile: n\ncurrency: CNY\ncolumns: {reference: ref, date: date, amount: amount, balance: balance}\n"
	head := "ref,date,amount,balance\n"
	for name, c := range map[string]struct{ profile, file, want string }{
		"date":             {simple, head + "A,1.3.2026,1,1\n", `s:2:3: "1.3.2026" is no date written as YYYY-MM-DD`},
		"amount":           {simple, head + "A,2026-03-01,\"1,00\",1\n", `s:2:14: "1,00" is no amount with the decimal sign '.'`},
		"decimals":         {simple, head + "A,2026-03-01,1.001,1\n", "s:2:14: amount 1.001 has more decimals"},
		"thousands":        {acme, acmeHead + "A;01.03.2026;;1.23;H;;;\n", `s:4:15: "1.23" has '.' where no thousands end`},
		"sign":             {acme, acmeHead + "A;01.03.2026;;1,23;X;;;\n", `s:4:20: "X" is neither in debit: nor in credit:`},
		"too few columns":  {simple, head + "A,2026-03-01\n", "s:2: 2 columns where the profile needs 4"},
		"no such column":   {simple, "ref,date,betrag,balance\n", `s:1:1: there is no column "amount"`},
		"balance":          {simple, head + "A,2026-03-01,1,1\nB,2026-03-01,1,3\n", "s:3:16: the balance is 3, but the line before makes it 2.00"},
		"open quote":       {simple, head + "\"A,2026-03-01,1,1\n", "s:2:19: extraneous or missing"},
		"nothing":          {simple, "", "s: it has no line of column names"},
		"within skip":      {acme, "Konto", "s:1: the file ends within the 2 lines"},
		"several":          {simple, head + "A,x,1,1\nB,y,1,1\n", "\ns:3:3: \"y\""},
		"no profile":       {"", head, "s: it is not XML, so it is read as CSV, and that needs a profile"},
		"currency":         {"profile: n\ncolumns: {reference: 1, date: 2, amount: 3, currency: 4}\n", "A,2026-03-01,1,XXY\n", `s:1:16: "XXY" is no currency`},
		"reference":        {simple, head + strings.Repeat("A", 300) + ",2026-03-01,1,1\n", "s:2:1: the reference"},
		"debit and credit": {"profile: n\ncurrency: CNY\ncolumns: {reference: 1, date: 2, debit: 3, credit: 4}\n", "A,2026-03-01,1,1\n", "s:1:16: there is both"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p *Profile
			if c.profile != "" {
				p = profile(t, c.profile)
			}
			_, _, err := read(c.file, p)
			var m *Mistake
			if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &m) {
				t.Errorf("%v\nwant %s", err, c.want)
			}
		})
	}
}

func TestProfileMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"profile: n\ncolums: {date: x}":                   "p.yaml:2:1: unknown field \"colums\"",
		"profile: [":                                      "p.yaml:1:",
		"encoding: utf-8":                                 "it has no name",
		"profile: n\nencoding: klingon":                   "there is no encoding",
		"profile: n\ndelimiter: ab":                       "not one character",
		"profile: n\ndate_format: MM.YYYY":                "does not say day, month and year",
		"profile: n\ndecimal: ','\nthousands: ','":        "is the decimal sign too",
		"profile: n\nreference: '('":                      "reference: error parsing regexp",
		"profile: n\nreference: '(a)(b)'":                 "2 groups",
		"profile: n\ntime_zone: Mars":                     "time_zone: there is no",
		"profile: n\ntolerance: {days: 400}":              "tolerance: days: 400; give 0 to 366",
		"profile: n\ntolerance: {amount: '-1'}":           "is no amount",
		"profile: n\ndebit: [x]\ncredit: [X]":             "is in debit too",
		"profile: n\ncurrency: EURO":                      "is no currency",
		"profile: n\norder: random":                       "oldest_first or newest_first",
		"profile: n\namounts: " + strings.Repeat("x", 20): "net or gross",
	} {
		if _, err := ParseProfile("p.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "p.yaml") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"columns: {amount: 1}":                         "there is no date",
		"columns: {date: 1}":                           "there is no amount",
		"columns: {date: 1, amount: 2, debit: 3}":      "amount and debit",
		"columns: {date: 1, amount: 2}":                "there is no currency",
		"columns: {date: 1, amount: 2}\ncurrency: CNY": "there is no reference",
		"columns: {date: 1, amount: 2, sign: 3}":       "sign needs",
	} {
		if _, _, err := read("a", profile(t, "profile: n\n"+text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// The profile in the documentation is one, and reads what it describes.
func TestDocumentedProfile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/reconciliation.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("there is no profile in docs/reconciliation.md")
	}
	got, _, err := read("a\nb\nOrder;Booked;Amount;D/C;Fee;Text;Balance\nx PAY-1;02.03.2026;1.000,00;C;6,00;y;994,00\nTotal;;;;;;\n", profile(t, example))
	if want := "4: \"PAY-1\" 2026-03-02/1970-01-01 99400+600 EUR \"y\"\n"; err != nil || got != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
}

func TestTolerances(t *testing.T) {
	t.Parallel()
	eur := events.MustCurrency("EUR")
	if got, err := profile(t, acme).Options(eur); err != nil || got != (reconcile.Options{Amount: 5, Days: 1, FeePoints: 60, GroupDays: 3}) {
		t.Error(got, err)
	}
	if got, err := (*Profile)(nil).Options(eur); err != nil || got != (reconcile.Options{Days: DefaultDays, GroupDays: DefaultGroupDays}) {
		t.Error(got, err)
	}
	for code, want := range map[string]int64{"JPY": 0, "KWD": 50} { // one tolerance for all currencies of a statement
		if got, err := profile(t, acme).Options(events.MustCurrency(code)); err != nil || got.Amount != want {
			t.Errorf("0.05 %s: %v %v", code, got.Amount, err)
		}
	}
	if got, err := profile(t, strings.Replace(acme, "0.05", "12.75", 1)).Options(events.MustCurrency("JPY")); err != nil || got.Amount != 12 {
		t.Errorf("12.75 JPY: %v %v", got.Amount, err)
	}
}

// endless is a file that never ends.
type endless struct{ head, rest string }

func (e *endless) Read(p []byte) (int, error) {
	if e.head == "" {
		e.head = e.rest
	}
	n := copy(p, e.head)
	e.head = e.head[n:]
	return n, nil
}

// What never ends is not read to its end.
func TestBounded(t *testing.T) {
	t.Parallel()
	p := profile(t, "profile: n\ncurrency: CNY\ncolumns: {reference: 1, date: 2, amount: 3}")
	for name, r := range map[string]io.Reader{
		"a quote":     &endless{"\"A,", "2026-03-01,1\n"},
		"a line":      &endless{"A,", "2026-03-01"},
		"a tag":       &endless{"<a", "a"},
		"a comment":   &endless{"<!--", "a"},
		"a text":      &endless{head02 + "<Stmt><Id>", "aaaa"},
		"an element":  &endless{head02 + "<Stmt><Ntry><BkTxCd>", "<a></a>"},
		"a detail":    &endless{head02 + "<Stmt><Ntry><Amt Ccy=\"CNY\">1</Amt><CdtDbtInd>CRDT</CdtDbtInd><NtryDtls><TxDtls>", "<a>b</a>"},
		"many lines":  &endless{"", "A,2026-03-01,1\n"},
		"many blanks": &endless{"<a>", " "},
		"deep":        &endless{head02 + "<Stmt>", "<a>"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines := 0
			_, err := Read("s", r, p, func(Line) error {
				if lines++; lines > 1000 {
					return errors.New("enough")
				}
				return nil
			})
			if err == nil {
				t.Error("read to the end of what has none")
			}
		})
	}
}
