package house

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"sluice/pipelines/payments"
	"sluice/pipelines/posting"
	"sluice/pipelines/value"
	"sluice/schemas/events"
)

// LoadPostings returns the posting rules of a shipped pack or of a file, once they have been checked without a mistake. "" is the
// standard pack.
func LoadPostings(name string) (*posting.Rules, error) {
	if name == "" || name == "standard" {
		return posting.Standard(), nil
	}
	source, shipped := posting.Pack(name)
	if !shipped {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("--postings %s: there is no such file; give one, or a shipped pack: %s", name, strings.Join(posting.PackNames, ", "))
		}
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		// One byte more than a file may have: Load says so.
		if source, err = io.ReadAll(io.LimitReader(f, posting.MaxFileBytes+1)); err != nil {
			return nil, fmt.Errorf("read the posting rules: %w", err)
		}
	}
	return posting.Load(name, source)
}

// ShowPostings prints who pays whom, the main transfer of each moment, and what follows from it.
func ShowPostings(name string, out io.Writer) error {
	r, err := LoadPostings(name)
	if err != nil {
		return err
	}
	return showPostings(r, out)
}

func showPostings(r *posting.Rules, out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "%s, checksum %s\n\n", r.ID(), r.Checksum())
	fmt.Fprintln(t, "PARTY\tPAYER\tPAYEE\tKEPT\tWHEN")
	for _, p := range r.Parties() {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", p.ID, p.Payer, p.Payee, p.Kept, plainText(p.When))
	}
	fmt.Fprintln(t, "\nMOMENT\tDEBIT\tCREDIT\tAMOUNT\tKIND\tGOES BACK\tEFFECT, WHEN")
	for _, m := range posting.MainLines() {
		amount := "all of it"
		if m[1] == "-" {
			amount = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t\t\t%s\n", m[0], m[1], m[2], amount, m[3])
		for _, x := range r.Effects() {
			if x.On == m[0] {
				fmt.Fprintf(t, "  +\t%s\t%s\t%s\t%s\t%s\t%s: %s\n", x.Debit, x.Credit, plainText(x.Amount), x.Kind, x.Back, x.ID, plainText(x.When))
			}
		}
	}
	return t.Flush()
}

func plainText(text string) string { return strings.Join(strings.Fields(text), " ") }

// PostingTrial says which payment posting rules are tried on, in words.
type PostingTrial struct {
	Rules, Purpose, Method, Amount, Currency, Tier string
}

// TryPostings prints what rules post in the small life of one payment.
func TryPostings(o PostingTrial, out io.Writer) error {
	r, err := LoadPostings(o.Rules)
	if err != nil {
		return err
	}
	t := posting.Trial{Tier: o.Tier, At: time.Now().UTC()}
	switch value.Tier(o.Tier) {
	case "", value.Platinum, value.Gold, value.Silver, value.Bronze, value.Dormant:
	default:
		return fmt.Errorf("--tier %s: give platinum, gold, silver, bronze or dormant, or leave it out", o.Tier)
	}
	var known bool
	if t.Purpose, known = payments.ParsePurpose(o.Purpose); !known || t.Purpose == 0 {
		return fmt.Errorf("--purpose %s: give top_up, transfer, purchase, withdrawal or payout", o.Purpose)
	}
	if t.Method, known = payments.ParseMethod(o.Method); !known || t.Method == 0 {
		return fmt.Errorf("--method %s: give wallet, card, bank_transfer or quick_pay", o.Method)
	}
	if t.Currency, known = events.ParseCurrency(o.Currency); !known {
		return fmt.Errorf("--currency %s: give an ISO 4217 code, such as CNY", o.Currency)
	}
	if t.Amount, err = events.ParseAmount(o.Amount, t.Currency); err != nil || t.Amount == 0 {
		return fmt.Errorf("--amount %s: give an amount above zero in %s, such as 100.00", o.Amount, t.Currency)
	}
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "MOMENT\tDEBIT\tCREDIT\tAMOUNT\tKIND")
	for _, scene := range r.Try(t) {
		fmt.Fprintf(table, "%s\t\t\t\t\n", scene.Title)
		for i := range scene.Transfers {
			x := &scene.Transfers[i]
			most := ""
			if x.Balancing != 0 {
				most = ", at most what is there"
			}
			fmt.Fprintf(table, "\t%s\t%s\t%s\t%s%s\n", x.Debit, x.Credit, posting.Amount(x), x.Kind, most)
		}
		if len(scene.Transfers) == 0 {
			fmt.Fprintf(table, "\tnothing\t\t\t\n")
		}
	}
	return table.Flush()
}
