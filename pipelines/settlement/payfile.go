package settlement

import (
	"bufio"
	"encoding/csv"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"sluice/schemas/events"
)

// MaxFilePayments bounds the payments of one file: some 50 MB of XML.
const MaxFilePayments = 50_000

// FileNames are the endings of a payout file's formats.
var FileNames = []string{".csv", ".xml"}

// File is what tells a bank to pay, and what its bytes follow from: the same file is the same bytes.
type File struct {
	ID       int64
	Channel  string // that carries the payouts
	Value    Day
	Number   int // of the channel's files for the date, from 1
	House    Account
	Payments []FilePayment // in order of Number
}

// FilePayment is a payout in a file.
type FilePayment struct {
	Number   int64 // of the order: the end-to-end reference is made of it
	Order    string
	Merchant string
	Account  Account
	Amount   int64
	Currency events.Currency
	At       time.Time // cut-off
}

// Name is the file's name without its ending: "payouts-bank_transfer-2026-02-02-1". What a file name should not have is replaced.
func (f *File) Name() string {
	channel := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, f.Channel)
	if channel == "" {
		channel = "none"
	}
	return fmt.Sprintf("payouts-%s-%s-%d", channel, f.Value, f.Number)
}

// EndToEnd is a payment's reference for both ends, at most 35 characters as ISO 20022 has it: "SLUICE-17".
func (p *FilePayment) EndToEnd() string { return "SLUICE-" + strconv.FormatInt(p.Number, 10) }

// Write writes the file in the format of an ending of FileNames. told is called with how many payments are written.
func (f *File) Write(w io.Writer, ending string, told func(done int)) error {
	if ending == ".csv" {
		return f.writeCSV(w, told)
	}
	return f.writeXML(w, told)
}

// Columns are those of the CSV file.
var Columns = []string{"end_to_end_id", "merchant_id", "holder", "account", "bic", "amount", "currency", "value_date", "payment_id"}

func (f *File) writeCSV(w io.Writer, told func(int)) error {
	out := csv.NewWriter(w)
	if err := out.Write(Columns); err != nil {
		return err
	}
	for i := range f.Payments {
		p := &f.Payments[i]
		if err := out.Write([]string{p.EndToEnd(), p.Merchant, p.holder(), p.Account.Number, p.Account.BIC, events.FormatAmount(p.Amount, p.Currency),
			p.Currency.Code(), f.Value.String(), p.Order}); err != nil {
			return err
		}
		told(i + 1)
	}
	out.Flush()
	return out.Error()
}

func (p *FilePayment) holder() string {
	if p.Account.Holder != "" {
		return p.Account.Holder
	}
	return p.Merchant
}

// group is the payments of one currency with the same date: a PmtInf of the message.
type group struct {
	currency events.Currency
	payments []*FilePayment
}

// sum is the control sum: all amounts added up, in major units, whatever their currencies.
func sum(payments []*FilePayment) string {
	var total decimal.Decimal
	for _, p := range payments {
		total = total.Add(decimal.New(p.Amount, -int32(p.Currency.Exponent())))
	}
	return total.String()
}

func (f *File) groups() (all []group, payments []*FilePayment) {
	by := map[events.Currency]int{}
	for i := range f.Payments {
		p := &f.Payments[i]
		payments = append(payments, p)
		at, known := by[p.Currency]
		if !known {
			at = len(all)
			by[p.Currency] = at
			all = append(all, group{currency: p.Currency})
		}
		all[at].payments = append(all[at].payments, p)
	}
	slices.SortFunc(all, func(a, b group) int { return strings.Compare(a.currency.Code(), b.currency.Code()) })
	return all, payments
}

// made is the message's creation time: the last cut-off of its payments, so that the same file is the same bytes.
func (f *File) made() time.Time {
	var last time.Time
	for i := range f.Payments {
		if f.Payments[i].At.After(last) {
			last = f.Payments[i].At
		}
	}
	return last.UTC()
}

// message is CustomerCreditTransferInitiationV09 as far as it is written at once; the elements are those of ISO 20022.
const namespace = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"

// elements writes elements one after the other; the first error ends it.
type elements struct {
	w   *bufio.Writer
	err error
}

func (e *elements) raw(text string) {
	if e.err == nil {
		_, e.err = e.w.WriteString(text)
	}
}

// open and end an element of a line of its own.
func (e *elements) open(name string) { e.raw("<" + name + ">\n") }
func (e *elements) end(name string)  { e.raw("</" + name + ">\n") }

// text writes an element with text, escaped.
func (e *elements) text(name, text string) {
	e.raw("<" + name + ">")
	if e.err == nil {
		e.err = xml.EscapeText(e.w, []byte(text))
	}
	e.raw("</" + name + ">\n")
}

// name writes a party.
func (e *elements) name(element, name string) {
	e.open(element)
	e.text("Nm", cut(name, 140))
	e.end(element)
}

// account writes an account: an IBAN, or another number.
func (e *elements) account(element string, a Account) {
	e.open(element)
	e.open("Id")
	if a.IBAN() {
		e.text("IBAN", a.Number)
	} else {
		e.open("Othr")
		e.text("Id", a.Number)
		e.end("Othr")
	}
	e.end("Id")
	e.end(element)
}

// agent writes the bank of an account; the standard's word for one that is not known is NOTPROVIDED.
func (e *elements) agent(element string, a Account) {
	e.open(element)
	e.open("FinInstnId")
	if a.BIC != "" {
		e.text("BICFI", a.BIC)
	} else {
		e.open("Othr")
		e.text("Id", "NOTPROVIDED")
		e.end("Othr")
	}
	e.end("FinInstnId")
	e.end(element)
}

func (f *File) writeXML(w io.Writer, told func(int)) error {
	e := &elements{w: bufio.NewWriter(w)}
	groups, payments := f.groups()
	id := "SLUICE-F" + strconv.FormatInt(f.ID, 10)
	e.raw(xml.Header)
	e.raw(`<Document xmlns="` + namespace + `">` + "\n")
	e.open("CstmrCdtTrfInitn")
	e.open("GrpHdr")
	e.text("MsgId", id)
	e.text("CreDtTm", f.made().Format("2006-01-02T15:04:05Z"))
	e.text("NbOfTxs", strconv.Itoa(len(payments)))
	e.text("CtrlSum", sum(payments))
	e.name("InitgPty", f.House.Holder)
	e.end("GrpHdr")
	done := 0
	for _, g := range groups {
		e.open("PmtInf")
		e.text("PmtInfId", id+"-"+g.currency.Code())
		e.text("PmtMtd", "TRF")
		e.text("NbOfTxs", strconv.Itoa(len(g.payments)))
		e.text("CtrlSum", sum(g.payments))
		e.open("ReqdExctnDt")
		e.text("Dt", f.Value.String())
		e.end("ReqdExctnDt")
		e.name("Dbtr", f.House.Holder)
		e.account("DbtrAcct", f.House)
		e.agent("DbtrAgt", f.House)
		for _, p := range g.payments {
			e.transfer(p)
			done++
			told(done)
		}
		e.end("PmtInf")
	}
	e.end("CstmrCdtTrfInitn")
	e.end("Document")
	if e.err != nil {
		return e.err
	}
	return e.w.Flush()
}

// transfer writes one credit transfer.
func (e *elements) transfer(p *FilePayment) {
	e.open("CdtTrfTxInf")
	e.open("PmtId")
	e.text("EndToEndId", p.EndToEnd())
	e.end("PmtId")
	e.open("Amt")
	e.raw(`<InstdAmt Ccy="` + p.Currency.Code() + `">` + events.FormatAmount(p.Amount, p.Currency) + "</InstdAmt>\n")
	e.end("Amt")
	e.agent("CdtrAgt", p.Account)
	e.name("Cdtr", p.holder())
	e.account("CdtrAcct", p.Account)
	e.open("RmtInf")
	e.text("Ustrd", cut(p.Order, 140))
	e.end("RmtInf")
	e.end("CdtTrfTxInf")
}

// cut is a text's first n characters.
func cut(text string, n int) string {
	if r := []rune(text); len(r) > n {
		return string(r[:n])
	}
	return text
}

// Missing says what of an account a payment needs and does not have, "" if nothing.
func (a Account) Missing() string {
	switch {
	case a.Number == "":
		return "account"
	case a.BIC == "" && !a.IBAN():
		return "bic"
	}
	return ""
}
