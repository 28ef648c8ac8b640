// Package routing chooses the payment channel that carries a payment: an acquirer, a bank, a card processor. A Table is read
// from a YAML file; which channel it chooses follows from the event, the table and how the channels have answered lately, so
// the same always gives the same. It knows no Kafka, no clock and no randomness; pipelines/risk keeps the health, and
// docs/channels.md has the file and the method.
package routing

import (
	"strconv"
	"time"

	"sluice/rules"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// Limits of a file of channels.
const (
	// MaxSourceBytes bounds the file, as that of a ruleset.
	MaxSourceBytes = rules.MaxSourceBytes
	// MaxChannels bounds the channels of a table.
	MaxChannels = 64
	// MaxRules bounds its rules; all of them are asked of each payment.
	MaxRules = 64
	// MaxFallbacks bounds how many channels a route names beside the one chosen.
	MaxFallbacks = 3
	// MaxHolidays bounds the days on which a channel is closed.
	MaxHolidays = 400
	// Whole is 1 in millionths: shares, rates of success and fees are counted in them.
	Whole = 1_000_000
)

// NoRoute is the reason code of a payment that no channel can carry, and RoutingRule the id it has among the rules that fired:
// one that no ruleset can spell.
const (
	NoRoute     = "R_NOROUTE"
	RoutingRule = "routing/none"
)

// NoRouteSays is what the code NoRoute says, as a ruleset says its own.
func NoRouteSays() rules.Reason {
	return rules.Reason{
		Customer: map[string]string{"en": "We cannot carry out this payment right now. Please try again later, or pay in another way.", "zh": "暂时无法完成此笔支付，请稍后再试或更换支付方式。"},
		Analyst:  map[string]string{"en": "The rules approved it; no payment channel can carry it.", "zh": "规则已通过，但没有可用的支付通道。"},
	}
}

// Table is a checked file of payment channels. It does not change and may be shared between goroutines; a Chooser may not.
type Table struct {
	Name     string
	Version  int
	Source   []byte // the YAML it was loaded from
	Channels []Channel
	Rules    []Rule
	Window   time.Duration // over which answers of channels are counted
	Attempts int64         // in the window, before a channel can count as down
	DownAt   int64         // a channel is down below this rate of success, in millionths
	Probe    int64         // share of the payments that a down channel could carry and still gets, in millionths
	Explore  int64         // share of payments that try another than the best, in millionths
	Penalty  int64         // what a failed attempt costs, in millionths of the amount
	Expected int64         // the prior: rate of success of a channel nothing is known of, in millionths
	Weight   int64         // the prior: how many attempts that is worth

	health     *rules.Ruleset // the aggregates: answers that are good, answers that are not
	conditions *rules.Conditions
	byName     map[string]int
	zones      []*time.Location
}

// ID names the table and its version: "main@3".
func (t *Table) ID() string { return t.Name + "@" + strconv.Itoa(t.Version) }

// Index is the number of a channel in Channels, -1 where there is none of the name.
func (t *Table) Index(name string) int {
	if i, ok := t.byName[name]; ok {
		return i
	}
	return -1
}

// Health is a ruleset of two aggregates by payment channel, Good and Bad: what a channel has answered well in the window,
// and what not. It has no rules.
func (t *Table) Health() *rules.Ruleset { return t.health }

// Numbers of the aggregates of Table.Health.
const (
	Good = iota
	Bad
)

// Operation is something that a channel can be asked for.
type Operation uint8

// The operations.
const (
	Sale      Operation = iota // takes or pays money in one step
	Authorize                  // holds money to be captured later
	Refund                     // gives money back
	Represent                  // contests a charge-back
	operations
)

var operationNames = []string{"sale", "authorize", "refund", "represent"}

// String returns the word for it in a file.
func (o Operation) String() string { return operationNames[min(o, operations-1)] }

// Channel is one payment channel.
type Channel struct {
	Name     string
	Enabled  bool
	Priority int    // 1 to 9; a channel is a backup of those with a smaller number
	Can      uint8  // bits by Operation
	Purposes uint16 // bits by PaymentPurpose
	Hours    *Hours // nil: always open
	Line     int    // in the source

	terms [methods][256]uint8 // by method and currency: 1 + the number in prices, 0: it does not carry that
	price []Terms
	zone  int // of Hours, in Table.zones
}

const methods = int(eventsv1.PaymentMethod_PAYMENT_METHOD_QUICK_PAY) + 1

// Terms are a channel's fee and limits for one method and currency. Amounts are minor units of the currency.
type Terms struct {
	Rate        int64 // of the amount, in millionths: a basis point is 100
	Fixed       int64
	Least, Most int64 // the fee at least and at most; Most 0: without end
	From, To    int64 // the amounts it takes; To 0: without end
}

// Fee is what the channel takes for an amount, in minor units: the rate of the amount, rounded half up to the minor unit,
// and the fixed part, within the bounds.
func (t *Terms) Fee(amount int64) int64 {
	whole, rest := amount/Whole, amount%Whole // apart, so that no product leaves 64 bits
	fee := whole*t.Rate + (rest*t.Rate+Whole/2)/Whole + t.Fixed
	fee = max(fee, t.Least)
	if t.Most > 0 {
		fee = min(fee, t.Most)
	}
	return fee
}

// Terms are those for a method and a currency; nil: the channel does not carry that.
func (c *Channel) Terms(m eventsv1.PaymentMethod, of events.Currency) *Terms {
	if m < 0 || int(m) >= methods || c.terms[m][of] == 0 {
		return nil
	}
	return &c.price[c.terms[m][of]-1]
}

// Refuses says why a channel carries no payment of a method and a purpose, whatever its currency, its amount and the hour: "is no
// channel". "" is that it does.
func (t *Table) Refuses(name string, m eventsv1.PaymentMethod, p eventsv1.PaymentPurpose) string {
	i := t.Index(name)
	if i < 0 {
		return "is no channel"
	}
	c := &t.Channels[i]
	switch {
	case !c.Enabled:
		return "is a disabled channel"
	case c.Can&(1<<Sale) == 0:
		return "is a channel that cannot do a sale"
	case c.Purposes&(1<<p) == 0:
		return "is a channel not for that purpose"
	case c.terms[normal(m)] == [256]uint8{}:
		return "is a channel not for that method"
	}
	return ""
}

// Carriers are the names of the channels that carry payments of a method and a purpose, in the order of the table.
func (t *Table) Carriers(m eventsv1.PaymentMethod, p eventsv1.PaymentPurpose) (names []string) {
	for i := range t.Channels {
		if t.Refuses(t.Channels[i].Name, m, p) == "" {
			names = append(names, t.Channels[i].Name)
		}
	}
	return names
}

// Rule narrows the channels of the payments that its condition holds of. All rules are asked; of those that hold, each takes
// away what it avoids, and the first with Use leaves no others.
type Rule struct {
	ID    string
	When  *rules.Condition
	Use   uint64 // bits by channel; 0: the rule only avoids
	Avoid uint64
	Line  int
}
