package house

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"sluice/pipelines/routing"
	"sluice/rules"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
	"sluice/schemas/warehouse"
)

// explainWait bounds one look at ClickHouse: the row of a decision is found by its position.
const explainWait = time.Minute

// ExplainOptions says which decision is explained and how.
type ExplainOptions struct {
	ID     string // "payments/3/1207"
	Shadow string // explain what this shadow says instead; "": the live ruleset
	JSON   bool
}

// Explained is a decision and how it came about, from what ClickHouse holds of it.
type Explained struct {
	DecisionID  string             `json:"decision_id"`
	Event       []rules.Reading    `json:"event"` // the fields it has
	Label       string             `json:"label,omitempty"`
	Decided     time.Time          `json:"decided"`
	Ruleset     string             `json:"ruleset"`
	Verdict     string             `json:"verdict"`
	Score       int32              `json:"score"`
	Route       *ExplainedRoute    `json:"route,omitempty"`
	Published   time.Time          `json:"ruleset_published"`
	Explanation *rules.Explanation `json:"explanation,omitempty"` // nil: no rule was asked
	Shadows     []ShadowSaid       `json:"shadows,omitempty"`
	Notes       []string           `json:"notes,omitempty"` // what is doubtful
}

// ExplainedRoute is which payment channel the house chose, and why.
type ExplainedRoute struct {
	Channel   string   `json:"channel"` // "" none can carry it: the payment was declined for that alone
	Reason    string   `json:"reason"`
	Fallbacks []string `json:"fallbacks,omitempty"`
}

// fits says whether the rules came to the decision. A payment that no channel can carry passed them, or they only observed it.
func (x *Explained) fits(outcome string) bool {
	if x.unroutable() {
		return outcome == events.Approve.String() || outcome == events.Observed.String()
	}
	return outcome == x.Verdict
}

// ruled is what the rules alone came to.
func (x *Explained) ruled() string {
	if x.Explanation == nil {
		return events.Observed.String()
	}
	return x.Explanation.Outcome
}

// unroutable says whether it was declined for want of a payment channel alone.
func (x *Explained) unroutable() bool {
	return x.Route != nil && x.Route.Channel == "" && x.Verdict == events.Decline.String()
}

// ShadowSaid is what a shadow ruleset said of the same event.
type ShadowSaid struct {
	Shadow  string   `json:"shadow"`
	Ruleset string   `json:"ruleset"`
	Verdict string   `json:"verdict"`
	Score   int32    `json:"score"`
	Rules   []string `json:"rules"`

	trace   []byte
	decided time.Time
}

// Explain prints how a decision came about. It reads ClickHouse only: the decision's row, its trace, and the source of the
// ruleset that decided.
func Explain(ctx context.Context, clickhouse string, o ExplainOptions, w io.Writer) error {
	db, err := warehouse.Open(clickhouse)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(ctx, explainWait)
	defer cancel()
	x, err := explain(ctx, db, o)
	if err != nil {
		return err
	}
	if o.JSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(x)
	}
	return x.print(w)
}

func explain(ctx context.Context, db driver.Conn, o ExplainOptions) (*Explained, error) {
	d, decided, err := readDecision(ctx, db, o.ID)
	if err != nil {
		return nil, err
	}
	x := &Explained{DecisionID: o.ID, Event: fields(&d.Event), Label: d.Event.Label, Decided: decided, Ruleset: d.Ruleset, Verdict: d.Verdict.String(), Score: d.Score}
	if d.Route.Reason != "" {
		x.Route = &ExplainedRoute{d.Route.Channel, d.Route.Reason, d.Route.Fallbacks}
	}
	if d.Verdict == events.Duplicate {
		first, err := firstOf(ctx, db, &d)
		return nil, errors.Join(err, fmt.Errorf("%s repeats an event that was decided before, so no rule was asked; explain %s", o.ID, first))
	}
	if x.Shadows, err = shadowsOf(ctx, db, &d); err != nil {
		return nil, err
	}
	trace := d.Trace
	if o.Shadow != "" {
		i := slices.IndexFunc(x.Shadows, func(s ShadowSaid) bool { return s.Shadow == o.Shadow })
		if i < 0 {
			return nil, fmt.Errorf("no shadow %q was asked about %s; %s", o.Shadow, o.ID, asked(x.Shadows))
		}
		s := &x.Shadows[i]
		x.Route = nil
		x.Ruleset, x.Verdict, x.Score, x.Decided, trace = s.Ruleset, s.Verdict, s.Score, s.decided, s.trace
	}
	if len(trace) == 0 && x.unroutable() { // no rule is asked about a payment that is moved
		return x, nil
	}
	if len(trace) == 0 {
		return nil, fmt.Errorf("%s has no trace: it was decided %s by a version that kept none, or its ruleset %s asks nothing about %s", o.ID, x.Verdict, x.Ruleset, d.Event.Kind)
	}
	return x, x.ask(ctx, db, &d.Event, trace)
}

func asked(shadows []ShadowSaid) string {
	if len(shadows) == 0 {
		return "none was"
	}
	var names []string
	for _, s := range shadows {
		names = append(names, s.Shadow)
	}
	return "those asked: " + strings.Join(names, ", ")
}

// source is a ruleset as it was published.
type source struct {
	text      string
	published time.Time
}

// ask explains the trace by the ruleset. Where one id was published with several sources, the newest before the decision is
// taken to have decided, unless another fits better.
func (x *Explained) ask(ctx context.Context, db driver.Conn, e *events.Event, trace []byte) error {
	all, err := sourcesOf(ctx, db, x.Ruleset, x.Decided)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("ClickHouse has no source of the ruleset %s; its table rulesets is filled from the topic rules by `sluice run warehouse`", x.Ruleset)
	}
	var first error
	for _, s := range all {
		explanation, err := explainBy(s.text, e, trace)
		if err != nil {
			first = errors.Join(first, err)
			continue
		}
		fits := x.fits(explanation.Outcome) && explanation.Score == x.Score && len(explanation.Doubt) == 0
		if x.Explanation == nil || fits {
			x.Explanation, x.Published = explanation, s.published
		}
		if fits {
			return nil
		}
	}
	if x.Explanation == nil {
		return fmt.Errorf("explain %s by %s: %w", x.DecisionID, x.Ruleset, first)
	}
	x.Notes = append(x.Notes, fmt.Sprintf("the trace comes to %s with score %d by %s as published; the decision says %s with score %d", x.Explanation.Outcome, x.Explanation.Score, x.Ruleset, x.Verdict, x.Score))
	return nil
}

func explainBy(text string, e *events.Event, trace []byte) (*rules.Explanation, error) {
	rs, err := rules.Load("the ruleset in ClickHouse", []byte(text))
	if err != nil {
		return nil, err
	}
	return rules.Explain(rs, e, trace)
}

// sourcesOf reads every source of a ruleset's id: those published before the moment first, the newest of them first.
func sourcesOf(ctx context.Context, db driver.Conn, id string, moment time.Time) ([]source, error) {
	rows, err := db.Query(ctx, "SELECT source, max(published) AS at FROM rulesets WHERE id = ? GROUP BY source ORDER BY at DESC", id)
	if err != nil {
		return nil, fmt.Errorf("read the rulesets in ClickHouse: %w", err)
	}
	defer rows.Close()
	var before, after []source
	for rows.Next() {
		var s source
		if err := rows.Scan(&s.text, &s.published); err != nil {
			return nil, fmt.Errorf("read the rulesets in ClickHouse: %w", err)
		}
		if s.published.After(moment) {
			after = append(after, s)
		} else {
			before = append(before, s)
		}
	}
	slices.Reverse(after)
	return append(before, after...), rows.Err()
}

// shadowsOf reads what shadows said of the event.
func shadowsOf(ctx context.Context, db driver.Conn, d *events.Decision) ([]ShadowSaid, error) {
	rows, err := db.Query(ctx, "SELECT shadow, ruleset, verdict, score, rules, trace, decided_time FROM shadow_verdicts WHERE topic = ? AND partition = ? AND offset = ? AND shadow_partition = ? ORDER BY shadow",
		d.Topic, d.Partition, d.Offset, d.Partition)
	if err != nil {
		return nil, fmt.Errorf("read the shadow verdicts in ClickHouse: %w", err)
	}
	defer rows.Close()
	var all []ShadowSaid
	for rows.Next() {
		var s ShadowSaid
		var trace string
		if err := rows.Scan(&s.Shadow, &s.Ruleset, &s.Verdict, &s.Score, &s.Rules, &trace, &s.decided); err != nil {
			return nil, fmt.Errorf("read the shadow verdicts in ClickHouse: %w", err)
		}
		s.trace = []byte(trace)
		all = append(all, s)
	}
	return all, rows.Err()
}

// firstOf is the decision on the first event with the same source and id.
func firstOf(ctx context.Context, db driver.Conn, d *events.Decision) (string, error) {
	var id string
	err := db.QueryRow(ctx, "SELECT decision_id FROM "+d.Topic+" WHERE customer_id = ? AND source = ? AND event_id = ? AND verdict != 'duplicate' LIMIT 1",
		d.Event.CustomerID, d.Event.Source, d.Event.ID).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return "the decision on the first, which ClickHouse does not have", nil
	}
	return id, err
}

// print writes the decision for a person.
func (x *Explained) print(w io.Writer) error {
	fmt.Fprintf(w, "%s, decided %s\n", x.DecisionID, x.Decided.UTC().Format("2006-01-02 15:04:05.000 MST"))
	if x.unroutable() {
		fmt.Fprintf(w, "%s for want of a payment channel (%s); the rules alone: %s\n", x.Verdict, routing.NoRoute, x.ruled())
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, f := range x.Event {
		fmt.Fprintf(t, "  %s\t%s\n", f.Name, f.Text)
	}
	if x.Label != "" {
		fmt.Fprintf(t, "  label\t%s (ground truth; no rule saw it)\n", x.Label)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if x.Explanation != nil {
		fmt.Fprintf(w, "\n%s", x.Explanation)
	}
	x.Route.print(w)
	for i, s := range x.Shadows {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "shadow %s (%s) says %s, score %d %s\n", s.Shadow, s.Ruleset, s.Verdict, s.Score, s.Rules)
	}
	for _, note := range x.Notes {
		fmt.Fprintf(w, "in doubt: %s\n", note)
	}
	return nil
}

// print writes the choice of a payment channel, if there was one.
func (r *ExplainedRoute) print(w io.Writer) {
	switch {
	case r == nil:
	case r.Channel == "":
		fmt.Fprintf(w, "\nno payment channel (%s)\n%s: it is declined\n", r.Reason, routing.NoRoute)
		says := routing.NoRouteSays().Customer
		fmt.Fprintf(w, "to the customer: %s %s\n", says["en"], says["zh"])
	default:
		fmt.Fprintf(w, "\npayment channel %s (%s)\n", r.Channel, r.Reason)
		if len(r.Fallbacks) > 0 {
			fmt.Fprintf(w, "if it fails: %s\n", strings.Join(r.Fallbacks, ", "))
		}
	}
}

// fields lists what an event says, as a person reads it.
func fields(e *events.Event) []rules.Reading {
	var all []rules.Reading
	add := func(name, text string) {
		if text != "" {
			all = append(all, rules.Reading{Name: name, Text: text})
		}
	}
	money := func(name string, minor int64) {
		if minor != 0 {
			add(name, events.FormatAmount(minor, e.Currency)+" "+e.Currency.Code())
		}
	}
	number := func(name string, n int32) {
		if n != 0 {
			add(name, strconv.Itoa(int(n)))
		}
	}
	add("type", e.Kind.String())
	add("event", e.ID+" of "+e.Source)
	add("time", e.Time.UTC().Format("2006-01-02 15:04:05.000 MST"))
	add("customer", e.CustomerID)
	add("name", e.CustomerName)
	add("payment", e.PaymentID)
	add("loan", e.LoanID)
	money("amount", e.Amount)
	add("method", word(e.Method.String(), methodPrefix))
	add("purpose", word(e.Purpose.String(), purposePrefix)+e.LoanPurpose)
	add("account", e.AccountID)
	add("counterparty", e.CounterpartyID)
	add("counterparty name", e.CounterpartyName)
	add("merchant", e.MerchantID)
	add("merchant category", e.MerchantMCC)
	add("card", e.CardToken)
	add("payment channel", e.PaymentChannel)
	add("product", e.Product)
	number("term, months", e.TermMonths)
	if e.Kind.Family() == events.Loan {
		add("yearly rate", events.FormatRate(e.AnnualRate))
	}
	money("monthly income", e.MonthlyIncome)
	money("debt elsewhere", e.OutstandingDebt)
	number("age", e.Age)
	number("months in the job", e.EmploymentMonths)
	number("bureau score", e.BureauScore)
	add("channel", e.Channel)
	add("device", e.DeviceID)
	add("ip", e.IP)
	add("country", e.Country)
	add("reason", e.Reason)
	return all
}

const (
	methodPrefix  = "PAYMENT_METHOD_"
	purposePrefix = "PAYMENT_PURPOSE_"
)

// word is a Protobuf name as people say it, "" for the unspecified one.
func word(name, prefix string) string {
	text := strings.ToLower(strings.TrimPrefix(name, prefix))
	if text == "unspecified" {
		return ""
	}
	return text
}

// The columns that payments and loans share, in the order of shared.
const sharedColumns = `event_time, event_id, source, type, customer_id, customer_name, channel, device_id, ip, country, located, latitude, longitude, reason,
	amount_minor, currency, verdict, score, ruleset, tier, label, received_time, decided_time, trace, `

// readDecision reads the row of a decision, with the event it was made on.
func readDecision(ctx context.Context, db driver.Conn, id string) (d events.Decision, decided time.Time, err error) {
	topic, partition, offset, ok := events.ParsePositionID(id)
	if !ok || topic != schemas.Payments && topic != schemas.Loans {
		return d, decided, fmt.Errorf("%q is no decision to explain: give one such as payments/3/1207, as in the column decision_id of payments and loans", id)
	}
	d.Topic, d.Partition, d.Offset = topic, partition, offset
	e := &d.Event
	var kind, currency, verdict, trace, method, purpose string
	var rate int64
	into := []any{&e.Time, &e.ID, &e.Source, &kind, &e.CustomerID, &e.CustomerName, &e.Channel, &e.DeviceID, &e.IP, &e.Country, &e.Located, &e.Latitude, &e.Longitude, &e.Reason,
		&e.Amount, &currency, &verdict, &d.Score, &d.Ruleset, &d.Tier, &e.Label, &d.Received, &decided, &trace}
	columns := sharedColumns
	if topic == schemas.Payments {
		columns += "customer_kyc_level, payment_id, account_id, counterparty_id, counterparty_name, merchant_id, merchant_category, method, purpose, card_token, payment_channel, route, route_reason, route_fallbacks"
		into = append(into, &e.KYCLevel, &e.PaymentID, &e.AccountID, &e.CounterpartyID, &e.CounterpartyName, &e.MerchantID, &e.MerchantMCC, &method, &purpose, &e.CardToken,
			&e.PaymentChannel, &d.Route.Channel, &d.Route.Reason, &d.Route.Fallbacks)
	} else {
		columns += "loan_id, product, term_months, annual_rate_ppm, purpose, monthly_income_minor, outstanding_debt_minor, age, employment_months, bureau_score"
		into = append(into, &e.LoanID, &e.Product, &e.TermMonths, &rate, &e.LoanPurpose, &e.MonthlyIncome, &e.OutstandingDebt, &e.Age, &e.EmploymentMonths, &e.BureauScore)
	}
	// A decision stands in the partition of its event; the table may be sorted by it.
	err = db.QueryRow(ctx, "SELECT "+columns+" FROM "+topic+" WHERE topic = ? AND partition = ? AND offset = ? AND decided_partition = ? LIMIT 1", topic, partition, offset, partition).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return d, decided, fmt.Errorf("ClickHouse has no decision %s; it arrives some seconds after it was made", id)
	}
	if err != nil {
		return d, decided, fmt.Errorf("read the decision %s in ClickHouse: %w", id, err)
	}
	e.Time, e.Kind, e.AnnualRate, d.Trace = e.Time.UTC(), events.ParseKind(kind), events.Rate(rate), []byte(trace)
	e.Currency, _ = events.ParseCurrency(currency)
	e.Method = eventsv1.PaymentMethod(eventsv1.PaymentMethod_value[methodPrefix+strings.ToUpper(method)])
	e.Purpose = eventsv1.PaymentPurpose(eventsv1.PaymentPurpose_value[purposePrefix+strings.ToUpper(purpose)])
	for v := events.Observed; v <= events.Duplicate; v++ {
		if v.String() == verdict {
			d.Verdict = v
		}
	}
	return d, decided, nil
}
