package routing

import (
	"math"
	"math/bits"
	"strconv"

	"sluice/rules"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// Health tells how channels have answered lately.
type Health interface {
	// Answers is how many answers of a channel, by its number in the table, are in the window, and how many of them are good.
	Answers(channel int) (good, all int64)
}

// Begins says whether an event begins a payment that a payment channel carries: it does not move between wallets alone.
func Begins(e *events.Event) bool {
	if e.Kind != events.PaymentInitiated && e.Kind != events.PaymentAuthorized {
		return false
	}
	switch e.Purpose {
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT:
		return true
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE:
		return e.Method > eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET
	}
	return false // the house's own settlement
}

// methodOf is the method by which channels know a payment. What enters or leaves a wallet with no other instrument named
// goes by bank, as in the book.
func methodOf(e *events.Event) eventsv1.PaymentMethod { return normal(e.Method) }

func normal(m eventsv1.PaymentMethod) eventsv1.PaymentMethod {
	if m <= eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET {
		return eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER
	}
	return m
}

// operationOf is what a channel has to be able to do for an event.
func operationOf(kind events.Kind) Operation {
	switch kind {
	case events.PaymentAuthorized:
		return Authorize
	case events.PaymentRefunded:
		return Refund
	case events.PaymentRepresented:
		return Represent
	}
	return Sale
}

// Hindrance is why a channel cannot carry a payment.
type Hindrance uint8

// The hindrances, in the order they are looked for.
const (
	Able Hindrance = iota
	Disabled
	NotUsed  // a rule leaves it out
	Unable   // the operation
	Purposed // the purpose
	Termed   // the method or the currency
	TooSmall
	TooLarge
	Closed
)

var hindranceTexts = [...]string{"able", "disabled", "left out by a rule", "cannot do that", "not for that purpose", "not that method and currency",
	"amount below its limit", "amount above its limit", "closed at that time"}

// String says it in words.
func (h Hindrance) String() string { return hindranceTexts[h] }

// Candidate is one channel looked at for a payment.
type Candidate struct {
	Channel   int // in Table.Channels
	Hindrance Hindrance
	Fee       int64 // minor units of the payment's currency
	Good, All int64 // answers in the window
	Success   int64 // the rate expected of it, in millionths
	Down      bool

	high, low uint64 // expected cost, in 10^-12 minor units
}

// Chooser chooses channels, one payment after another.
type Chooser struct {
	table      *Table
	frame      *rules.Frame
	candidates []Candidate
	order      []uint8 // numbers of those that can carry the payment, best first
	clocks     []local // by zone
	clocked    uint64  // bits: zones whose clock was read
	text       []byte
}

// NewChooser returns a chooser for the table's channels.
func (t *Table) NewChooser() *Chooser {
	return &Chooser{table: t, frame: t.conditions.NewFrame(), clocks: make([]local, len(t.zones)), candidates: make([]Candidate, len(t.Channels)),
		order: make([]uint8, 0, len(t.Channels))}
}

// Candidates looks at every channel for a payment, in the order of the table. The slice is good until the next call.
func (c *Chooser) Candidates(e *events.Event, x rules.Context, h Health) []Candidate {
	t := c.table
	c.clocked = 0
	use := c.allowed(e, x)
	method, operation := methodOf(e), operationOf(e.Kind)
	for i := range t.Channels {
		k := &c.candidates[i]
		*k = Candidate{Channel: i}
		terms := t.Channels[i].Terms(method, e.Currency)
		k.Hindrance = c.hindrance(&t.Channels[i], use&(1<<i) != 0, operation, terms, e)
		k.Good, k.All = h.Answers(i)
		k.judge(t)
		if terms != nil {
			k.Fee = terms.Fee(e.Amount)
			k.price(t, e.Amount)
		}
	}
	return c.candidates
}

// allowed are the channels that rules leave, as bits.
func (c *Chooser) allowed(e *events.Event, x rules.Context) uint64 {
	use, avoid := ^uint64(0), uint64(0)
	if len(c.table.Rules) == 0 {
		return use
	}
	c.frame.Reset(e, x)
	used := false
	for i := range c.table.Rules {
		r := &c.table.Rules[i]
		if r.When.Eval(c.frame) != rules.True {
			continue
		}
		if avoid |= r.Avoid; r.Use != 0 && !used {
			use, used = r.Use, true
		}
	}
	return use &^ avoid
}

func (c *Chooser) hindrance(ch *Channel, used bool, o Operation, terms *Terms, e *events.Event) Hindrance {
	switch {
	case !ch.Enabled:
		return Disabled
	case !used:
		return NotUsed
	case ch.Can&(1<<o) == 0:
		return Unable
	case ch.Purposes&(1<<e.Purpose) == 0:
		return Purposed
	case terms == nil:
		return Termed
	case e.Amount < terms.From:
		return TooSmall
	case terms.To > 0 && e.Amount > terms.To:
		return TooLarge
	case ch.Hours != nil && !ch.Hours.open(c.clock(ch, e)):
		return Closed
	}
	return Able
}

// clock reads the clock of a channel's zone, once an event.
func (c *Chooser) clock(ch *Channel, e *events.Event) local {
	if c.clocked&(1<<ch.zone) == 0 {
		c.clocks[ch.zone] = localTime(e.Time, ch.Hours.Zone)
		c.clocked |= 1 << ch.zone
	}
	return c.clocks[ch.zone]
}

// judge sets the rate of success that is expected: the mean of the Beta distribution that the prior becomes by the answers.
// With few answers it stays near the prior; the rate itself takes over as they come in. Down goes by the answers alone.
func (k *Candidate) judge(t *Table) {
	k.Success = (k.Good*Whole + t.Expected*t.Weight) / (k.All + t.Weight)
	k.Down = t.Down(k.Good, k.All)
}

// Down says whether a channel with these answers in the window counts as down.
func (t *Table) Down(good, all int64) bool { return all >= t.Attempts && good*Whole < t.DownAt*all }

// price sets the expected cost: the fee, and the penalty times the chance that it fails.
func (k *Candidate) price(t *Table, amount int64) {
	const unit = Whole * Whole
	feeHigh, feeLow := bits.Mul64(uint64(k.Fee), unit)
	high, low := bits.Mul64(uint64(amount), uint64((Whole-k.Success)*t.Penalty))
	var carry uint64
	k.low, carry = bits.Add64(feeLow, low, 0)
	k.high, _ = bits.Add64(feeHigh, high, carry)
}

// Cost is the expected cost in minor units, cut off: what the choice goes by is exact.
func (k *Candidate) Cost() int64 {
	const unit = Whole * Whole
	if k.high >= unit {
		return math.MaxInt64
	}
	q, _ := bits.Div64(k.high, k.low, unit)
	return int64(min(q, math.MaxInt64))
}

// before says whether a candidate comes before another: what is up before what is down, then by priority, by expected cost,
// and as the table has them.
func (t *Table) before(a, b *Candidate) bool {
	if a.Down != b.Down {
		return b.Down
	}
	if p, q := t.Channels[a.Channel].Priority, t.Channels[b.Channel].Priority; p != q {
		return p < q
	}
	if a.high != b.high {
		return a.high < b.high
	}
	if a.low != b.low {
		return a.low < b.low
	}
	return a.Channel < b.Channel
}

// rank sorts those that can carry the payment, best first, and returns how many of them are up.
func (c *Chooser) rank() int {
	c.order = c.order[:0]
	up := 0
	for i := range c.candidates {
		k := &c.candidates[i]
		if k.Hindrance != Able {
			continue
		}
		if !k.Down {
			up++
		}
		at := len(c.order)
		c.order = append(c.order, uint8(i))
		for ; at > 0 && c.table.before(k, c.ranked(at-1)); at-- { // there are few
			c.order[at] = c.order[at-1]
		}
		c.order[at] = uint8(i)
	}
	return up
}

// ranked is a candidate by its place in the order.
func (c *Chooser) ranked(place int) *Candidate { return &c.candidates[c.order[place]] }

// The first words of a route's reason, for counting.
var reasonWords = []string{"cheapest", "explored", "probed", "asked", "least", "none"}

// ReasonWord is the first word of a route's reason, "" if it is none of a Chooser: cheapest, explored, probed, asked (for by
// the event), least (bad: all are down) or none (can carry it).
func ReasonWord(reason string) string {
	for _, word := range reasonWords {
		if len(reason) > len(word) && reason[:len(word)] == word && (reason[len(word)] == ' ' || reason[len(word)] == ':') {
			return word
		}
	}
	return ""
}

// Choose chooses the channel of a payment that Begins. Channel is "" when none can carry it.
func (c *Chooser) Choose(e *events.Event, x rules.Context, h Health) events.Route {
	c.Candidates(e, x, h)
	c.text = c.text[:0]
	if e.PaymentChannel != "" {
		return c.asked(e)
	}
	up := c.rank()
	if len(c.order) == 0 {
		return c.nobody()
	}
	chosen := c.draw(e.PaymentID, up)
	switch k := c.ranked(chosen); {
	case k.Down && up > 0:
		c.say("probed: ", k, e)
	case k.Down:
		c.say("least bad of "+strconv.Itoa(len(c.order))+", all down: ", k, e)
	case chosen > 0:
		c.say("explored: ", k, e)
	default:
		c.text = append(c.text, "cheapest of "...)
		c.text = strconv.AppendInt(c.text, int64(up), 10)
		c.say(" healthy: ", k, e)
	}
	return events.Route{Channel: c.table.Channels[c.order[chosen]].Name, Reason: c.reason(), Fallbacks: c.fallbacks(int(c.order[chosen]))}
}

// draw says which of the order is chosen: the best, but for the shares that explore and probe. The shares are drawn by a hash
// of the payment's id: the same payment draws the same.
func (c *Chooser) draw(payment string, up int) int {
	if up == 0 {
		return 0
	}
	h := hash(payment)
	slot, pick := int64(h>>32)*Whole>>32, int(h&0xffff)
	if down := len(c.order) - up; down > 0 {
		// Each down channel has the probe's share of its own, as far as half of all payments.
		each := min(c.table.Probe, Whole/2/int64(down))
		if each > 0 && slot < each*int64(down) {
			return up + int(slot/each)
		}
	}
	if slot >= Whole-c.table.Explore {
		// Backups are not explored: they may cost what the best must not.
		peers := 1
		for peers < up && c.table.Channels[c.order[peers]].Priority == c.table.Channels[c.order[0]].Priority {
			peers++
		}
		if peers > 1 {
			return 1 + pick%(peers-1)
		}
	}
	return 0
}

// fallbacks are the best of the others.
func (c *Chooser) fallbacks(chosen int) []string {
	n := min(MaxFallbacks, len(c.order)-1)
	if n == 0 {
		return nil
	}
	out := make([]string, 0, n)
	for _, i := range c.order {
		if int(i) != chosen && len(out) < n {
			out = append(out, c.table.Channels[i].Name)
		}
	}
	return out
}

// Unknown is the route of an event that asks for a channel the table does not have: there is none.
func (t *Table) Unknown(channel string) events.Route {
	return events.Route{Reason: "none: the event asks for " + channel + ", which is no channel; " + t.ID()}
}

// asked keeps the channel that the event names, if it can carry the payment.
func (c *Chooser) asked(e *events.Event) events.Route {
	i := c.table.Index(e.PaymentChannel)
	if i < 0 {
		return c.table.Unknown(e.PaymentChannel)
	}
	if k := &c.candidates[i]; k.Hindrance != Able {
		c.text = append(append(c.text, "none: the event asks for "...), e.PaymentChannel...)
		c.text = append(append(c.text, ", which is "...), k.Hindrance.String()...)
		return events.Route{Reason: c.reason()}
	}
	c.say("asked for by the event: ", &c.candidates[i], e)
	c.rank()
	return events.Route{Channel: c.table.Channels[i].Name, Reason: c.reason(), Fallbacks: c.fallbacks(i)}
}

// maxTold bounds the channels that a reason tells of.
const maxTold = 8

// nobody says why each channel cannot carry the payment.
func (c *Chooser) nobody() events.Route {
	c.text = append(c.text, "none can carry it: "...)
	for i := range c.candidates[:min(maxTold, len(c.candidates))] {
		if i > 0 {
			c.text = append(c.text, ", "...)
		}
		c.text = append(append(c.text, c.table.Channels[i].Name...), " ("...)
		c.text = append(append(c.text, c.candidates[i].Hindrance.String()...), ')')
	}
	if more := len(c.candidates) - maxTold; more > 0 {
		c.text = append(strconv.AppendInt(append(c.text, " and "...), int64(more), 10), " more"...)
	}
	return events.Route{Reason: c.reason()}
}

// say writes "cheapest of 3 healthy: acquirer-a 0.60 %, success 98.1 % of 1204".
func (c *Chooser) say(why string, k *Candidate, e *events.Event) {
	c.text = append(append(append(c.text, why...), c.table.Channels[k.Channel].Name...), ' ')
	c.text = appendPercent(c.text, share(k.Fee, e.Amount), 2)
	if k.All == 0 {
		c.text = append(c.text, " %, no answers yet"...)
		return
	}
	c.text = append(c.text, " %, success "...)
	c.text = appendPercent(c.text, share(k.Good, k.All), 1)
	c.text = append(c.text, " % of "...)
	c.text = strconv.AppendInt(c.text, k.All, 10)
}

// reason ends the text with the table's id.
func (c *Chooser) reason() string {
	c.text = append(append(append(c.text, "; "...), c.table.Name...), '@')
	c.text = strconv.AppendInt(c.text, int64(c.table.Version), 10)
	return string(c.text)
}

// share is part / whole in millionths, rounded down.
func share(part, whole int64) int64 {
	high, low := bits.Mul64(uint64(part), Whole)
	if whole <= 0 || high >= uint64(whole) {
		return 0
	}
	q, _ := bits.Div64(high, low, uint64(whole))
	return int64(min(q, 1<<62))
}

// appendPercent writes millionths as percent with 1 or 2 decimals, cut off.
func appendPercent(out []byte, n int64, decimals int) []byte {
	hundredths := n / 100
	out = append(strconv.AppendInt(out, hundredths/100, 10), '.', byte('0'+hundredths/10%10))
	if decimals > 1 {
		out = append(out, byte('0'+hundredths%10))
	}
	return out
}

// hash is FNV-1a of 64 bits with a final mix, so that ids that differ in their last letter are spread. It must be the same
// in every process, for ever.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h ^= uint64(s[i])
		h *= 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
