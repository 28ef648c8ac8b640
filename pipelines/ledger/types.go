package ledger

import "sluice/schemas/events"

// Side is one side of an account.
type Side uint8

// The sides. Assets and what is owed to the house grow by debits, what the house owes and earns by credits.
const (
	DebitSide Side = iota
	CreditSide
)

// String returns "debit" or "credit".
func (s Side) String() string { return [...]string{"debit", "credit"}[s] }

// Unit is what an account counts, beside its currency. A transfer stays within one unit and one currency, so points and
// shares never turn into money by a posting mistake: changing one into the other takes two linked transfers.
type Unit uint8

// The units.
const (
	Money  Unit = iota // minor units of the currency
	Point              // points of the programme of that currency, each worth one minor unit of it at most
	Share              // ten-thousandths of a share of a fund valued in that currency
	nUnits             // how many there are
)

// String returns "money", "points" or "shares".
func (u Unit) String() string { return [nUnits]string{"money", "points", "shares"}[u] }

// Exponent returns the number of decimals in which an amount of the unit is written, in a currency: points are whole, shares
// have four.
func (u Unit) Exponent(c events.Currency) int {
	switch u {
	case Point:
		return 0
	case Share:
		return 4
	}
	return c.Exponent()
}

// AccountType is what all accounts of a kind have in common.
type AccountType struct {
	Name    string
	Normal  Side  // the side that makes the balance grow
	Unit    Unit  // what it counts, in the currency at its key's end
	Floored bool  // the balance, without what is pending, may not fall below Floor
	Floor   int64 // minor units; meaningful where Floored
	Striped bool  // one account a shard; the sum is what counts
	Say     string
}

// types lists every type of account there is; a new one is a line here.
var types = []AccountType{
	{Name: "wallet", Normal: CreditSide, Floored: true, Say: "a customer's money"},
	{Name: "account", Normal: CreditSide, Floored: true, Say: "a customer's money on a further account"},
	{Name: "frozen", Normal: CreditSide, Floored: true, Say: "a customer's money kept until a dispute is decided"},
	{Name: "merchant", Normal: CreditSide, Floored: true, Say: "owed to a merchant"},
	{Name: "reserve", Normal: CreditSide, Floored: true, Say: "owed to a merchant, kept back against charge-backs"},
	{Name: "disputed", Normal: CreditSide, Floored: true, Say: "owed to a merchant, kept until a dispute is decided"},
	{Name: "bank", Normal: DebitSide, Striped: true, Say: "the house's money at its banks"},
	{Name: "channel_costs", Normal: DebitSide, Striped: true, Say: "paid by the house to payment channels"},
	{Name: "clearing", Normal: DebitSide, Striped: true, Say: "owed by a payment channel"},
	{Name: "fees", Normal: CreditSide, Striped: true, Say: "income from fees"},
	{Name: "interest", Normal: CreditSide, Striped: true, Say: "income from loans"},
	{Name: "tax", Normal: CreditSide, Striped: true, Say: "owed to the tax office"},
	{Name: "rewards", Normal: DebitSide, Striped: true, Say: "paid by the house as cashback"},
	{Name: "suspense", Normal: DebitSide, Striped: true, Say: "paid by the house, to be recovered"},
	{Name: "loss", Normal: DebitSide, Striped: true, Say: "written off by the house"},
	{Name: "fx", Normal: DebitSide, Striped: true, Say: "the house's position in a currency it exchanges"},
	{Name: "loan", Normal: DebitSide, Floored: true, Say: "owed by a borrower"},
	{Name: "points", Normal: CreditSide, Unit: Point, Floored: true, Say: "a customer's points"},
	{Name: "points_issued", Normal: DebitSide, Unit: Point, Striped: true, Say: "points that customers have"},
	{Name: "shares", Normal: CreditSide, Unit: Share, Floored: true, Say: "a customer's shares of a money fund"},
	{Name: "shares_issued", Normal: DebitSide, Unit: Share, Striped: true, Say: "shares of a money fund that customers have"},
}

// Types lists the types of accounts.
func Types() []AccountType { return append([]AccountType(nil), types...) }
