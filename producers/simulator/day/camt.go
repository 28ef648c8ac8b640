package day

import (
	"bytes"
	"fmt"
	"time"

	"sluice/schemas/events"
)

// camt writes the bank's statement as camt.053.001.08: a Stmt for each currency, each entry on a line of its own. It needs
// no profile.
func (l *sheet) camt() Statement {
	b := &xmlWriter{line: 1}
	b.add(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt>` + "\n")
	b.add("<GrpHdr><MsgId>BANKB-%s</MsgId><CreDtTm>%sT06:00:00Z</CreDtTm></GrpHdr>\n", l.dated(0, "20060102"), l.dated(1, time.DateOnly))
	for c := range currencies {
		l.account(b, uint8(c))
	}
	b.add("</BkToCstmrStmt></Document>\n")
	return Statement{Name: BankB + "-" + l.day.config.Date.Format(time.DateOnly) + ".xml", Content: b.Bytes(), Lines: len(l.lines)}
}

// xmlWriter knows which line of the file it is at.
type xmlWriter struct {
	bytes.Buffer
	line int
}

func (b *xmlWriter) add(format string, args ...any) {
	before := b.Len()
	if len(args) == 0 {
		b.WriteString(format)
	} else {
		fmt.Fprintf(b, format, args...)
	}
	b.line += bytes.Count(b.Bytes()[before:], []byte{'\n'})
}

// account writes the statement of one currency.
func (l *sheet) account(b *xmlWriter, currency uint8) {
	var own []*line
	closing := int64(opens)
	for i := range l.lines {
		if x := &l.lines[i]; x.currency == currency {
			own = append(own, x)
			closing += x.paid - x.fee
		}
	}
	c := currencies[currency]
	b.add("<Stmt><Id>%s-%s</Id><Acct><Ccy>%[1]s</Ccy></Acct>\n", c.Code(), l.dated(0, "20060102"))
	for _, balance := range []struct {
		code   string
		amount int64
	}{{"OPBD", opens}, {"CLBD", closing}} {
		b.add("<Bal><Tp><CdOrPrtry><Cd>%s</Cd></CdOrPrtry></Tp><Amt Ccy=%q>%s</Amt><CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>%s</Dt></Dt></Bal>\n",
			balance.code, c.Code(), events.FormatAmount(balance.amount, c), l.dated(0, time.DateOnly))
	}
	for n := 0; n < len(own); {
		end := n + 1
		for own[n].batch > 0 && end < len(own) && own[end].batch == own[n].batch {
			end++
		}
		l.entry(b, own[n:end], n)
		if n%1_000 == 999 { // not booked yet: it counts for nothing
			b.add("<Ntry><Amt Ccy=%q>%s</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>PDNG</Cd></Sts></Ntry>\n", c.Code(), events.FormatAmount(opens, c))
		}
		n = end
	}
	b.add("</Stmt>\n")
}

// entry writes an Ntry: a line, or the lines of a batch.
func (l *sheet) entry(b *xmlWriter, own []*line, number int) {
	x, c := own[0], currencies[own[0].currency]
	var sum int64
	for _, y := range own {
		y.position = b.line
		sum += y.paid - y.fee
	}
	b.add("<Ntry><NtryRef>BB%s%07d</NtryRef><Amt Ccy=%q>%s</Amt><CdtDbtInd>%s</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>%s</Dt></BookgDt><ValDt><Dt>%s</Dt></ValDt>",
		c.Code(), number, c.Code(), events.FormatAmount(abs(sum), c), direction(sum), l.dated(x.booked, time.DateOnly), l.dated(x.value, time.DateOnly))
	if len(own) == 1 && x.fee > 0 {
		b.add("<Chrgs><Rcrd><Amt Ccy=%q>%s</Amt><CdtDbtInd>DBIT</CdtDbtInd><ChrgInclInd>true</ChrgInclInd></Rcrd></Chrgs>", c.Code(), events.FormatAmount(x.fee, c))
	}
	b.add("<NtryDtls>")
	switch {
	case x.count > 0:
		b.add("<Btch><PmtInfId>BATCH-%s</PmtInfId><NbOfTxs>%d</NbOfTxs></Btch>", l.dated(x.booked, "20060102"), x.count)
	case len(own) > 1:
		b.add("<Btch><PmtInfId>DETAILED-%07d</PmtInfId><NbOfTxs>%d</NbOfTxs></Btch>", x.batch, len(own))
		for _, y := range own {
			b.add("<TxDtls><Refs><EndToEndId>%s</EndToEndId></Refs><Amt Ccy=%q>%s</Amt><CdtDbtInd>%s</CdtDbtInd></TxDtls>", y.ref, c.Code(), events.FormatAmount(abs(y.paid), c), direction(y.paid))
		}
	case x.text:
		b.add("<TxDtls><Refs><EndToEndId>NOTPROVIDED</EndToEndId></Refs><RmtInf><Ustrd>payment %s, with thanks</Ustrd></RmtInf></TxDtls>", x.ref)
	default:
		b.add("<TxDtls><Refs><EndToEndId>%s</EndToEndId></Refs></TxDtls>", x.ref)
	}
	b.add("</NtryDtls></Ntry>\n")
}

// direction is CRDT for what comes, DBIT for what leaves.
func direction(amount int64) string {
	if amount < 0 {
		return "DBIT"
	}
	return "CRDT"
}
