// Package ledger is the book as a state machine: accounts, transfers between two of them, and what may not happen. It
// keeps nothing, knows no clock and no database, and does not know why money moves: payments and lending say that.
package ledger

import (
	"math"
	"strconv"
	"strings"

	"sluice/schemas/events"
)

// AccountKey names an account: type, owner and currency, "wallet:C42:CNY". The type ends at the first ':' or '/', the
// currency is what follows the last ':'; what is between may hold any character. Platform accounts that every shard
// writes are striped, "fees/3:CNY", so that shards do not wait for each other; their sum is the account.
type AccountKey string

// Wallet is a customer's wallet.
func Wallet(customer string, c events.Currency) AccountKey {
	return AccountKey("wallet:" + customer + ":" + c.Code())
}

// CustomerAccount is a customer's account by its own id, and the wallet for an empty one.
func CustomerAccount(customer, account string, c events.Currency) AccountKey {
	if account == "" {
		return Wallet(customer, c)
	}
	return AccountKey("account:" + ownerEscape.Replace(customer) + "/" + account + ":" + c.Code())
}

// ownerEscape keeps the '/' between owner and account the first one, so that no two owners share a key.
var ownerEscape = strings.NewReplacer("%", "%25", "/", "%2F")

// MerchantPayable is what the house owes a merchant.
func MerchantPayable(merchant string, c events.Currency) AccountKey {
	return AccountKey("merchant:" + merchant + ":" + c.Code())
}

// Clearing is what a payment channel ("card", "bank_transfer") owes the house.
func Clearing(channel string, shard int32, c events.Currency) AccountKey {
	return AccountKey("clearing:" + channel + "/" + strconv.Itoa(int(shard)) + ":" + c.Code())
}

// Fees is the house's income from fees.
func Fees(shard int32, c events.Currency) AccountKey { return striped("fees", shard, c) }

// InterestIncome is the house's income from loans.
func InterestIncome(shard int32, c events.Currency) AccountKey { return striped("interest", shard, c) }

// Suspense holds what the house had to pay and has yet to get from someone: charge-backs a merchant could not cover.
func Suspense(shard int32, c events.Currency) AccountKey { return striped("suspense", shard, c) }

// Loss is what the house has written off.
func Loss(shard int32, c events.Currency) AccountKey { return striped("loss", shard, c) }

// Frozen is a customer's money that a dispute keeps until it is decided.
func Frozen(customer string, c events.Currency) AccountKey {
	return AccountKey("frozen:" + customer + ":" + c.Code())
}

// Disputed is a merchant's money that a dispute keeps until it is decided.
func Disputed(merchant string, c events.Currency) AccountKey {
	return AccountKey("disputed:" + merchant + ":" + c.Code())
}

// Bank is the house's money at a bank ("main").
func Bank(bank string, shard int32, c events.Currency) AccountKey {
	return AccountKey("bank:" + bank + "/" + strconv.Itoa(int(shard)) + ":" + c.Code())
}

// ChannelCosts is what payment channels cost the house.
func ChannelCosts(shard int32, c events.Currency) AccountKey {
	return striped("channel_costs", shard, c)
}

// FX is the house's position in a currency it exchanges.
func FX(shard int32, c events.Currency) AccountKey { return striped("fx", shard, c) }

// Tax is what the house owes the tax office.
func Tax(shard int32, c events.Currency) AccountKey { return striped("tax", shard, c) }

// Rewards is what the house has paid as cashback.
func Rewards(shard int32, c events.Currency) AccountKey { return striped("rewards", shard, c) }

// Reserve is what the house keeps back of a merchant's money against charge-backs to come.
func Reserve(merchant string, c events.Currency) AccountKey {
	return AccountKey("reserve:" + merchant + ":" + c.Code())
}

// Points are a customer's points in the programme of a currency; PointsIssued is their other side.
func Points(customer string, c events.Currency) AccountKey {
	return AccountKey("points:" + customer + ":" + c.Code())
}

// PointsIssued are the points that customers have got and not yet spent.
func PointsIssued(shard int32, c events.Currency) AccountKey {
	return striped("points_issued", shard, c)
}

// Shares are a customer's shares of a money fund, in ten-thousandths of a share; SharesIssued is their other side.
func Shares(customer, fund string, c events.Currency) AccountKey {
	return AccountKey("shares:" + ownerEscape.Replace(customer) + "/" + fund + ":" + c.Code())
}

// SharesIssued are the shares of a fund that customers hold.
func SharesIssued(fund string, shard int32, c events.Currency) AccountKey {
	return AccountKey("shares_issued:" + fund + "/" + strconv.Itoa(int(shard)) + ":" + c.Code())
}

// LoanReceivable is what the borrower of a loan owes.
func LoanReceivable(loan string, c events.Currency) AccountKey {
	return AccountKey("loan:" + loan + ":" + c.Code())
}

func striped(name string, shard int32, c events.Currency) AccountKey {
	return AccountKey(name + "/" + strconv.Itoa(int(shard)) + ":" + c.Code())
}

// Currency returns the currency at the key's end, false if the house does not know it.
func (k AccountKey) Currency() (events.Currency, bool) {
	return events.ParseCurrency(string(k[strings.LastIndexByte(string(k), ':')+1:]))
}

// Type returns the account's type, false if there is none of that name.
func (k AccountKey) Type() (*AccountType, bool) {
	name := string(k)
	if end := strings.IndexAny(name, ":/"); end >= 0 {
		name = name[:end]
	}
	for i := range types {
		if types[i].Name == name {
			return &types[i], true
		}
	}
	return nil, false
}

// Account is one account as it stands. Amounts are minor units of Currency and never negative: a balance is the
// difference of two sums that only grow.
type Account struct {
	ID             int64 // the database's number, 0 where there is none
	Key            AccountKey
	Currency       events.Currency
	Type           *AccountType
	DebitsPosted   int64
	CreditsPosted  int64
	DebitsPending  int64 // held by transfers that may still be posted or voided
	CreditsPending int64
	Version        int64 // transfers posted on this account so far
	Floored        bool  // the available balance may not fall below Floor; from the type, unless the account has its own
	Floor          int64

	changed bool // noted in Book.Changed
}

// NewAccount returns the empty account of a key, false if the key names no type or currency.
func NewAccount(key AccountKey) (Account, bool) {
	t, known := key.Type()
	c, ok := key.Currency()
	if !known || !ok {
		return Account{}, false
	}
	return Account{Key: key, Type: t, Currency: c, Floored: t.Floored, Floor: t.Floor}, true
}

// Balance is what has been posted, positive on the normal side.
func (a *Account) Balance() int64 {
	if a.Type.Normal == DebitSide {
		return a.DebitsPosted - a.CreditsPosted
	}
	return a.CreditsPosted - a.DebitsPosted
}

// Available is Balance without what pending transfers may still take.
func (a *Account) Available() int64 {
	if a.Type.Normal == DebitSide {
		return a.Balance() - a.CreditsPending
	}
	return a.Balance() - a.DebitsPending
}

// room is what one side of the account can still take until the balance is at its floor, or at zero where it has none;
// not above zero if it is there already. On the side that makes the balance grow it is what a negative balance lacks.
func (a *Account) room(side Side) int64 {
	room := a.CreditsPosted - (a.DebitsPosted + a.DebitsPending) // the book keeps both sums within 64 bits
	if side == CreditSide {
		room = a.DebitsPosted - (a.CreditsPosted + a.CreditsPending)
	}
	if side != a.Type.Normal && a.Floored {
		room = minus(room, a.Floor)
	}
	return room
}

// covers says whether the account can be debited (side DebitSide) or credited with amount. What makes the balance grow
// is always covered.
func (a *Account) covers(side Side, amount int64) bool {
	return side == a.Type.Normal || !a.Floored || a.room(side) >= amount
}

// minus is a-b, kept at the ends of 64 bits.
func minus(a, b int64) int64 {
	switch d := a - b; {
	case b > 0 && d > a:
		return math.MinInt64
	case b < 0 && d < a:
		return math.MaxInt64
	default:
		return d
	}
}
