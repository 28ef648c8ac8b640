package statement

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sluice/pipelines/reconcile"
)

const (
	head02 = `<?xml version="1.0" encoding="UTF-8"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.02"><BkToCstmrStmt><GrpHdr><MsgId>M</MsgId></GrpHdr>`
	head08 = `<?xml version="1.0"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt>`
	tail   = `</BkToCstmrStmt></Document>`
)

// balance is a Bal in EUR.
func balance(code, amount, which string) string {
	return fmt.Sprintf(`<Bal><Tp><CdOrPrtry><Cd>%s</Cd></CdOrPrtry></Tp><Amt Ccy="EUR">%s</Amt><CdtDbtInd>%s</CdtDbtInd><Dt><Dt>2026-03-01</Dt></Dt></Bal>`, code, amount, which)
}

// entry02 is an Ntry of version 02 in EUR, booked on 2026-03-02.
func entry02(ref, amount, which, rest string) string {
	return fmt.Sprintf("\n<Ntry><NtryRef>%s</NtryRef><Amt Ccy=\"EUR\">%s</Amt><CdtDbtInd>%s</CdtDbtInd><Sts>BOOK</Sts><BookgDt><Dt>2026-03-02</Dt></BookgDt>%s</Ntry>", ref, amount, which, rest)
}

func entry08(ref, amount, which, rest string) string {
	return strings.Replace(entry02(ref, amount, which, rest), "<Sts>BOOK</Sts>", "<Sts><Cd>BOOK</Cd></Sts>", 1)
}

func detail(endToEnd, rest string) string {
	return "<TxDtls><Refs><EndToEndId>" + endToEnd + "</EndToEndId></Refs>" + rest + "</TxDtls>"
}

func details(inner ...string) string { return "<NtryDtls>" + strings.Join(inner, "") + "</NtryDtls>" }

func TestCAMT(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file, want string
		summary    string
	}{
		"02": {
			head02 + "<Stmt><Id>S1</Id><Acct><Id><IBAN>DE1</IBAN></Id></Acct>" + balance("OPBD", "100.00", "CRDT") + balance("CLBD", "61.00", "CRDT") +
				entry02("E1", "10.00", "CRDT", "<ValDt><DtTm>2026-03-03T00:30:00+01:00</DtTm></ValDt>"+details(detail("PAY-1", "<RmtInf><Ustrd>for </Ustrd><Ustrd>shoes</Ustrd></RmtInf>"))+"<AddtlNtryInf>SEPA</AddtlNtryInf>") +
				entry02("E2", "50.00", "DBIT", details(detail("NOTPROVIDED", "<RmtInf><Strd><CdtrRefInf><Ref>RF18</Ref></CdtrRefInf></Strd></RmtInf>"))) +
				strings.Replace(entry02("E3", "7.00", "CRDT", ""), "BOOK", "PDNG", 1) +
				entry02("E4", "1.00", "CRDT", "") + "</Stmt>" + tail,
			`2: "PAY-1" 2026-03-02/2026-03-03 1000+0 EUR "for  shoes  SEPA"
3: "RF18" 2026-03-02/1970-01-01 -5000+0 EUR ""
5: "E4" 2026-03-02/1970-01-01 100+0 EUR ""
`, "camt.053.001.02 3 1 [{EUR 10000 6100}]"},
		"a batch with details, 08": {
			head08 + "<Stmt><Id>S1</Id>" + balance("PRCD", "5.00", "DBIT") + balance("CLBD", "28.50", "CRDT") +
				entry08("B1", "33.50", "CRDT", "<Chrgs><Rcrd><Amt Ccy=\"EUR\">0.50</Amt><CdtDbtInd>DBIT</CdtDbtInd></Rcrd></Chrgs>"+details("<Btch><MsgId>MB</MsgId><NbOfTxs>3</NbOfTxs></Btch>",
					detail("PAY-1", `<Amt Ccy="EUR">10.00</Amt><CdtDbtInd>CRDT</CdtDbtInd>`),
					detail("PAY-2", `<Amt Ccy="EUR">30.00</Amt><CdtDbtInd>CRDT</CdtDbtInd>`),
					detail("PAY-0", `<Amt Ccy="EUR">6.00</Amt><CdtDbtInd>DBIT</CdtDbtInd><RtrInf><Rsn><Cd>AC04</Cd></Rsn><AddtlInf>closed</AddtlInf></RtrInf>`))) + "</Stmt>" + tail,
			`2: "PAY-1" 2026-03-02/1970-01-01 1000+0 EUR ""
2: "PAY-2" 2026-03-02/1970-01-01 3000+0 EUR ""
2: "PAY-0" 2026-03-02/1970-01-01 -600+0 EUR "returned: AC04 closed"
2: "MB" 2026-03-02/1970-01-01 -50+0 EUR "charges"
`, "camt.053.001.08 4 0 [{EUR -500 2850}]"},
		"a batch without details": {
			head02 + "<Stmt>" + entry02("B1", "33.50", "CRDT", details("<Btch><PmtInfId>PB</PmtInfId><NbOfTxs>3</NbOfTxs></Btch>")) +
				entry02("B2", "5.00", "CRDT", details(detail("PAY-1", ""), detail("PAY-2", ""))) + "</Stmt>" + tail,
			`2: "PB" 2026-03-02/1970-01-01 3350+0 EUR "" collective 3
3: "B2" 2026-03-02/1970-01-01 500+0 EUR "" collective 2
`, "camt.053.001.02 2 0 []"},
		"charges": {
			head08 + "<Stmt>" +
				entry08("C1", "9.40", "CRDT", `<Chrgs><TtlChrgsAndTaxAmt Ccy="EUR">0.60</TtlChrgsAndTaxAmt><Rcrd><Amt Ccy="EUR">0.60</Amt><CdtDbtInd>DBIT</CdtDbtInd><ChrgInclInd>true</ChrgInclInd></Rcrd></Chrgs>`+details(detail("PAY-1", ""))) +
				entry08("C2", "9.40", "CRDT", `<Chrgs><Rcrd><Amt Ccy="EUR">0.60</Amt><ChrgInclInd>false</ChrgInclInd></Rcrd></Chrgs>`+details(detail("PAY-2", ""))) +
				entry08("C3", "9.40", "CRDT", details(detail("PAY-3", `<AmtDtls><TxAmt><Amt Ccy="EUR">10.00</Amt></TxAmt></AmtDtls><Chrgs><Rcrd><Amt Ccy="EUR">0.60</Amt></Rcrd></Chrgs>`))) +
				entry08("C4", "10.60", "DBIT", details(detail("PAY-4", `<AmtDtls><InstdAmt><Amt Ccy="EUR">10.00</Amt></InstdAmt></AmtDtls><Chrgs><Rcrd><Amt Ccy="EUR">0.60</Amt></Rcrd></Chrgs>`))) + "</Stmt>" + tail,
			`2: "PAY-1" 2026-03-02/1970-01-01 940+60 EUR ""
3: "PAY-2" 2026-03-02/1970-01-01 940+0 EUR ""
4: "PAY-3" 2026-03-02/1970-01-01 940+60 EUR ""
5: "PAY-4" 2026-03-02/1970-01-01 -1060+60 EUR ""
`, "camt.053.001.08 4 0 []"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, s, err := read(c.file, nil)
			if err != nil || got != c.want {
				t.Errorf("%v\n%s\nwant\n%s", err, got, c.want)
			}
			if in := fmt.Sprint(s.Format, " ", s.Lines, " ", s.Ignored, " ", s.Balances); in != c.summary {
				t.Errorf("%s, want %s", in, c.summary)
			}
		})
	}
}

// A profile may say where the reference is.
func TestCAMTProfile(t *testing.T) {
	t.Parallel()
	got, _, err := read(head02+"<Stmt>"+entry02("E1", "1.00", "CRDT", details(detail("e2e", "<RmtInf><Ustrd>order PAY-77, thanks</Ustrd></RmtInf>")))+"</Stmt>"+tail, profile(t, "profile: n\nreference: 'PAY-\\d+'"))
	if want := "2: \"PAY-77\" 2026-03-02/1970-01-01 100+0 EUR \"order PAY-77, thanks\"\n"; err != nil || got != want {
		t.Error(err, got)
	}
}

func TestCAMTMistakes(t *testing.T) {
	t.Parallel()
	stmt := func(inner string) string { return head02 + "<Stmt><Id>S9</Id>" + inner + "</Stmt>" + tail }
	for name, c := range map[string]struct{ file, want string }{
		"balance": {stmt(balance("OPBD", "1.00", "CRDT") + balance("CLBD", "4.00", "CRDT") + entry02("E1", "2.00", "CRDT", "")),
			`s: statement "S9" opens with 1.00 and closes with 4.00 EUR, but its booked entries move 2.00: 1.00 is missing`},
		"batch": {stmt(entry02("E1", "2.00", "CRDT", details(detail("a", `<Amt Ccy="EUR">1.00</Amt>`), detail("b", `<Amt Ccy="EUR">1.50</Amt>`)))),
			`s:2: entry "E1": its 2 TxDtls sum to 2.50, the entry to 2.00`},
		"some amounts":     {stmt(entry02("E1", "2.00", "CRDT", details(detail("a", `<Amt Ccy="EUR">1.00</Amt>`), detail("b", "")))), `s:2: entry "E1": TxDtls 2 has no amount`},
		"amount":           {stmt(entry02("E1", "2,00", "CRDT", "")), `s:2: entry "E1": amount "2,00" is not a decimal number`},
		"direction":        {stmt(entry02("E1", "2.00", "IN", "")), `s:2: entry "E1": direction "IN" (CdtDbtInd) is neither`},
		"day":              {stmt(strings.Replace(entry02("E1", "2.00", "CRDT", ""), "2026-03-02", "2026-02-30", 1)), `"2026-02-30" is no day`},
		"no day":           {stmt(strings.Replace(entry02("E1", "2.00", "CRDT", ""), "<BookgDt><Dt>2026-03-02</Dt></BookgDt>", "", 1)), "neither BookgDt nor ValDt"},
		"currency":         {stmt(balance("OPBD", "1.00", "CRDT") + strings.Replace(entry02("E1", "2.00", "CRDT", ""), "EUR", "USD", 1)), "it is in USD, the account in EUR"},
		"other message":    {`<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.001.001.03"/>`, "s:1:"},
		"no statement":     {head02 + tail, "there is no Stmt"},
		"cut off":          {stmt(entry02("E1", "2.00", "CRDT", ""))[:300], "EOF"},
		"not XML":          {"<Document", "EOF"},
		"nothing after it": {stmt("") + "<", "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := read(c.file, nil)
			var m *Mistake
			if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &m) {
				t.Errorf("%v\nwant %s", err, c.want)
			}
		})
	}
}

// checkRead holds what is read, whatever it is: every line has a day, an amount that can be kept, and adds up to the
// balances.
func checkRead(t *testing.T, file string, p *Profile) {
	sums := map[string]int64{}
	lines := 0
	s, err := Read("s", strings.NewReader(file), p, func(l Line) error {
		lines++
		if l.Amount == 0 && l.Fee == 0 || l.Date < reconcile.FirstDay || l.Date > reconcile.LastDay || l.Currency.Code() == "" || withinRange(&l) != nil ||
			len(l.Reference) > MaxReference || strings.ContainsRune(l.Reference+l.Text, 0) || l.Position < 1 {
			t.Fatalf("%+v", l)
		}
		sums[l.Currency.Code()] += l.Amount
		return nil
	})
	if err != nil {
		return
	}
	if s.Lines != lines {
		t.Fatalf("%d lines, said %d", lines, s.Lines)
	}
	if s.Format == "csv" {
		for _, b := range s.Balances {
			if p.Columns.Balance != "" && b.Opening+sums[b.Currency.Code()] != b.Closing && s.Ignored == 0 && !strings.Contains(file, ";;") {
				t.Fatalf("%+v, the lines sum to %d", b, sums[b.Currency.Code()])
			}
		}
	}
}

func FuzzCSV(f *testing.F) {
	profiles := []*Profile{
		profile(f, acme),
		profile(f, "profile: n\ncurrency: CNY\ncolumns: {reference: 1, date: 2, amount: 3, fee: 4}"),
		profile(f, "profile: n\nencoding: gbk\ncurrency: CNY\nskip: 1\ncolumns: {reference: ref, date: date, debit: out, credit: in}"),
	}
	f.Add(acmeHead+"PAY-1;02.03.2026;;1.234,50;H;1,50;Kauf;2.233,00\n", uint8(0))
	f.Add("A,2026-03-01,(1.00),0.5\n", uint8(1))
	f.Add("x\nref,date,out,in\nA,2026-03-01,1.00,\n", uint8(2))
	f.Fuzz(func(t *testing.T, file string, which uint8) { checkRead(t, file, profiles[int(which)%len(profiles)]) })
}

func FuzzCAMT(f *testing.F) {
	f.Add(head02 + "<Stmt>" + balance("OPBD", "1.00", "CRDT") + balance("CLBD", "3.00", "CRDT") + entry02("E1", "2.00", "CRDT", details(detail("a", ""))) + "</Stmt>" + tail)
	f.Add(head08 + "<Stmt>" + entry08("E1", "2.00", "DBIT", details(detail("a", `<Amt Ccy="EUR">1.00</Amt>`), detail("b", `<Amt Ccy="EUR">1.00</Amt>`))) + "</Stmt>" + tail)
	f.Fuzz(func(t *testing.T, file string) { checkRead(t, "<"+strings.TrimPrefix(file, "<"), nil) })
}

func FuzzProfile(f *testing.F) {
	f.Add(acme)
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := ParseProfile("p", []byte(text)); err == nil {
			checkRead(t, "A,2026-03-01,1\n", p)
		}
	})
}

// BenchmarkRead: CSV and camt.053 of 100,000 lines.
func BenchmarkRead(b *testing.B) {
	const n = 100_000
	var csv, camt strings.Builder
	camt.WriteString(head08 + "<Stmt>")
	for i := range n {
		fmt.Fprintf(&csv, "PAY-%08d,2026-03-01,%d.00,0.60,a purchase\n", i, i+1)
		camt.WriteString(entry08(fmt.Sprint(i), fmt.Sprintf("%d.00", i+1), "CRDT", details(detail(fmt.Sprintf("PAY-%08d", i), "<RmtInf><Ustrd>a purchase</Ustrd></RmtInf>"))))
	}
	camt.WriteString("</Stmt>" + tail)
	p := profile(b, "profile: n\ncurrency: CNY\ncolumns: {reference: 1, date: 2, amount: 3, fee: 4, text: 5}")
	for name, file := range map[string]string{"csv": csv.String(), "camt": camt.String()} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Read("s", strings.NewReader(file), p, func(Line) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
