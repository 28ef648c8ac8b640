package settlement

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"sluice/schemas/events"
)

// pain is what a bank reads of the message, by the standard's own paths.
type pain struct {
	XMLName xml.Name `xml:"urn:iso:std:iso:20022:tech:xsd:pain.001.001.09 Document"`
	Message struct {
		Header struct {
			ID      string `xml:"MsgId"`
			Created string `xml:"CreDtTm"`
			Count   int    `xml:"NbOfTxs"`
			Sum     string `xml:"CtrlSum"`
		} `xml:"GrpHdr"`
		Groups []struct {
			ID     string `xml:"PmtInfId"`
			Count  int    `xml:"NbOfTxs"`
			Sum    string `xml:"CtrlSum"`
			Date   string `xml:"ReqdExctnDt>Dt"`
			Debtor string `xml:"DbtrAcct>Id>IBAN"`
			All    []struct {
				EndToEnd string `xml:"PmtId>EndToEndId"`
				Amount   struct {
					Currency string `xml:"Ccy,attr"`
					Value    string `xml:",chardata"`
				} `xml:"Amt>InstdAmt"`
				Name  string `xml:"Cdtr>Nm"`
				IBAN  string `xml:"CdtrAcct>Id>IBAN"`
				Other string `xml:"CdtrAcct>Id>Othr>Id"`
			} `xml:"CdtTrfTxInf"`
		} `xml:"PmtInf"`
	} `xml:"CstmrCdtTrfInitn"`
}

// Whatever is paid to whom, both formats are read back to what was written, their counts and control sums are those of their
// payments, and the same file is the same bytes.
func TestPayoutFilesAreReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := File{ID: 7, Channel: "bank", Value: date("2026-03-03"), Number: 1, House: Account{"The House & Söhne", "DE89370400440532013000", "COBADEFFXXX"}}
		for i := range rapid.IntRange(1, 20).Draw(t, "payments") {
			a := Account{Holder: rapid.StringN(0, 30, 60).Draw(t, "holder"), Number: rapid.SampledFrom([]string{"GB29NWBK60161331926819", "622202<&>12345"}).Draw(t, "account")}
			a.Holder = strings.Map(func(r rune) rune { // what a file of terms can say: printable
				if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0xfffe || r == 0xffff || r == 0xfffd {
					return -1
				}
				return r
			}, a.Holder)
			f.Payments = append(f.Payments, FilePayment{Number: int64(i + 1), Order: fmt.Sprint("settlement/", i), Merchant: "M<1>", Account: a,
				Amount: rapid.Int64Range(1, events.MaxAmount).Draw(t, "amount"), Currency: events.MustCurrency(rapid.SampledFrom([]string{"CNY", "JPY", "KWD"}).Draw(t, "currency")),
				At: time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC)})
		}
		text := map[string]string{}
		for _, ending := range FileNames {
			var out, again bytes.Buffer
			told := 0
			if err := f.Write(&out, ending, func(done int) { told = done }); err != nil || told != len(f.Payments) {
				t.Fatal(told, err)
			}
			if err := f.Write(&again, ending, func(int) {}); err != nil || !bytes.Equal(out.Bytes(), again.Bytes()) {
				t.Fatal("another write gives other bytes", err)
			}
			text[ending] = out.String()
		}
		readXML(t, &f, text[".xml"])
		lines, err := csv.NewReader(strings.NewReader(text[".csv"])).ReadAll()
		if err != nil || len(lines) != len(f.Payments)+1 {
			t.Fatal(len(lines), err)
		}
		for i, p := range f.Payments {
			if got := lines[i+1]; got[0] != p.EndToEnd() || got[3] != p.Account.Number || got[5] != events.FormatAmount(p.Amount, p.Currency) || got[7] != "2026-03-03" {
				t.Fatalf("%v of %+v", got, p)
			}
		}
	})
}

func readXML(t *rapid.T, f *File, text string) {
	var m pain
	if err := xml.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	by := map[string]*FilePayment{}
	for i := range f.Payments {
		by[f.Payments[i].EndToEnd()] = &f.Payments[i]
	}
	total, n := decimal.Zero, 0
	for _, g := range m.Message.Groups {
		sum := decimal.Zero
		if g.Count != len(g.All) || g.Date != "2026-03-03" || g.Debtor != f.House.Number {
			t.Fatalf("%+v", g)
		}
		for _, x := range g.All {
			p := by[x.EndToEnd]
			if p == nil || x.Amount.Value != events.FormatAmount(p.Amount, p.Currency) || x.Amount.Currency != p.Currency.Code() || x.IBAN+x.Other != p.Account.Number || x.Name != p.holder() {
				t.Fatalf("%+v of %+v", x, p)
			}
			sum = sum.Add(decimal.RequireFromString(x.Amount.Value))
			n++
		}
		if g.Sum != sum.String() {
			t.Fatalf("control sum %s of %s", g.Sum, sum)
		}
		total = total.Add(sum)
	}
	if h := m.Message.Header; h.Count != n || n != len(f.Payments) || h.Sum != total.String() || h.Created != "2026-03-03T00:00:00Z" || len(h.ID) > 35 {
		t.Fatalf("%+v of %d, %s", h, n, total)
	}
}
