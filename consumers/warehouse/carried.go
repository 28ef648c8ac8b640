package warehouse

import (
	"strings"
	"time"

	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// carriedRows has the columns of what carries a payment, and of what the payment core says besides.
type carriedRows struct {
	channel, route            words
	reason                    []string
	fallbacks, merchants      [][]string
	shares                    [][]int64
	exchangeCurrency, outcome words
	exchange                  []int64
	rate, evidence            []string
	respondBy                 []time.Time
}

func (c *carriedRows) bind(t *table) {
	t.column("payment_channel", &c.channel)
	t.column("route", &c.route)
	t.column("route_reason", &c.reason)
	t.column("route_fallbacks", &c.fallbacks)
	t.column("split_merchants", &c.merchants)
	t.column("split_minor", &c.shares)
	t.column("exchange_currency", &c.exchangeCurrency)
	t.column("exchange_minor", &c.exchange)
	t.column("exchange_rate", &c.rate)
	t.column("respond_by", &c.respondBy)
	t.column("outcome", &c.outcome)
	t.column("dispute_evidence", &c.evidence)
}

func (c *carriedRows) add(t *table, d *events.Decision) {
	e := &d.Event
	c.channel = append(c.channel, t.word(e.PaymentChannel))
	c.route = append(c.route, t.word(d.Route.Channel))
	c.reason = append(c.reason, d.Route.Reason)
	c.fallbacks = append(c.fallbacks, d.Route.Fallbacks)
	var merchants []string
	var shares []int64
	for _, s := range e.Splits {
		merchants, shares = append(merchants, s.MerchantID), append(shares, s.Amount)
	}
	c.merchants = append(c.merchants, merchants)
	c.shares = append(c.shares, shares)
	c.exchangeCurrency = append(c.exchangeCurrency, t.word(e.Exchange.Currency.Code()))
	c.exchange = append(c.exchange, e.Exchange.Amount)
	c.rate = append(c.rate, e.Exchange.Rate)
	respondBy := earliest
	if !e.RespondBy.IsZero() {
		respondBy = clamp(e.RespondBy)
	}
	c.respondBy = append(c.respondBy, respondBy)
	c.outcome = append(c.outcome, t.word(outcomeWord(e.Outcome)))
	c.evidence = append(c.evidence, e.Evidence)
}

// outcomeWord is "won", "lost" or "".
func outcomeWord(o eventsv1.DisputeOutcome) string {
	if o == eventsv1.DisputeOutcome_DISPUTE_OUTCOME_UNSPECIFIED {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(o.String(), "DISPUTE_OUTCOME_"))
}
