package day

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"sluice/schemas/events"
)

// profile says how the acquirer's statement is read.
const profile = `profile: acquirer-a
delimiter: ";"
skip: 2
date_format: DD.MM.YYYY
decimal: ","
thousands: "."
columns: {reference: Order, date: Booked, value_date: Value, amount: Net, sign: D/C, fee: Fee, currency: Currency, text: Text, balance: Balance}
debit: [D]
credit: [C]
collective: '^PAYOUT'
ignore: '^Total'
time_zone: Asia/Shanghai
tolerance: {amount: "0.05", days: 2, fee: 60, group_days: 5}
`

// opens is the balance before the day, in minor units of each currency: more than leaves in any day.
const opens = 1_000_000_000_000

// csv writes the acquirer's statement: what it keeps beside what it pays, a balance for each currency, totals at the end.
func (l *sheet) csv() Statement {
	var b bytes.Buffer
	fmt.Fprintf(&b, "acquirer-a;merchant settlement\nday %s;times of Asia/Shanghai\n", l.day.config.Date.Format("02.01.2006"))
	fmt.Fprintln(&b, "Booked;Value;Order;D/C;Gross;Fee;Net;Currency;Balance;Text")
	var balance [len(currencies)]int64
	for c := range balance {
		balance[c] = opens
	}
	for i := range l.lines {
		x := &l.lines[i]
		x.position = i + 4 // two lines above the names of the columns
		net := x.paid - x.fee
		balance[x.currency] += net
		c := currencies[x.currency]
		sign, fee, gross := "C", grouped(x.fee, c), grouped(abs(x.paid), c)
		if net < 0 {
			sign = "D"
		}
		if x.fee == 0 {
			fee = ""
		}
		if x.unsaid {
			fee, gross = "", grouped(net, c)
		}
		ref, text := l.inCSV(x)
		fmt.Fprintf(&b, "%s;%s;%s;%s;%s;%s;%s;%s;%s;%s\n", l.dated(x.booked, "02.01.2006"), l.dated(x.value, "02.01.2006"), ref, sign, gross, fee,
			grouped(abs(net), c), c.Code(), grouped(balance[x.currency], c), text)
	}
	for c, sum := range balance {
		code := currencies[c]
		fmt.Fprintf(&b, "Total;;;;;;%s;%s;%s;closing balance\n", grouped(sum-opens, code), code.Code(), grouped(sum, code))
	}
	return Statement{Name: AcquirerA + "-" + l.day.config.Date.Format(time.DateOnly) + ".csv", Profile: profile, Content: b.Bytes(), Lines: len(l.lines)}
}

// inCSV is what a line says of the payment.
func (l *sheet) inCSV(x *line) (ref, text string) {
	switch {
	case x.count > 0:
		return "PAYOUT " + l.dated(x.booked, "20060102"), fmt.Sprintf("quick pay, %d payments", x.count)
	case x.text:
		return "", "order " + x.ref + ", thank you"
	case x.paid < 0:
		return x.ref, "taken back"
	}
	return x.ref, "sale"
}

// dated writes a day.
func (l *sheet) dated(days int, layout string) string {
	return l.day.config.Date.AddDate(0, 0, days).Format(layout)
}

// grouped writes minor units as "1.234,50".
func grouped(minor int64, c events.Currency) string {
	whole, decimals, has := strings.Cut(events.FormatAmount(abs(minor), c), ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "." + whole[i:]
	}
	if has {
		whole += "," + decimals
	}
	if minor < 0 {
		whole = "-" + whole
	}
	return whole
}
