package posting

import (
	"os"
	"strings"
	"testing"

	"sluice/rules"
)

// TestPacksLoad: what is shipped is fine.
func TestPacksLoad(t *testing.T) {
	t.Parallel()
	for _, name := range PackNames {
		source, ok := Pack(name)
		if !ok {
			t.Fatalf("no pack %s", name)
		}
		r, err := Load(name+".yaml", source)
		if err != nil {
			t.Fatal(err)
		}
		if r.Name != name || len(r.Checksum()) != 12 {
			t.Errorf("the pack %s is called %s, %s", name, r.ID(), r.Checksum())
		}
	}
}

// anEffect is a file of one effect on purchases.
func anEffect(debit, credit, amount string) string {
	return effectOn("moved", `payment.purpose == "purchase"`, debit, credit, amount)
}

func effectOn(on, when, debit, credit, amount string) string {
	back := "\n    back: share"
	if on != "moved" {
		back = ""
	}
	return "postings: house\nversion: 1\neffects:\n  - id: x\n    on: " + on + "\n    when: '" + when + "'\n    post:\n      debit: " + debit +
		"\n      credit: " + credit + "\n      amount: '" + amount + "'\n      kind: x" + back + "\n"
}

// A wrong file is refused, with the place and what to write instead.
func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	const head = "postings: house\nversion: 1\n"
	// partiesBut is the standard parties with one line replaced.
	partiesBut := func(old, new string) string {
		text := string(StandardFile)
		if !strings.Contains(text, old) {
			t.Fatalf("the standard file has no %q", old)
		}
		return strings.Replace(text, old, new, 1)
	}
	const topUp = `  - {id: top-up, when: payment.purpose == "top_up", payer: clearing, payee: account(customer), kept: frozen(customer)}`
	for name, c := range map[string]struct{ source, want string }{
		"empty":               {"", "house.yaml: the file is empty"},
		"no version":          {"postings: house\n", "1:1: the posting rules have no version; write version: 1"},
		"bad name":            {"postings: My Rules\nversion: 1\n", `1:11: postings: "My Rules" is no name`},
		"misspelt key":        {head + "efects: []\n", `3:1: a posting file has no "efects"; did you mean effects?`},
		"unknown moment":      {effectOn("move", "true", "rewards", "wallet(customer)", "1"), `5:9: on: there is no moment "move"; did you mean moved?`},
		"moved beside others": {effectOn("[moved, settled]", "true", "rewards", "wallet(customer)", "1"), "5:9: on: moved stands alone"},
		"one moment twice":    {effectOn("[settled, settled]", "true", "rewards", "wallet(customer)", "1"), "5:9: on: settled is there twice"},
		"no moment":           {effectOn("[]", "true", "rewards", "wallet(customer)", "1"), "5:9: on: name a moment, such as moved"},
		"on held":             {effectOn("held", "true", "rewards", "wallet(customer)", "1"), "5:9: on: nothing is linked to held money"},
		"unknown account":     {anEffect("reward", "wallet(customer)", "1"), `8:14: debit: there is no account "reward"; did you mean rewards?`},
		"unknown owner":       {anEffect("rewards", "wallet(costumer)", "1"), `9:15: credit: nobody called "costumer" has a wallet here; it is one of wallet(customer), wallet(counterparty)`},
		"no owner":            {anEffect("rewards", "wallet", "1"), "9:15: credit: say whose wallet it is, as in wallet(customer)"},
		"house with owner":    {anEffect("rewards(customer)", "wallet(customer)", "1"), "8:14: debit: rewards is the house's own; write rewards"},
		"account of a loan":   {anEffect("loan(customer)", "fees", "1"), "8:14: debit: posting rules have no account loan: the loan's own events post on it"},
		"no such owner here": {effectOn("moved", `payment.purpose == "top_up"`, "rewards", "merchant", "1"),
			`9:15: a top_up has no merchant, so there is no account merchant; narrow when:, as in payment.purpose == "purchase"`},
		"points into money": {anEffect("points(customer)", "wallet(customer)", "1"),
			"9:15: credit: points(customer) counts points and wallet(customer) counts money, and one does not turn into the other by a transfer; write two effects"},
		"money into points": {anEffect("payer", "points(customer)", "1"), "9:15: credit: payer counts money and points(customer) counts points"},
		"two currencies": {anEffect("payee", "wallet(customer)", "amount * 0.01"),
			"9:15: credit: payee and wallet(customer) have different currencies where payer and payee do, and a transfer has one; add !payment.exchanged to when:"},
		"fee in another currency": {effectOn("moved", `payment.purpose == "purchase" && payment.method == "wallet"`, "payer", "fees", "fee"),
			"10:15: amount: the fee is in the payee's currency, payer to fees in the payer's; add !payment.exchanged to when:"},
		"below zero":        {anEffect("payee", "fees", "amount * 0.1 - 5"), "10:15: amount: it can be below zero, down to -5; write max(amount * 0.1 - 5, 0)"},
		"negative constant": {anEffect("payee", "fees", "amount * -0.1"), "10:15: amount: it can be below zero, down to -100000000000000; write max("},
		"above the payment": {anEffect("payee", "fees", "amount * 1.5"), "10:15: amount: it can be more than the payment brings payee, who pays it; write min(amount * 1.5, amount)"},
		"constant above a small payment": {anEffect("payee", "fees", "amount * 0.006 + 0.3"),
			"10:15: amount: it can be more than the payment brings payee, who pays it; write min(amount * 0.006 + 0.3, amount)"},
		"above the payment by name": {anEffect("merchant", "fees", "ceil(amount)"), "10:15: amount: it can be more than the payment brings merchant"},
		"together above the payment": {anEffect("payee", "fees", "amount * 0.3") + "  - {id: y, on: moved, when: payment.purpose == \"purchase\", post: {debit: payee, credit: tax, amount: amount * 0.4, kind: y}, back: keep}\n",
			"13:103: amount: with the effects before it payee pays up to 70 % of a purchase by wallet; several effects may take half of it"},
		"always zero":      {anEffect("rewards", "wallet(customer)", "amount * 0"), "10:15: amount: it is always zero"},
		"without bounds":   {anEffect("rewards", "wallet(customer)", "amount / 0.0001"), "10:15: amount: it can be more than the book takes"},
		"division by zero": {anEffect("rewards", "wallet(customer)", "amount / fee"), "10:25: amount: fee can be zero, and nothing can be divided by zero; write max(fee, 1)"},
		"no number":        {anEffect("rewards", "wallet(customer)", "customer.tier"), "10:16: amount: the formula is a string; it must be a number"},
		"unknown name":     {anEffect("rewards", "wallet(customer)", "ammount * 0.1"), `10:16: amount: unknown name "ammount"; did you mean amount?`},
		"unknown tier":     {effectOn("moved", `customer.tier == "diamond"`, "rewards", "wallet(customer)", "1"), `6:29: when: customer.tier is never "diamond"`},
		"asks a list":      {effectOn("moved", `listed("vip", customer.id)`, "rewards", "wallet(customer)", "1"), "when: listed(), similarity() and converted() are for rulesets"},
		"never holds":      {effectOn("moved", `payment.purpose == "purchase" && payment.purpose == "top_up"`, "rewards", "wallet(customer)", "1"), "6:11: when: no payment is ever one of the effect x"},
		"to itself":        {effectOn("moved", `payment.purpose == "purchase"`, "payee", "merchant", "amount"), "9:15: credit: in a purchase by wallet the effect moves money from merchant to itself"},
		"from nothing":     {anEffect("clearing", "fees", "1"), "8:14: debit: clearing would pay out money that nobody has brought; take it from payer, payee, fees or rewards"},
		"from the payer's channel": {anEffect("payer", "fees", "1"),
			"8:14: debit: payer is clearing in a purchase by card, and it would pay out money that nobody has brought"},
		"costs into a wallet": {anEffect("channel_costs", "wallet(customer)", "1"), "8:14: debit: channel_costs would pay out money that nobody has brought"},
		"from what is kept":   {anEffect("disputed(merchant)", "fees", "1"), "8:14: debit: disputed(merchant) has nothing of this payment"},
		"one name twice": {anEffect("payee", "fees", "amount * 0.1") + "  - {id: x, on: settled, post: {debit: channel_costs, credit: clearing, amount: 1, kind: y}}\n",
			"13:10: id: x is the name of another on line 4; give the effect its own"},
		"no way back": {head + "effects:\n  - {id: x, on: moved, post: {debit: rewards, credit: wallet(customer), amount: 1, kind: x}}\n",
			"4:5: say how the effect x goes back when the payment does: back: share"},
		"half a way back": {head + "effects:\n  - {id: x, on: moved, post: {debit: rewards, credit: wallet(customer), amount: 1, kind: x}, back: {refunded: share}}\n",
			"back: say it of each of refunded, charged_back, voided, failed"},
		"unknown way back":  {strings.Replace(anEffect("rewards", "wallet(customer)", "1"), "back: share", "back: proportional", 1), `12:11: back: there is no way "proportional"; it is one of all, keep, share`},
		"way back of later": {effectOn("settled", "true", "channel_costs", "clearing", "1") + "    back: keep\n", "12:11: back: only what is linked to moved goes back; leave it out"},
		"fees back otherwise": {head + "effects:\n  - {id: x, on: moved, when: payment.purpose == \"purchase\", post: {debit: payee, credit: fees, amount: amount * 0.01, kind: fee}, back: keep}\n" +
			"  - {id: y, on: moved, when: payment.purpose == \"purchase\", post: {debit: payee, credit: fees, amount: amount * 0.01, kind: fee}, back: share}\n",
			"5:137: back: the fees of a payment are one sum, which goes back as the effect x on line 4 says; say the same"},
		"unknown rounding": {strings.Replace(anEffect("rewards", "wallet(customer)", "1"), "kind: x", "kind: x\n      round: upwards", 1), `12:14: round: there is no "upwards"`},
		"bad kind":         {strings.Replace(anEffect("rewards", "wallet(customer)", "1"), "kind: x", "kind: Cash Back", 1), `11:13: kind: "Cash Back" is no kind`},
		"too many effects": {head + "effects:\n" + strings.Repeat("  - {id: x, on: moved}\n", MaxEffects+1), "4:3: 17 effects; at most 16"},
		"too many linked": {head + "effects:\n" + func() (all string) {
			for _, id := range []string{"a", "b", "c", "d"} {
				all += "  - {id: " + id + ", on: moved, when: payment.purpose == \"purchase\", post: {debit: payee, credit: tax, amount: amount * 0.01, kind: x}, back: share}\n"
			}
			return all
		}(), "4:5: effects: a purchase by wallet from 16 merchants would link 112 transfers, more than the book's 80"},

		"two parties at once": {partiesBut(`payment.purpose == "purchase" && payment.method != "wallet"`, `payment.purpose == "purchase"`),
			"24:11: when: a purchase by wallet is a payment of purchase-from-wallet on line 18 too; only one of them may hold"},
		"no party": {partiesBut(`payment.purpose == "purchase" && payment.method != "wallet"`, `payment.purpose == "purchase" && payment.method == "card"`),
			"6:1: nobody pays for a purchase by bank_transfer, a purchase by quick_pay; add a party for it"},
		"no parties":           {head + "parties: []\n", "3:1: nobody pays for a top_up by wallet, a top_up by card, a top_up by bank_transfer, a top_up by quick_pay and 28 others"},
		"party asks the event": {partiesBut(`payment.purpose == "top_up"`, `payment.amount > 5`), `7:24: when: unknown name "payment.amount"`},
		"pays itself":          {partiesBut(topUp, strings.Replace(topUp, "payer: clearing", "payer: wallet(customer)", 1)), "7:85: payee: account(customer) pays itself"},
		"pays with points":     {partiesBut(topUp, strings.Replace(topUp, "payer: clearing", "payer: points(customer)", 1)), "7:60: payer: a payment moves money of customers, merchants, channels and banks"},
		"pays out of fees":     {partiesBut(topUp, strings.Replace(topUp, "payer: clearing", "payer: fees", 1)), "7:60: payer: a payment moves money of"},
		"merchant of a top-up": {partiesBut(topUp, strings.Replace(topUp, "payee: account(customer)", "payee: merchant", 1)), "7:77: a top_up has no merchant"},
		"keeps another's":      {partiesBut("kept: frozen(customer)", "kept: disputed(merchant)"), "kept: a dispute keeps the payee's money in an account of his"},
		"party without payee":  {head + "parties:\n  - {id: x, when: true, payer: clearing}\n", "4:5: a party needs id:, when:, payer: and payee:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Load("house.yaml", []byte(c.source))
			if err == nil {
				t.Fatal("it is taken")
			}
			if got := err.Error(); !strings.Contains(got, c.want) {
				t.Errorf("%s\nwant %s", got, c.want)
			}
			if _, ok := err.(rules.Mistakes); !ok {
				t.Errorf("the error is a %T", err)
			}
		})
	}
}

// All that is wrong is said at once, each mistake once, and nothing that only follows from another.
func TestLoadSaysAll(t *testing.T) {
	t.Parallel()
	const head = "postings: house\nversion: 1\neffects:\n"
	for name, c := range map[string]struct {
		source string
		wants  []string
	}{
		"in one effect": {head + "  - {id: x, on: mooved, when: 'payment.purpos == \"purchase\"', post: {debit: payee, credit: fes, amount: amunt, kind: X, round: upp}, back: shar}\n",
			[]string{`on: there is no moment "mooved"`, "when: ", `credit: there is no account "fes"`, `unknown name "amunt"`, `kind: "X"`, `round: there is no "upp"`, `back: there is no way "shar"`}},
		"what is checked of another effect": {head + "  - {id: x, on: mooved, post: {debit: rewards, credit: fees, amount: 1, kind: x}, back: keep}\n" +
			"  - {id: y, on: settled, post: {debit: rewards, credit: fees, amount: 0 - 1, kind: y}}\n",
			[]string{`on: there is no moment "mooved"`, "5:71: amount: it can be below zero"}},
		"misspelt keys": {head + "  - {id: x, om: moved, post: {debit: rewards, kredit: wallet(customer), amount: 1, kind: x}, back: keep}\n",
			[]string{"did you mean on?", "did you mean credit?"}},
		"no text":     {"postings: [a]\nversion: 1\n", []string{"postings is one value"}},
		"a party":     {"postings: a\nversion: 1\nparties:\n  - {id: x, wen: true, payer: fes, payee: wallet(customer)}\n", []string{"did you mean when?", `payer: there is no account "fes"`}},
		"two moments": {head + "  - {id: x, on: [setled, faild], post: {debit: channel_costs, credit: clearing, amount: 1, kind: x}}\n", []string{`no moment "setled"`, `no moment "faild"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Load("house.yaml", []byte(c.source))
			if err == nil {
				t.Fatal("it is taken")
			}
			for _, want := range c.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %s", want)
				}
			}
			if n := strings.Count(err.Error(), "\n") + 1; n != len(c.wants) || t.Failed() {
				t.Errorf("%d mistakes, want %d:\n%v", n, len(c.wants), err)
			}
		})
	}
}

// FuzzLoad: no bytes make Load panic, and what it takes posts.
func FuzzLoad(f *testing.F) {
	for _, name := range PackNames {
		source, _ := Pack(name)
		f.Add(source)
	}
	f.Add([]byte(anEffect("payee", "fees", "amount * 0.1 - 5")))
	f.Add([]byte(effectOn("settled", "true", "channel_costs", "clearing", `customer.tier == "gold" ? 1 : amount / 3`)))
	f.Fuzz(func(_ *testing.T, data []byte) {
		if r, err := Load("house.yaml", data); err == nil {
			h := newHouse(r)
			for _, d := range aLife() {
				h.apply(d)
			}
		}
	})
}

// TestTheExampleOfThePageHolds: the file that the documentation shows.
func TestTheExampleOfThePageHolds(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/postings.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	example, _, closed := strings.Cut(rest, "```")
	if _, err := Load("docs/postings.md", []byte(example)); err != nil || !closed {
		t.Fatal(err)
	}
	for _, w := range Words() {
		if !strings.Contains(string(page), "`"+w[0]+"`") {
			t.Errorf("the page does not name %s", w[0])
		}
	}
}
