package statement

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"sluice/pipelines/reconcile"
	"sluice/schemas/events"
)

// namespaces are the versions of ISO 20022 BankToCustomerStatement that are read.
var namespaces = map[string]string{
	"urn:iso:std:iso:20022:tech:xsd:camt.053.001.02": "camt.053.001.02",
	"urn:iso:std:iso:20022:tech:xsd:camt.053.001.08": "camt.053.001.08",
}

// The elements that are read, in the words of the standard. What an element may hold besides is passed over.
type (
	xmlAmount struct {
		Currency string `xml:"Ccy,attr"`
		Text     string `xml:",chardata"`
	}
	xmlDate struct {
		Day    string `xml:"Dt"`
		Moment string `xml:"DtTm"`
	}
	xmlBalance struct {
		Code      string    `xml:"Tp>CdOrPrtry>Cd"`
		Amount    xmlAmount `xml:"Amt"`
		Direction string    `xml:"CdtDbtInd"`
	}
	xmlStatus struct { // a text in version 02, a code within in version 08
		Text string `xml:",chardata"`
		Code string `xml:"Cd"`
	}
	xmlCharge struct {
		Amount    xmlAmount `xml:"Amt"`
		Direction string    `xml:"CdtDbtInd"`
		Included  string    `xml:"ChrgInclInd"`
	}
	xmlCharges struct { // one in version 02, any number within in version 08
		xmlCharge
		Records []xmlCharge `xml:"Rcrd"`
	}
	xmlBatch struct {
		Message string `xml:"MsgId"`
		Payment string `xml:"PmtInfId"`
		Count   string `xml:"NbOfTxs"`
	}
	xmlDetail struct {
		EndToEnd    string       `xml:"Refs>EndToEndId"`
		Transaction string       `xml:"Refs>TxId"`
		Instruction string       `xml:"Refs>InstrId"`
		Servicer    string       `xml:"Refs>AcctSvcrRef"`
		Amount      xmlAmount    `xml:"Amt"`               // version 08
		Detailed    xmlAmount    `xml:"AmtDtls>TxAmt>Amt"` // version 02; in version 08 before charges
		Instructed  xmlAmount    `xml:"AmtDtls>InstdAmt>Amt"`
		Direction   string       `xml:"CdtDbtInd"`
		Charges     []xmlCharges `xml:"Chrgs"`
		Creditor    string       `xml:"RmtInf>Strd>CdtrRefInf>Ref"`
		Remittance  []string     `xml:"RmtInf>Ustrd"`
		ReturnCode  string       `xml:"RtrInf>Rsn>Cd"`
		ReturnText  []string     `xml:"RtrInf>AddtlInf"`
		Additional  string       `xml:"AddtlTxInf"`
	}
)

// camt is a camt.053 file being read.
type camt struct {
	summary
	file    string
	profile *Profile
	budget  *budget
	xml     *xml.Decoder
}

func readCAMT(file string, r io.Reader, p *Profile, yield func(Line) error) (Summary, error) {
	c := &camt{file: file, profile: p, budget: &budget{r: r, left: maxRecord}}
	c.yield = yield
	c.xml = xml.NewDecoder(c.budget)
	c.xml.CharsetReader = func(label string, r io.Reader) (io.Reader, error) {
		e, err := findEncoding(label)
		if err != nil || e == nil {
			return r, err
		}
		return e.NewDecoder().Reader(r), nil
	}
	if err := c.document(); err != nil {
		var placed *Mistake
		if !errors.As(err, &placed) {
			line, column := c.xml.InputPos()
			err = &Mistake{File: file, Line: line, Column: column, Message: err.Error()}
		}
		return c.Summary, err
	}
	return c.Summary, nil
}

// document reads the root and, within, the statements.
func (c *camt) document() error {
	root, err := c.root()
	if err != nil {
		return err
	}
	if c.Format = namespaces[root.Name.Space]; c.Format == "" || root.Name.Local != "Document" {
		return fmt.Errorf("the root is %s of %q; a statement is a Document of camt.053.001.02 or camt.053.001.08", root.Name.Local, clip(root.Name.Space, 100))
	}
	statements := 0
	err = c.children(func(e xml.StartElement) error {
		if e.Name.Local != "BkToCstmrStmt" {
			return c.xml.Skip()
		}
		return c.children(func(e xml.StartElement) error {
			if e.Name.Local != "Stmt" {
				return c.xml.Skip()
			}
			statements++
			return c.statement()
		})
	})
	if err != nil {
		return err
	}
	if statements == 0 {
		return errors.New("there is no Stmt in BkToCstmrStmt: it is no statement")
	}
	for { // what follows the root must be XML too
		if _, err := c.xml.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (c *camt) root() (xml.StartElement, error) {
	for {
		token, err := c.xml.Token()
		if errors.Is(err, io.EOF) {
			err = errors.New("the file has no element")
		}
		if err != nil {
			return xml.StartElement{}, err
		}
		if e, ok := token.(xml.StartElement); ok {
			return e, nil
		}
	}
}

// children calls f for each element up to the end of the one that was begun; f reads it to its end.
func (c *camt) children(f func(xml.StartElement) error) error {
	for {
		c.budget.reset()
		token, err := c.xml.Token()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		switch e := token.(type) {
		case xml.StartElement:
			if err := f(e); err != nil {
				return err
			}
		case xml.EndElement:
			return nil
		}
	}
}

// account is a statement's balances, by what the standard calls them, and the sum of its entries.
type account struct {
	currency events.Currency
	balances map[string]int64
	sum      int64
	id       string
}

// statement reads one Stmt and holds its balances against its entries.
func (c *camt) statement() error {
	a := &account{balances: map[string]int64{}}
	err := c.children(func(e xml.StartElement) error {
		switch e.Name.Local {
		case "Id":
			return c.xml.DecodeElement(&a.id, &e)
		case "Bal":
			return c.balance(a, &e)
		case "Ntry":
			return c.entry(a)
		}
		return c.xml.Skip()
	})
	if err != nil {
		return err
	}
	opening, ok := a.balances["OPBD"]
	if !ok {
		opening, ok = a.balances["PRCD"]
	}
	closing, closed := a.balances["CLBD"]
	if !ok || !closed {
		return nil
	}
	if off := opening + a.sum - closing; off != 0 {
		return &Mistake{File: c.file, Message: fmt.Sprintf("statement %q opens with %s and closes with %s %s, but its booked entries move %s: %s is missing, twice or changed; get the statement again",
			clip(clean(a.id), 40), events.FormatAmount(opening, a.currency), events.FormatAmount(closing, a.currency), a.currency,
			events.FormatAmount(a.sum, a.currency), events.FormatAmount(-off, a.currency))}
	}
	c.Balances = append(c.Balances, Balance{a.currency, opening, closing})
	return nil
}

func (c *camt) balance(a *account, e *xml.StartElement) error {
	var b xmlBalance
	if err := c.xml.DecodeElement(&b, e); err != nil {
		return err
	}
	code := clean(b.Code)
	if code != "OPBD" && code != "PRCD" && code != "CLBD" {
		return nil
	}
	amount, currency, err := b.Amount.signed(b.Direction)
	if err != nil {
		return fmt.Errorf("balance %s: %w", code, err)
	}
	if a.currency != (events.Currency(0)) && a.currency != currency {
		return fmt.Errorf("balance %s is in %s, another in %s", code, currency, a.currency)
	}
	if _, twice := a.balances[code]; !twice { // a first one of several is the account's, others are parts of it
		a.balances[code], a.currency = amount, currency
	}
	return nil
}

// entry is one Ntry. Its details come one by one: a batch may have any number.
type entry struct {
	line      Line
	amount    int64 // without its sign
	has       bool  // an amount
	direction string
	reference string // NtryRef
	servicer  string // AcctSvcrRef
	text      string // AddtlNtryInf
	booked    bool
	charges   []xmlCharges
	batch     xmlBatch

	count      int        // details so far
	first      *xmlDetail // kept until it is known whether it is the only one
	collective bool       // details without amounts
	sum        int64      // of what was handed on
}

// entry reads one Ntry. Version 02 and 08 write the same elements in the same order, details last but for a text.
func (c *camt) entry(a *account) error {
	n := &entry{}
	n.line.Position, _ = c.xml.InputPos()
	err := c.children(func(e xml.StartElement) error {
		if e.Name.Local == "NtryDtls" {
			return c.details(n)
		}
		return c.field(n, &e)
	})
	if err != nil {
		return c.inEntry(n, err)
	}
	if err := n.sign(); err != nil {
		return c.inEntry(n, err)
	}
	switch {
	case !n.booked || n.line.Amount == 0:
		c.Ignored++
		return nil
	case a.currency != (events.Currency(0)) && a.currency != n.line.Currency:
		return c.inEntry(n, fmt.Errorf("it is in %s, the account in %s", n.line.Currency, a.currency))
	}
	a.currency = n.line.Currency
	const most = 1 << 61 // half of what an int64 holds, so that no sum of two leaves it
	if a.sum += n.line.Amount; a.sum > most || a.sum < -most {
		return c.inEntry(n, errors.New("the sum of the entries is above what can be kept"))
	}
	return c.inEntry(n, c.finishEntry(n))
}

// inEntry says where an error is.
func (c *camt) inEntry(n *entry, err error) error {
	var placed *Mistake
	if err == nil || errors.As(err, &placed) {
		return err
	}
	return &Mistake{File: c.file, Line: n.line.Position, Message: fmt.Sprintf("entry %q: %v", clip(clean(n.reference+n.servicer), 40), err)}
}

// field reads one element of an entry.
func (c *camt) field(n *entry, e *xml.StartElement) error {
	switch e.Name.Local {
	case "NtryRef":
		return c.xml.DecodeElement(&n.reference, e)
	case "AcctSvcrRef":
		return c.xml.DecodeElement(&n.servicer, e)
	case "AddtlNtryInf":
		return c.xml.DecodeElement(&n.text, e)
	case "Amt":
		return c.entryAmount(n, e)
	case "CdtDbtInd":
		return c.xml.DecodeElement(&n.direction, e)
	case "Sts":
		var s xmlStatus
		err := c.xml.DecodeElement(&s, e)
		n.booked = clean(s.Text) == "BOOK" || clean(s.Code) == "BOOK"
		return err
	case "BookgDt":
		return c.day(&n.line.Date, e)
	case "ValDt":
		return c.day(&n.line.ValueDate, e)
	case "Chrgs":
		var charges xmlCharges
		err := c.xml.DecodeElement(&charges, e)
		if n.charges = append(n.charges, charges); len(n.charges) > maxCharges {
			err = fmt.Errorf("more than %d Chrgs", maxCharges)
		}
		return err
	}
	return c.xml.Skip()
}

// maxCharges bounds the charges of an entry.
const maxCharges = 100

func (c *camt) entryAmount(n *entry, e *xml.StartElement) error {
	var amount xmlAmount
	if err := c.xml.DecodeElement(&amount, e); err != nil {
		return err
	}
	var err error
	n.amount, n.line.Currency, err = amount.read()
	n.has = err == nil
	return err
}

// sign gives the entry's amount its sign.
func (n *entry) sign() error {
	if !n.has {
		return errors.New("there is no Amt, or it comes after NtryDtls, which the standard puts last")
	}
	sign, err := direction(n.direction)
	n.line.Amount = n.amount * sign
	return err
}

func (c *camt) day(to *reconcile.Day, e *xml.StartElement) error {
	var d xmlDate
	if err := c.xml.DecodeElement(&d, e); err != nil {
		return err
	}
	text := clean(d.Day)
	if text == "" {
		text = clean(d.Moment)
	}
	var err error
	*to, err = reconcile.ParseDay(clip(text, len("2026-01-31"))) // what follows is a time or a zone: the day is the bank's
	return err
}

// details reads one NtryDtls.
func (c *camt) details(n *entry) error {
	if err := n.sign(); err != nil {
		return err
	}
	return c.children(func(e xml.StartElement) error {
		switch e.Name.Local {
		case "Btch":
			return c.xml.DecodeElement(&n.batch, &e)
		case "TxDtls":
			d := &xmlDetail{}
			if err := c.xml.DecodeElement(d, &e); err != nil {
				return err
			}
			return c.detail(n, d)
		}
		return c.xml.Skip()
	})
}

// detail takes a detail. The first is kept: if it stays the only one, the entry says the amount.
func (c *camt) detail(n *entry, d *xmlDetail) error {
	if n.count++; n.count > MaxLines {
		return fmt.Errorf("more than %d TxDtls", MaxLines)
	}
	switch {
	case !n.booked:
		return nil
	case n.count == 1:
		n.first = d
		return nil
	case n.count == 2 && n.first.amount() == nil:
		n.collective = true
	case n.count == 2:
		if err := c.part(n, n.first); err != nil {
			return err
		}
	}
	if n.collective {
		return nil
	}
	return c.part(n, d)
}

// part hands on one of several details.
func (c *camt) part(n *entry, d *xmlDetail) error {
	l := Line{Position: n.line.Position}
	l.Currency, l.Date, l.ValueDate = n.line.Currency, n.line.Date, n.line.ValueDate
	amount := d.amount()
	if amount == nil {
		return fmt.Errorf("TxDtls %d has no amount, others have: ask the bank for all or none", n.count)
	}
	which := d.Direction
	if which == "" {
		which = n.direction
	}
	var err error
	if l.Amount, l.Currency, err = amount.signed(which); err != nil {
		return err
	}
	if l.Currency != n.line.Currency {
		return fmt.Errorf("TxDtls %d is in %s, the entry in %s", n.count, l.Currency, n.line.Currency)
	}
	n.sum += l.Amount
	if l.Amount == 0 {
		c.Ignored++
		return nil
	}
	return c.hand(&l, n, d, d.Charges)
}

// finishEntry hands on what the details have not.
func (c *camt) finishEntry(n *entry) error {
	if n.count > 1 && !n.collective {
		return c.rest(n)
	}
	d := n.first
	if d == nil || n.collective {
		d = &xmlDetail{}
		if count, err := strconv.Atoi(clean(n.batch.Count)); err == nil && count > 1 && count <= MaxLines {
			n.line.Collective, n.line.Count = true, count
		}
	}
	if n.collective {
		n.line.Collective, n.line.Count = true, n.count
	}
	return c.hand(&n.line, n, d, append(n.charges, d.Charges...))
}

// rest holds an entry against its details. What the bank charged on top of them is a line of its own.
func (c *camt) rest(n *entry) error {
	rest := n.line.Amount - n.sum
	if rest == 0 {
		return nil
	}
	var charges int64
	for i := range n.charges {
		fee, _, err := n.charges[i].total(n.line.Currency, true)
		if err != nil {
			return err
		}
		charges += fee
	}
	if rest != -charges {
		return fmt.Errorf("its %d TxDtls sum to %s, the entry to %s: the difference is not its charges; get the statement again", n.count,
			events.FormatAmount(n.sum, n.line.Currency), events.FormatAmount(n.line.Amount, n.line.Currency))
	}
	n.line.Amount = rest
	n.text = "charges " + n.text
	return c.hand(&n.line, n, &xmlDetail{}, nil)
}

// hand completes a line and hands it on.
func (c *camt) hand(l *Line, n *entry, d *xmlDetail, charges []xmlCharges) error {
	if l.Date == 0 {
		l.Date = l.ValueDate
	}
	if l.Date == 0 {
		return errors.New("there is neither BookgDt nor ValDt")
	}
	var err error
	if l.Fee, err = fee(l, d, charges); err != nil {
		return err
	}
	if err := withinRange(l); err != nil {
		return err
	}
	references := []string{d.EndToEnd, d.Creditor, d.Transaction, d.Instruction, d.Servicer, n.batch.Payment, n.batch.Message, n.servicer, n.reference}
	if l != &n.line && n.count > 1 { // the batch's references are not the payment's
		references = references[:5]
	}
	text := append([]string{}, d.Remittance...)
	if d.ReturnCode != "" {
		text = append(append(text, "returned: "+clean(d.ReturnCode)), d.ReturnText...)
	}
	if err := c.profile.finish(l, references, strings.Join(append(text, d.Additional, n.text), " ")); err != nil {
		return err
	}
	return c.add(*l)
}

// fee returns what the channel kept of a line beforehand: the charges that its amount is net of.
func fee(l *Line, d *xmlDetail, charges []xmlCharges) (int64, error) {
	if len(charges) > maxCharges {
		return 0, fmt.Errorf("more than %d Chrgs", maxCharges)
	}
	var before int64 // what was paid, if the details say so
	for _, x := range []*xmlAmount{&d.Detailed, &d.Instructed} {
		if n, currency, err := x.read(); err == nil && currency == l.Currency && before == 0 {
			before = n
		}
	}
	var sum, unsaid int64
	for i := range charges {
		fee, open, err := charges[i].total(l.Currency, false)
		if err != nil {
			return 0, err
		}
		sum, unsaid = sum+fee, unsaid+open
	}
	if unsaid != 0 && before != 0 && before == abs(l.Amount+sum+unsaid) {
		sum += unsaid
	}
	return sum, nil
}

// total adds up charges in a currency: those of which it is said that the amount is net of them, or all; and those of
// which nothing is said. What the bank gives back counts negative.
func (x *xmlCharges) total(currency events.Currency, all bool) (included, unsaid int64, err error) {
	records := x.Records
	if x.Amount.Text != "" {
		records = append(records[:len(records):len(records)], x.xmlCharge)
	}
	for i := range records {
		r := &records[i]
		n, c, err := r.Amount.read()
		if err != nil {
			return 0, 0, fmt.Errorf("charges: %w", err)
		}
		if c != currency {
			continue // of another account
		}
		if clean(r.Direction) == "CRDT" {
			n = -n
		}
		switch said := clean(r.Included); {
		case all || said == "true" || said == "1":
			included += n
		case said == "":
			unsaid += n
		}
		if abs(included) > events.MaxAmount || abs(unsaid) > events.MaxAmount {
			return 0, 0, errors.New("charges: the sum is above the limit of an amount")
		}
	}
	return included, unsaid, nil
}

// amount is what a detail says moved, nil for nothing.
func (d *xmlDetail) amount() *xmlAmount {
	for _, a := range []*xmlAmount{&d.Amount, &d.Detailed} {
		if a.Text != "" {
			return a
		}
	}
	return nil
}

// read returns an amount, which the standard writes without a sign.
func (a *xmlAmount) read() (int64, events.Currency, error) {
	currency, ok := events.ParseCurrency(clean(a.Currency))
	if !ok {
		return 0, 0, fmt.Errorf("currency %.20q is no currency of ISO 4217 the house knows", a.Currency)
	}
	n, err := events.ParseAmount(clean(a.Text), currency)
	return n, currency, err
}

func (a *xmlAmount) signed(which string) (int64, events.Currency, error) {
	n, currency, err := a.read()
	if err != nil {
		return 0, 0, err
	}
	sign, err := direction(which)
	return n * sign, currency, err
}

// direction returns 1 for what comes to the account, -1 for what leaves it.
func direction(code string) (int64, error) {
	switch clean(code) {
	case "CRDT":
		return 1, nil
	case "DBIT":
		return -1, nil
	}
	return 0, fmt.Errorf("direction %.20q (CdtDbtInd) is neither CRDT nor DBIT", code)
}
