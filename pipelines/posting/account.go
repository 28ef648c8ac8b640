package posting

import (
	"slices"
	"strings"

	"sluice/pipelines/ledger"
	"sluice/pipelines/payments"
	"sluice/rules"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// owner is whose account it is.
type owner uint8

const (
	nobody owner = iota // the house's own
	ofCustomer
	ofCounterparty
	ofMerchant
)

var ownerNames = [...]string{"", "customer", "counterparty", "merchant"}

// side is whose currency an account has where payer and payee have two.
type side uint8

const (
	anySide side = iota // the house has accounts in all
	payerSide
	payeeSide
)

// form is a type of account as posting files write it.
type form struct {
	name   string
	owners []owner
	unit   ledger.Unit
	taken  bool // an owner can be left with less than nothing: the book refuses more than there is
	from   bool // money may go from it to customers and merchants: it is theirs, or the house's to spend
}

// forms are the accounts that posting rules may name beside payer and payee. Accounts of loans and of funds belong to what
// lending and the funds post.
var forms = []form{
	{"wallet", []owner{ofCustomer, ofCounterparty}, ledger.Money, true, true},
	{"account", []owner{ofCustomer}, ledger.Money, true, true},
	{"frozen", []owner{ofCustomer, ofCounterparty}, ledger.Money, true, false},
	{"merchant", []owner{ofMerchant}, ledger.Money, true, true},
	{"reserve", []owner{ofMerchant}, ledger.Money, true, false},
	{"disputed", []owner{ofMerchant}, ledger.Money, true, false},
	{"points", []owner{ofCustomer, ofCounterparty}, ledger.Point, true, true},
	{"points_issued", nil, ledger.Point, false, true},
	{"clearing", nil, ledger.Money, false, false},
	{"bank", nil, ledger.Money, false, false},
	{"fees", nil, ledger.Money, false, true},
	{"tax", nil, ledger.Money, false, false},
	{"rewards", nil, ledger.Money, false, true},
	{"channel_costs", nil, ledger.Money, false, false},
	{"suspense", nil, ledger.Money, false, false},
	{"loss", nil, ledger.Money, false, true},
	{"fx", nil, ledger.Money, false, false},
}

// foreign are the types of accounts that posting rules may not name, and whose they are.
var foreign = map[string]string{
	"loan": "the loan's own events post on it", "interest": "the loan's own events post on it", "shares": "the fund's own events post on it",
	"shares_issued": "the fund's own events post on it",
}

// account is an account as a rule names it: which one it is depends on the payment.
type account struct {
	form  *form // nil: payer or payee
	owner owner
	payee bool   // of a nil form
	bank  string // of a bank
}

func (a account) String() string {
	switch {
	case a.form == nil && a.payee:
		return "payee"
	case a.form == nil:
		return "payer"
	case a.bank != "":
		return "bank(" + a.bank + ")"
	case a.owner != nobody && a.form.name != "merchant":
		return a.form.name + "(" + ownerNames[a.owner] + ")"
	}
	return a.form.name
}

// ofChannel says whether the account is that of the payment channel which carries the payment.
func (a account) ofChannel() bool { return a.form != nil && a.form.name == "clearing" }

// side says whose currency the account has.
func (a account) side() side {
	switch {
	case a.form == nil && a.payee, a.owner == ofMerchant, a.owner == ofCounterparty:
		return payeeSide
	case a.form == nil, a.owner == ofCustomer, a.form.name == "clearing":
		return payerSide
	}
	return anySide
}

func (a account) unit() ledger.Unit {
	if a.form == nil {
		return ledger.Money
	}
	return a.form.unit
}

// account reads wallet(customer), merchant, fees, payee. roles says whether payer and payee are there to be named.
func (l *loader) account(n rules.Node, what string, roles bool) (account, bool) {
	text := l.Text(n, what)
	if roles && (text == "payer" || text == "payee") {
		return account{payee: text == "payee"}, true
	}
	name, rest, owned := strings.Cut(text, "(")
	whose := strings.TrimSpace(strings.TrimSuffix(rest, ")"))
	if name = strings.TrimSpace(name); foreign[name] != "" {
		l.Fail(n, "%s: posting rules have no account %s: %s", what, name, foreign[name])
		return account{}, false
	}
	i := slices.IndexFunc(forms, func(f form) bool { return f.name == name })
	if i < 0 || owned && !strings.HasSuffix(rest, ")") {
		l.Fail(n, "%s: there is no account %q%s", what, text, rules.Suggest(name, accountWords(roles)))
		return account{}, false
	}
	f := &forms[i]
	switch {
	case name == "bank":
		if !nameText.MatchString(whose) {
			l.Fail(n, "%s: say which bank, as in bank(main)", what)
			return account{}, false
		}
		return account{form: f, bank: whose}, true
	case f.owners == nil:
		if owned {
			l.Fail(n, "%s: %s is the house's own; write %s", what, name, name)
			return account{}, false
		}
		return account{form: f}, true
	case !owned && name == "merchant":
		return account{form: f, owner: ofMerchant}, true
	case !owned:
		l.Fail(n, "%s: say whose %s it is, as in %s(%s)", what, name, name, ownerNames[f.owners[0]])
		return account{}, false
	}
	o := owner(max(slices.Index(ownerNames[:], whose), 0))
	if !slices.Contains(f.owners, o) {
		l.Fail(n, "%s: nobody called %q has a %s here; it is one of %s", what, whose, name, ownerWords(f))
		return account{}, false
	}
	return account{form: f, owner: o}, true
}

func ownerWords(f *form) string {
	var all []string
	for _, o := range f.owners {
		all = append(all, f.name+"("+ownerNames[o]+")")
	}
	return strings.Join(all, ", ")
}

func accountWords(roles bool) []string {
	var all []string
	if roles {
		all = append(all, "payer", "payee")
	}
	for i := range forms {
		all = append(all, forms[i].name)
	}
	return all
}

// cast is who takes part in a payment: what accounts are of.
type cast struct {
	r        *Rules
	p        *payments.Payment
	merchant string // whose share it is
}

// key is the account in the book, in a currency.
func (a account) key(c *cast, currency events.Currency) ledger.AccountKey {
	p := c.p
	if a.form == nil {
		if a.payee {
			return c.r.Payee(p, c.merchant)
		}
		return c.r.Payer(p)
	}
	id := ""
	switch a.owner {
	case ofCustomer:
		id = p.Customer
	case ofCounterparty:
		id = p.Counterparty
	case ofMerchant:
		id = c.merchant
	}
	switch a.form.name {
	case "wallet":
		return ledger.Wallet(id, currency)
	case "account":
		return ledger.CustomerAccount(id, p.Account, currency)
	case "frozen":
		return ledger.Frozen(id, currency)
	case "merchant":
		return ledger.MerchantPayable(id, currency)
	case "reserve":
		return ledger.Reserve(id, currency)
	case "disputed":
		return ledger.Disputed(id, currency)
	case "points":
		return ledger.Points(id, currency)
	case "clearing":
		return ledger.Clearing(p.Carrier(), p.Shard, currency)
	case "bank":
		return ledger.Bank(a.bank, p.Shard, currency)
	}
	return platform(a.form.name, p.Shard, currency)
}

// platform is one of the house's own accounts.
func platform(name string, shard int32, c events.Currency) ledger.AccountKey {
	switch name {
	case "points_issued":
		return ledger.PointsIssued(shard, c)
	case "fees":
		return ledger.Fees(shard, c)
	case "tax":
		return ledger.Tax(shard, c)
	case "rewards":
		return ledger.Rewards(shard, c)
	case "channel_costs":
		return ledger.ChannelCosts(shard, c)
	case "suspense":
		return ledger.Suspense(shard, c)
	case "loss":
		return ledger.Loss(shard, c)
	}
	return ledger.FX(shard, c)
}

// has says whether a payment of a purpose has somebody.
func has(purpose eventsv1.PaymentPurpose, o owner) bool {
	switch o {
	case ofCounterparty:
		return purpose == eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER
	case ofMerchant:
		return events.PaysMerchant(purpose)
	}
	return true
}
