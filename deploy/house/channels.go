package house

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pipelines/payments"
	"sluice/pipelines/routing"
	"sluice/rules"
	"sluice/schemas"
	"sluice/schemas/events"
	"sluice/schemas/warehouse"
)

// standardChannels is the word for the shipped file of payment channels.
const standardChannels = "standard"

// channelsWait bounds the reading of the topic of channels and of their health.
const channelsWait = 30 * time.Second

// LoadChannels returns the payment channels of a file, or of the shipped one, checked.
func LoadChannels(name string) (*routing.Table, error) {
	source := routing.Standard
	if name != standardChannels {
		var err error
		if source, err = os.ReadFile(name); errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("--channels %s: there is no such file; give one, or the shipped one: %s", name, standardChannels)
		} else if err != nil {
			return nil, err
		}
	}
	return routing.Load(name, source)
}

// PublishedChannels is a table that gates choose by, and how it came there.
type PublishedChannels struct {
	*routing.Table
	By string    // who published it, as they said; "" a house at its first start
	At time.Time // when Kafka took it
}

// LiveChannels returns the table that gates choose by, nil where they choose nothing.
func (h *House) LiveChannels(ctx context.Context) (*PublishedChannels, error) {
	live, _, err := h.readChannels(ctx)
	return live, err
}

// readChannels returns the table that gates choose by, and what was published so far.
func (h *House) readChannels(ctx context.Context) (live *PublishedChannels, past publishedVersions, err error) {
	ctx, cancel := context.WithTimeout(ctx, channelsWait)
	defer cancel()
	past = publishedVersions{}
	err = h.controlRecords(ctx, schemas.Channels, func(r *kgo.Record) {
		if string(r.Key) != schemas.ChannelsKey {
			return
		}
		past.read(r)
		switch {
		case len(r.Value) == 0, string(r.Value) == schemas.ChannelsOff:
			live = nil
		default:
			if table, err := routing.Load("channels", r.Value); err == nil { // gates refuse the others too
				live = &PublishedChannels{table, publishedBy(r), r.Timestamp}
				past.add(table)
			}
		}
	})
	return live, past, err
}

// Headers of a record of channels: who published it, and the highest version of each name until then. The topic is compacted, so what was
// published before is known by the last record alone; a record without the second is of an older sluice.
const (
	headerBy   = "by"
	headerPast = "published"
)

// maxPast bounds the names of tables that are remembered.
const maxPast = 256

// A publishedVersion is the highest version of a table's name, and the checksum (SHA-256) of its text.
type publishedVersion struct {
	Version int    `json:"version"`
	Sum     string `json:"sha256"`
}

// publishedVersions has them by name. A decision names the table it was made by as name@version: no version may have two texts, also not
// when the house has chosen nothing in between.
type publishedVersions map[string]publishedVersion

func (p publishedVersions) note(name string, v publishedVersion) {
	if v.Version > p[name].Version {
		p[name] = v
	}
}

func (p publishedVersions) add(t *routing.Table) {
	p.note(t.Name, publishedVersion{t.Version, checksum(t.Source)})
}

func (p publishedVersions) read(r *kgo.Record) {
	for _, header := range r.Headers {
		var past publishedVersions
		if header.Key != headerPast || json.Unmarshal(header.Value, &past) != nil {
			continue
		}
		for name, v := range past {
			p.note(name, v)
		}
	}
}

// check refuses a table that would make a version ambiguous.
func (p publishedVersions) check(t *routing.Table) error {
	past, known := p[t.Name]
	switch {
	case known && past.Version == t.Version && past.Sum == checksum(t.Source):
		return nil
	case known && past.Version == t.Version:
		return fmt.Errorf("%s was published with another text, and decisions name it; give the file version: %d", t.ID(), past.Version+1)
	case known && past.Version > t.Version:
		return fmt.Errorf("%s@%d was published already; give the file version: %d", t.Name, past.Version, past.Version+1)
	case !known && len(p) >= maxPast:
		return fmt.Errorf("%d names of channel files were published, and each is remembered; use one of them, with a higher version", len(p))
	}
	return nil
}

func checksum(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func publishedBy(r *kgo.Record) string {
	for _, h := range r.Headers {
		if h.Key == headerBy {
			return string(h.Value)
		}
	}
	return ""
}

// PublishChannels lets every gate choose by a table, on somebody's word. A version that was published with another text, or a lower one than
// was published of the name, is refused: a decision names the version it was made by.
func (h *House) PublishChannels(ctx context.Context, table *routing.Table, by string) error {
	live, past, err := h.readChannels(ctx)
	if err != nil {
		return err
	}
	if err := past.check(table); err != nil {
		return err
	}
	if live != nil && string(live.Source) == string(table.Source) {
		return nil
	}
	past.add(table)
	return h.controlChannels(ctx, table.Source, by, past)
}

// EndChannels lets gates choose no payment channel any more. What was published is remembered.
func (h *House) EndChannels(ctx context.Context, by string) error {
	_, past, err := h.readChannels(ctx)
	if err != nil {
		return err
	}
	return h.controlChannels(ctx, []byte(schemas.ChannelsOff), by, past)
}

func (h *House) controlChannels(ctx context.Context, value []byte, by string, past publishedVersions) error {
	told, err := json.Marshal(past)
	if err != nil {
		return err
	}
	s := h.Stream("channels")
	client, err := s.Client()
	if err != nil {
		return err
	}
	defer client.Close()
	record := &kgo.Record{Topic: s.Topic(schemas.Channels), Key: []byte(schemas.ChannelsKey), Value: value,
		Headers: []kgo.RecordHeader{{Key: headerBy, Value: []byte(by)}, {Key: headerPast, Value: told}}}
	if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
		return fmt.Errorf("publish on the control topic %s: %w", record.Topic, err)
	}
	return nil
}

// prepareChannels publishes the configured channels where none were ever published.
func (h *House) prepareChannels(ctx context.Context) error {
	if h.Config.Channels == "" {
		return nil
	}
	table, err := LoadChannels(h.Config.Channels)
	if err != nil {
		return err
	}
	reading, cancel := context.WithTimeout(ctx, channelsWait)
	defer cancel()
	published := false
	if err := h.controlRecords(reading, schemas.Channels, func(*kgo.Record) { published = true }); err != nil || published {
		return err
	}
	past := publishedVersions{}
	past.add(table)
	return h.controlChannels(ctx, table.Source, "", past)
}

// answered is the health of a table's channels at a moment, from ClickHouse.
type answered struct {
	at   time.Time
	good []int64 // by channel of the table
	all  []int64
}

// Answers is routing.Health.
func (a *answered) Answers(channel int) (good, all int64) { return a.good[channel], a.all[channel] }

// healthAt counts the answers in the window before a moment, by event time; the zero moment is that of the newest payment
// event, or now where there is none.
func healthAt(ctx context.Context, db driver.Conn, table *routing.Table, at time.Time) (*answered, error) {
	if at.IsZero() {
		if err := db.QueryRow(ctx, "SELECT max(event_time) FROM payments").Scan(&at); err != nil {
			return nil, fmt.Errorf("read the newest payment in ClickHouse: %w", err)
		}
		if at.Unix() <= 0 {
			at = time.Now()
		}
	}
	a := &answered{at: at.UTC(), good: make([]int64, len(table.Channels)), all: make([]int64, len(table.Channels))}
	good, bad := kindNames(table.Health().Aggregates[routing.Good].Of), kindNames(table.Health().Aggregates[routing.Bad].Of)
	rows, err := db.Query(ctx, `SELECT payment_channel, toInt64(countIf(has(?, type))), toInt64(count()) FROM payments
		WHERE event_time > ? AND event_time <= ? AND has(?, type) AND payment_channel != '' AND verdict != 'duplicate' GROUP BY payment_channel`,
		good, at.Add(-table.Window), at, append(good, bad...))
	if err != nil {
		return nil, fmt.Errorf("read the answers of channels in ClickHouse: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var good, all int64
		if err := rows.Scan(&name, &good, &all); err != nil {
			return nil, fmt.Errorf("read the answers of channels in ClickHouse: %w", err)
		}
		if i := table.Index(name); i >= 0 {
			a.good[i], a.all[i] = good, all
		}
	}
	return a, rows.Err()
}

func kindNames(of rules.Kinds) []string {
	var all []string
	for _, k := range events.Kinds() {
		if of.Has(k) {
			all = append(all, k.String())
		}
	}
	return all
}

// errNoChannels says that gates choose nothing.
var errNoChannels = errors.New("no payment channels are published, so the house chooses none; sluice channels publish FILE")

// withHealth does something with the live table, or that of a file, and the health of its channels.
func (h *House) withHealth(ctx context.Context, file string, at time.Time, do func(*PublishedChannels, *answered) error) error {
	table, err := h.channelsOf(ctx, file)
	if err != nil {
		return err
	}
	db, err := warehouse.Open(h.Addresses.ClickHouse)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(ctx, channelsWait)
	defer cancel()
	health, err := healthAt(ctx, db, table.Table, at)
	if err != nil {
		return err
	}
	return do(table, health)
}

// channelsOf returns the table of a file, or the live one.
func (h *House) channelsOf(ctx context.Context, file string) (*PublishedChannels, error) {
	if file != "" {
		table, err := LoadChannels(file)
		return &PublishedChannels{Table: table}, err
	}
	live, err := h.LiveChannels(ctx)
	if err == nil && live == nil {
		err = errNoChannels
	}
	return live, err
}

// ShowChannels prints the live table, each channel with how it fared at a moment, the zero one: at the newest payment event.
func (h *House) ShowChannels(ctx context.Context, w io.Writer, at time.Time) error {
	return h.withHealth(ctx, "", at, func(table *PublishedChannels, health *answered) error {
		fmt.Fprintf(w, "%s, published %s%s\n", table.ID(), table.At.UTC().Format(time.RFC3339), byWhom(table.By))
		fmt.Fprintf(w, "answers of the %s before %s; down below %s of at least %d; explore %s, probe %s\n\n", shortSpan(table.Window),
			health.at.Format(time.RFC3339), inPercent(table.DownAt), table.Attempts, inPercent(table.Explore), inPercent(table.Probe))
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "CHANNEL\tSTATE\tSUCCESS\tANSWERS\tPRIORITY")
		for i := range table.Channels {
			c := &table.Channels[i]
			state := "up"
			switch {
			case !c.Enabled:
				state = "disabled"
			case !c.Hours.Open(health.at):
				state = "closed"
			case table.Down(health.good[i], health.all[i]):
				state = "down"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\n", c.Name, state, successText(health.good[i], health.all[i]), thousands(health.all[i]), c.Priority)
		}
		return t.Flush()
	})
}

// RouteQuestion is a payment that a channel is looked for.
type RouteQuestion struct {
	Method, Purpose, Amount, Currency string
	Payment                           string    // its id, which draws exploration; "" draws none in particular
	At                                time.Time // zero: the time of the newest payment
	Channel                           string    // that it asks for, "" none
	File                              string    // choose by this file; "": by what is live
}

// Check says what is wrong with the question.
func (q *RouteQuestion) Check() error {
	_, err := q.event()
	return err
}

// event makes the payment's event.
func (q *RouteQuestion) event() (*events.Event, error) {
	e := &events.Event{ID: "question", Source: "sluice channels route", Kind: events.PaymentInitiated, CustomerID: "C1",
		PaymentID: q.Payment, PaymentChannel: q.Channel}
	var ok bool
	if e.Method, ok = payments.ParseMethod(q.Method); !ok {
		return nil, fmt.Errorf("--method %q: give card, bank_transfer, quick_pay or wallet", q.Method)
	}
	if e.Purpose, ok = payments.ParsePurpose(q.Purpose); !ok {
		return nil, fmt.Errorf("--purpose %q: give purchase, transfer, top_up, withdrawal or payout", q.Purpose)
	}
	if e.Currency, ok = events.ParseCurrency(q.Currency); !ok {
		return nil, fmt.Errorf("--currency %q: give an ISO 4217 code such as CNY", q.Currency)
	}
	var err error
	if e.Amount, err = events.ParseAmount(q.Amount, e.Currency); err != nil || e.Amount == 0 {
		return nil, fmt.Errorf("--amount %q: give an amount greater than zero, such as 100.00", q.Amount)
	}
	if !routing.Begins(e) {
		return nil, fmt.Errorf("a %s by %s goes through no payment channel", q.Purpose, q.Method)
	}
	return e, nil
}

// AskRoute prints which payment channel would be chosen, and what speaks for and against each.
func (h *House) AskRoute(ctx context.Context, w io.Writer, q RouteQuestion) error {
	e, err := q.event()
	if err != nil {
		return err
	}
	return h.withHealth(ctx, q.File, q.At, func(table *PublishedChannels, health *answered) error {
		if e.Time = q.At; q.At.IsZero() {
			e.Time = health.at
		}
		return printRoute(w, table.Table, e, health)
	})
}

func printRoute(w io.Writer, table *routing.Table, e *events.Event, health *answered) error {
	c := table.NewChooser()
	route := c.Choose(e, rules.Context{}, health)
	name := route.Channel
	if name == "" {
		name = "none: the payment is declined with " + routing.NoRoute
	}
	fmt.Fprintf(w, "%s\n%s\n", name, route.Reason)
	if len(route.Fallbacks) > 0 {
		fmt.Fprintf(w, "next: %s\n", strings.Join(route.Fallbacks, ", "))
	}
	fmt.Fprintf(w, "at %s, answers of the %s before it\n\n", e.Time.UTC().Format(time.RFC3339), shortSpan(table.Window))
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "CHANNEL\tCAN IT\tFEE\tSUCCESS\tANSWERS\tEXPECTED SUCCESS\tEXPECTED COST")
	for _, k := range c.Candidates(e, rules.Context{}, health) {
		can, fee, cost := k.Hindrance.String(), "", ""
		if k.Down && k.Hindrance == routing.Able {
			can = "down"
		}
		if table.Channels[k.Channel].Terms(e.Method, e.Currency) != nil || k.Hindrance == routing.Able {
			fee, cost = events.FormatAmount(k.Fee, e.Currency), events.FormatAmount(k.Cost(), e.Currency)
		}
		fmt.Fprintln(t, strings.Join([]string{table.Channels[k.Channel].Name, can, fee, successText(k.Good, k.All), thousands(k.All),
			inPercent(k.Success), cost}, "\t"))
	}
	return t.Flush()
}

func byWhom(by string) string {
	if by == "" {
		return ""
	}
	return " by " + by
}

// successText is a share of good answers: "98.1 %".
func successText(good, all int64) string {
	if all == 0 {
		return "-"
	}
	return inPercent(good * routing.Whole / all)
}

// inPercent writes millionths with one decimal, cut off.
func inPercent(n int64) string { return fmt.Sprintf("%d.%d %%", n/10_000, n/1_000%10) }

// shortSpan writes whole minutes: "15m", "24h".
func shortSpan(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}
