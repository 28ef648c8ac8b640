package booksim

import (
	"slices"

	"sluice/pipelines/ledger"
	"sluice/schemas/events"
)

var (
	cny = events.MustCurrency("CNY")
	jpy = events.MustCurrency("JPY")
)

// facts are what the model knows of an account, said again in its own words.
type facts struct {
	currency events.Currency
	grows    ledger.Side
	counts   string
	floor    *int64 // nil: it may go below zero
}

var zero int64

// overdraft is the floor of one account of its own.
var overdraft int64 = -250

// universe are the accounts of the simulation: few, so that everything meets everything.
var universe = map[ledger.AccountKey]facts{
	"wallet:A:CNY":          {cny, ledger.CreditSide, "money", &zero},
	"wallet:B:CNY":          {cny, ledger.CreditSide, "money", &zero},
	"wallet:C:CNY":          {cny, ledger.CreditSide, "money", &overdraft},
	"frozen:A:CNY":          {cny, ledger.CreditSide, "money", &zero},
	"merchant:M:CNY":        {cny, ledger.CreditSide, "money", &zero},
	"reserve:M:CNY":         {cny, ledger.CreditSide, "money", &zero},
	"clearing:card/0:CNY":   {cny, ledger.DebitSide, "money", nil},
	"fees/0:CNY":            {cny, ledger.CreditSide, "money", nil},
	"suspense/1:CNY":        {cny, ledger.DebitSide, "money", nil},
	"loan:L:CNY":            {cny, ledger.DebitSide, "money", &zero},
	"fx/0:CNY":              {cny, ledger.DebitSide, "money", nil},
	"fx/1:CNY":              {cny, ledger.DebitSide, "money", nil},
	"wallet:A:JPY":          {jpy, ledger.CreditSide, "money", &zero},
	"clearing:card/0:JPY":   {jpy, ledger.DebitSide, "money", nil},
	"fx/0:JPY":              {jpy, ledger.DebitSide, "money", nil},
	"points:A:CNY":          {cny, ledger.CreditSide, "points", &zero},
	"points_issued/0:CNY":   {cny, ledger.DebitSide, "points", nil},
	"shares:A/F:CNY":        {cny, ledger.CreditSide, "shares", &zero},
	"shares_issued:F/0:CNY": {cny, ledger.DebitSide, "shares", nil},
	"account:A/savings:JPY": {jpy, ledger.CreditSide, "money", &zero},
}

// keys are the accounts in order, and one that is not open.
var keys, groups = func() (all []ledger.AccountKey, by [][]ledger.AccountKey) {
	for key := range universe {
		all = append(all, key)
	}
	slices.Sort(all)
	index := map[string]int{}
	for _, key := range all {
		name := universe[key].currency.Code() + universe[key].counts
		if _, ok := index[name]; !ok {
			index[name] = len(by)
			by = append(by, nil)
		}
		by[index[name]] = append(by[index[name]], key)
	}
	return append(all, "wallet:closed:CNY"), by
}()

// Open returns a book with the simulation's accounts, all empty.
func Open() *ledger.Book {
	book := ledger.NewBook(len(universe))
	for i, key := range keys[:len(keys)-1] {
		a, ok := ledger.NewAccount(key)
		if !ok {
			panic("booksim: " + string(key) + " is no account") // caught by the package's test
		}
		a.ID = int64(i + 1)
		if f := universe[key]; f.floor != nil {
			a.Floor = *f.floor
		}
		book.Load(a)
	}
	return book
}
