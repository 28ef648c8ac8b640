package backtest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/pipelines/backtest"
	"sluice/pipelines/risk"
	"sluice/rules"
	"sluice/rules/packs"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

const liveRules = `
ruleset: live
version: 1
aggregates:
  count_1h: {count: payment.initiated, by: customer, window: 1h}
  on_device_24h: {distinct: customer, of: payment.initiated, by: device, window: 24h}
rules:
  - id: often
    when: count_1h >= 4
    then: {score: 50, reason: R1, say: "often"}
  - id: large
    when: payment.amount >= 300
    then: {score: 30, reason: R2, say: "large"}
  - id: device
    when: on_device_24h >= 3
    then: {score: 60, reason: R3, say: "many customers on a device"}
outcomes: {review: 50, decline: 80}
`

const newRules = `
ruleset: live
version: 2
aggregates:
  count_2h: {count: payment.initiated, by: customer, window: 2h}
  on_device_24h: {distinct: customer, of: payment.initiated, by: device, window: 24h}
rules:
  - id: often
    when: count_2h >= 5
    then: {score: 40, reason: R1, say: "often"}
  - id: large
    when: payment.amount >= 400
    then: {score: 30, reason: R2, say: "large"}
  - id: device
    when: on_device_24h >= 2
    then: {score: 45, reason: R3, say: "more than one customer on a device"}
  - id: never
    when: payment.amount > 1000000
    then: {score: 45, reason: R4, say: "never"}
outcomes: {review: 40, decline: 80}
`

var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// history makes n events of few customers on few devices.
func history(seed uint64, n int, step time.Duration) []backtest.Item {
	random := rand.New(rand.NewPCG(seed, 7))
	items := make([]backtest.Item, n)
	now := start
	currencies := []string{"CNY", "JPY", "KWD"}
	for i := range items {
		now = now.Add(time.Duration(random.Int64N(int64(2 * step))).Truncate(time.Microsecond))
		customer := random.IntN(12)
		e := events.Event{ID: fmt.Sprint("e", i), Source: "test", Kind: events.PaymentInitiated, Time: now, CustomerID: fmt.Sprint("C", customer),
			PaymentID: fmt.Sprint("p", i), DeviceID: fmt.Sprint("D", random.IntN(9)), Method: eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET,
			Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER, CounterpartyID: fmt.Sprint("C", random.IntN(12)),
			Currency: events.MustCurrency(currencies[random.IntN(3)]), Amount: random.Int64N(80_000) + 1}
		switch random.IntN(10) {
		case 0:
			e.Label = "mule_chain"
		case 1:
			e.Kind, e.Currency, e.Amount, e.PaymentID, e.CounterpartyID, e.Method, e.Purpose = events.BehaviorSignedIn, 0, 0, "", "", 0, 0
		}
		items[i] = backtest.Item{Event: e, Partition: int32(customer % 3)}
	}
	return items
}

// said is what the oracle remembers of each event.
type said struct {
	event   *events.Event
	fraud   bool
	verdict [2]events.Verdict
	score   [2]int32
	rules   [2][]string
}

// decided runs one ruleset alone, event by event.
func decided(rs *rules.Ruleset, items []backtest.Item) []events.Decision {
	state := risk.NewState(risk.NewEngine(rs))
	for p := range int32(3) {
		state.Assign(p)
	}
	out := make([]events.Decision, len(items))
	for i := range items {
		out[i] = state.Decide(items[i].Partition, &items[i].Event)
		state.Commit()
	}
	return out
}

// The report is what naive counting over the list of all answers gives.
func TestReportIsWhatCountingGives(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		for _, unit := range []backtest.Unit{backtest.ByEvent, backtest.ByCustomer, backtest.ByAccount} {
			t.Run(fmt.Sprint(unit, seed), func(t *testing.T) {
				t.Parallel()
				oracle(t, seed, unit)
			})
		}
	}
}

func oracle(t *testing.T, seed uint64, unit backtest.Unit) {
	items := history(seed, 900, 12*time.Minute)
	rs := [2]*rules.Ruleset{ruleset(t, newRules), ruleset(t, liveRules)}
	labels := backtest.NewLabels()
	chargedBack := map[string]bool{}
	for i := range items {
		if id := items[i].Event.PaymentID; id != "" && i%17 == 0 {
			labels.Report(id)
			chargedBack[id] = true
		}
	}
	if err := labels.ReadCSV("l.csv", strings.NewReader("payment_id,label\np17,legit\np18,fraud\n")); err != nil {
		t.Fatal(err)
	}
	from := start.Add(24 * time.Hour)
	run := backtest.NewRun(backtest.Options{Rules: rs[0], Against: rs[1], Labels: labels, Unit: unit, From: from})
	for i := range items {
		run.Add(&items[i])
	}
	report := run.Report()

	answers := [2][]events.Decision{decided(rs[0], items), decided(rs[1], items)}
	var all []said
	for i := range items {
		e := &items[i].Event
		if e.Time.Before(from) || e.Kind != events.PaymentInitiated {
			continue
		}
		s := said{event: e, fraud: e.Label != "" || chargedBack[e.PaymentID]}
		switch e.PaymentID {
		case "p17":
			s.fraud = false
		case "p18":
			s.fraud = true
		}
		for k := range 2 {
			d := &answers[k][i]
			s.verdict[k], s.score[k] = d.Verdict, d.Score
			for _, h := range d.Hits {
				s.rules[k] = append(s.rules[k], h.Rule)
			}
		}
		all = append(all, s)
	}
	if report.Counts.Asked != int64(len(all)) {
		t.Fatalf("asked %d, want %d", report.Counts.Asked, len(all))
	}
	if report.Again.Compared != 0 {
		t.Error("nothing was recorded")
	}
	for k, side := range []*backtest.Side{&report.Rules, report.Against} {
		flagged := func(s *said) bool { return s.verdict[k] == events.Review || s.verdict[k] == events.Decline }
		checkMeasure(t, "flagged", &side.Flagged, all, unit, flagged)
		checkMeasure(t, "declined", &side.Declined, all, unit, func(s *said) bool { return s.verdict[k] == events.Decline })
		for i, rule := range rs[k].Rules {
			m := &side.Rules[i]
			fired := func(s *said) bool { return slices.Contains(s.rules[k], rule.ID) }
			checkMeasure(t, rule.ID, &m.Measure, all, unit, fired)
			for j, other := range rs[k].Rules {
				both, alone, count := int64(0), int64(0), int64(0)
				for n := range all {
					if fired(&all[n]) {
						count++
						if slices.Contains(all[n].rules[k], other.ID) {
							both++
						}
						if len(all[n].rules[k]) == 1 {
							alone++
						}
					}
				}
				if side.Overlap[i][j] != both || m.Fired != count || m.Alone != alone {
					t.Errorf("%s with %s: %d %d %d, want %d %d %d", rule.ID, other.ID, side.Overlap[i][j], m.Fired, m.Alone, both, count, alone)
				}
			}
		}
		checkCurve(t, side, all, unit, k)
	}
	checkChanges(t, report, all)
	checkDays(t, report, all)
}

// units groups events by what is counted.
func units(all []said, unit backtest.Unit) [][]*said {
	by := map[string][]*said{}
	for i := range all {
		s := &all[i]
		switch unit {
		case backtest.ByEvent:
			by[s.event.ID] = append(by[s.event.ID], s)
		case backtest.ByAccount:
			if s.event.CounterpartyID != s.event.CustomerID {
				by[s.event.CounterpartyID] = append(by[s.event.CounterpartyID], s)
			}
			fallthrough
		default:
			by[s.event.CustomerID] = append(by[s.event.CustomerID], s)
		}
	}
	return slices.Collect(maps.Values(by))
}

func checkMeasure(t *testing.T, what string, m *backtest.Measure, all []said, unit backtest.Unit, flagged func(*said) bool) {
	t.Helper()
	var want backtest.Confusion
	for _, group := range units(all, unit) {
		fraud := slices.ContainsFunc(group, func(s *said) bool { return s.fraud })
		hit := slices.ContainsFunc(group, flagged)
		switch {
		case fraud && hit:
			want.TruePositives++
		case fraud:
			want.FalseNegatives++
		case hit:
			want.FalsePositives++
		default:
			want.TrueNegatives++
		}
	}
	if m.Confusion != want {
		t.Errorf("%s: %+v, want %+v", what, m.Confusion, want)
	}
	tp, fp, fn, tn := float64(want.TruePositives), float64(want.FalsePositives), float64(want.FalseNegatives), float64(want.TrueNegatives)
	p, r := tp/(tp+fp), tp/(tp+fn)
	near(t, what+" precision", m.Precision, p)
	near(t, what+" recall", m.Recall, r)
	near(t, what+" false positive rate", m.FalsePositiveRate, fp/(fp+tn))
	if tp > 0 {
		near(t, what+" F1", m.F1, 2/(1/p+1/r))
	}
	inconvenienced := 0
	for _, group := range units(all, backtest.ByCustomer) {
		if !slices.ContainsFunc(group, func(s *said) bool { return s.fraud }) && slices.ContainsFunc(group, flagged) {
			inconvenienced++
		}
	}
	if m.Inconvenienced != int64(inconvenienced) {
		t.Errorf("%s: %d inconvenienced, want %d", what, m.Inconvenienced, inconvenienced)
	}
	checkMoney(t, what, m.Money, all, flagged)
}

func checkMoney(t *testing.T, what string, got []backtest.Money, all []said, flagged func(*said) bool) {
	t.Helper()
	sums := map[string]*[3]big.Int{}
	for i := range all {
		s := &all[i]
		if !s.fraud && !flagged(s) {
			continue
		}
		code := s.event.Currency.Code()
		if sums[code] == nil {
			sums[code] = &[3]big.Int{}
		}
		at := 2
		if s.fraud {
			at = 1
			if flagged(s) {
				at = 0
			}
		}
		sums[code][at].Add(&sums[code][at], big.NewInt(s.event.Amount))
	}
	var want []backtest.Money
	for _, code := range slices.Sorted(maps.Keys(sums)) {
		c := events.MustCurrency(code)
		text := func(n *big.Int) string {
			return new(big.Rat).SetFrac(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(c.Exponent())), nil)).FloatString(c.Exponent())
		}
		s := sums[code]
		want = append(want, backtest.Money{Currency: code, Caught: text(&s[0]), Missed: text(&s[1]), Stopped: text(&s[2])})
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: money %v, want %v", what, got, want)
	}
}

func near(t *testing.T, what string, got backtest.Ratio, want float64) {
	t.Helper()
	if math.IsNaN(want) && math.IsNaN(float64(got)) {
		return
	}
	if !(math.Abs(float64(got)-want) < 1e-12) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func checkCurve(t *testing.T, side *backtest.Side, all []said, unit backtest.Unit, k int) {
	t.Helper()
	groups := units(all, unit)
	highest := map[int32]bool{}
	for _, group := range groups {
		most := group[0].score[k]
		for _, s := range group {
			most = max(most, s.score[k])
		}
		highest[most] = true
	}
	if len(side.Curve) != len(highest) {
		t.Errorf("%d thresholds, want %d", len(side.Curve), len(highest))
	}
	for _, p := range side.Curve {
		var want backtest.Confusion
		for _, group := range groups {
			hit := slices.ContainsFunc(group, func(s *said) bool { return s.score[k] >= p.Threshold })
			fraud := slices.ContainsFunc(group, func(s *said) bool { return s.fraud })
			switch {
			case fraud && hit:
				want.TruePositives++
			case fraud:
				want.FalseNegatives++
			case hit:
				want.FalsePositives++
			default:
				want.TrueNegatives++
			}
		}
		if p.Confusion != want {
			t.Errorf("threshold %d: %+v, want %+v", p.Threshold, p.Confusion, want)
		}
	}
	if n := len(side.Curve); n == 0 || side.Curve[n-1].Recall != 1 || !slices.IsSortedFunc(side.Curve, func(a, b backtest.CurvePoint) int { return int(b.Threshold) - int(a.Threshold) }) {
		t.Errorf("a curve of %d points", n)
	}
}

func checkChanges(t *testing.T, report *backtest.Report, all []said) {
	t.Helper()
	want := map[string][2]int64{}
	for i := range all {
		if from, to := all[i].verdict[1], all[i].verdict[0]; from != to {
			n := want[from.String()+to.String()]
			if all[i].fraud {
				n[1]++
			} else {
				n[0]++
			}
			want[from.String()+to.String()] = n
		}
	}
	got := map[string][2]int64{}
	for _, c := range report.Changes {
		got[c.From+c.To] = [2]int64{c.Good, c.Fraud}
	}
	if len(got) == 0 || !maps.Equal(got, want) {
		t.Errorf("changes %v, want %v", got, want)
	}
}

func checkDays(t *testing.T, report *backtest.Report, all []said) {
	t.Helper()
	asked, fraud := map[string]int64{}, map[string]int64{}
	for i := range all {
		day := all[i].event.Time.Format(time.DateOnly)
		asked[day]++
		if all[i].fraud {
			fraud[day]++
		}
	}
	for _, d := range report.Days {
		if d.Asked != asked[d.Day] || d.Fraud != fraud[d.Day] || d.Rules.TruePositives+d.Rules.FalseNegatives != d.Fraud || d.Against == nil {
			t.Errorf("%+v", d)
		}
	}
	if len(report.Days) != len(asked) {
		t.Errorf("%d days, want %d", len(report.Days), len(asked))
	}
}

// The stability of a distribution against itself is 0, and that of halves is the definition's sum.
func TestStability(t *testing.T) {
	t.Parallel()
	rs := ruleset(t, "ruleset: a\nversion: 1\nrules:\n"+
		"  - {id: a, when: payment.amount >= 100, then: {score: 10, reason: R, say: s}}\n  - {id: b, when: payment.amount >= 200, then: {score: 20, reason: R, say: s}}\noutcomes: {review: 20}\n")
	run := backtest.NewRun(backtest.Options{Rules: rs})
	for i := range 400 {
		amount := int64(50_00)
		switch {
		case i < 200 && i%10 == 0, i >= 200 && i%4 == 0: // 10 % before, 25 % after
			amount = 150_00
		case i%10 == 1: // 10 %; of the second half 10 %
			amount = 250_00
		}
		e := events.Event{ID: fmt.Sprint(i), Source: "t", Kind: events.PaymentInitiated, Time: start.Add(time.Duration(i) * 24 * time.Hour / 200), CustomerID: "C",
			PaymentID: fmt.Sprint(i), Currency: events.MustCurrency("CNY"), Amount: amount}
		run.Add(&backtest.Item{Event: e})
	}
	want := 0.0
	for _, s := range [][2]float64{{.8, .65}, {.1, .25}, {.1, .1}} {
		want += (s[1] - s[0]) * math.Log(s[1]/s[0])
	}
	near(t, "PSI", run.Report().Rules.PSI, want)
}

// An interval holds the shares whose normal deviate from what was seen is less than 1.96: Wilson's definition.
func TestIntervalIsWilsons(t *testing.T) {
	t.Parallel()
	report := measured(t)
	m := report.Rules.Flagged
	n := float64(m.TruePositives + m.FalsePositives)
	seen := float64(m.Precision)
	for _, p := range []float64{float64(m.PrecisionInterval.Low), float64(m.PrecisionInterval.High)} {
		if z := math.Abs(seen-p) / math.Sqrt(p*(1-p)/n); math.Abs(z-1.959964) > 1e-5 {
			t.Errorf("%v of %v: the end %v is %v deviations away", m.TruePositives, n, p, z)
		}
	}
}

func measured(t testing.TB) *backtest.Report {
	run := backtest.NewRun(backtest.Options{Rules: ruleset(t, newRules), Against: ruleset(t, liveRules)})
	items := history(3, 3000, 10*time.Minute)
	for i := range items {
		run.Add(&items[i])
	}
	return run.Report()
}

// A report comes back from its JSON, ratios that divide by zero as null.
func TestReportIsJSON(t *testing.T) {
	t.Parallel()
	r := measured(t)
	data, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var back backtest.Report
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&back); err != nil {
		t.Fatal(err)
	}
	again, err := back.JSON()
	if err != nil || !bytes.Equal(data, again) || !bytes.Contains(data, []byte(`"precision": null`)) || !bytes.Contains(data, []byte(backtest.Schema)) {
		t.Errorf("%v\n%s", err, data[:1000])
	}
}

// What the gate said is compared with what is said again, by the same version only.
func TestRecordedVerdicts(t *testing.T) {
	t.Parallel()
	rs := ruleset(t, liveRules)
	items := history(5, 500, 12*time.Minute)
	for i, d := range decided(rs, items) {
		items[i].Recorded = backtest.Recorded{Verdict: d.Verdict, Score: d.Score, Ruleset: d.Ruleset}
		for _, h := range d.Hits {
			items[i].Recorded.Rules = append(items[i].Recorded.Rules, h.Rule)
		}
	}
	items[100].Recorded.Score++
	items[101].Recorded.Ruleset = "live@0"
	items = append(items, items[200], backtest.Item{Event: items[0].Event, Recorded: backtest.Recorded{Verdict: events.Duplicate}})
	run := backtest.NewRun(backtest.Options{Rules: rs})
	for i := range items {
		run.Add(&items[i])
	}
	r := run.Report()
	if r.Against == nil || r.Against.Ruleset != "recorded" || len(r.Against.Rules) != 0 || len(r.Changes) != 0 || r.Counts.Duplicates != 2 {
		t.Errorf("%+v", r)
	}
	if r.Again.Compared-r.Again.Same != 1 || len(r.Again.Differ) != 1 || r.Again.Differ[0].Event != "test/"+items[100].Event.ID || r.Again.Compared != r.Counts.Asked-1 {
		t.Errorf("%+v of %d", r.Again, r.Counts.Asked)
	}
	if !reflect.DeepEqual(r.Rules.Flagged, r.Against.Flagged) {
		t.Errorf("%+v\n%+v", r.Rules.Flagged, r.Against.Flagged)
	}
}

func TestLabelsFileMistakes(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		"":                                  "l.csv: it is no CSV file",
		"id,label\n1,fraud\n":               "l.csv:1: the header",
		"payment_id,label\np1,perhaps\n":    `l.csv:2: the label "perhaps" is neither`,
		"payment_id,label\np1\n":            "l.csv: ",
		"loan_id,x,label\nl1,,Fraud\n":      "",
		"\ufeffpayment_id,label\np1,good\n": "",
	} {
		err := backtest.NewLabels().ReadCSV("l.csv", strings.NewReader(data))
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", data, err, want)
		}
	}
}

// BenchmarkRun is one event of ordinary life through the shipped pack and another version of it, measured: what a backtest
// does with each event besides reading it.
func BenchmarkRun(b *testing.B) {
	source := packs.Default()
	one := ruleset(b, string(source))
	two := ruleset(b, strings.Replace(string(source), "version: 1", "version: 2", 1))
	for _, against := range []*rules.Ruleset{nil, two} {
		name := "one ruleset"
		if against != nil {
			name = "two rulesets"
		}
		b.Run(name, func(b *testing.B) {
			items := life(400_000)
			run := backtest.NewRun(backtest.Options{Rules: one, Against: against})
			for i := range 200_000 {
				run.Add(&items[i])
			}
			b.ReportAllocs()
			i := 200_000
			for b.Loop() {
				if i == len(items) { // the same life again, later
					i = 0
				}
				it := &items[i]
				run.Add(it)
				it.Event.ID += "'"
				it.Event.Time = it.Event.Time.Add(400_000 * lifeStep)
				i++
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// lifeStep is how long after one another events of 20,000 customers happen who do something six times a day.
const lifeStep = 24 * time.Hour / 120_000

// life is customers who sign in, shop, send money and top up.
func life(n int) []backtest.Item {
	random := rand.New(rand.NewPCG(1, 2))
	items := make([]backtest.Item, n)
	for i := range items {
		who := random.IntN(20_000)
		id := fmt.Sprint("C", who)
		e := events.Event{ID: fmt.Sprint("e", i), Source: "app", Kind: events.PaymentInitiated, Time: start.Add(time.Duration(i) * lifeStep), CustomerID: id,
			DeviceID: "D" + id, IP: fmt.Sprintf("10.%d.%d.1", who>>8, who&255), Country: "CN", Channel: "app", Currency: events.MustCurrency("CNY"),
			Method: eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET, PaymentID: fmt.Sprint("p", i)}
		switch kind := random.IntN(100); {
		case kind < 25:
			e.Kind, e.Currency, e.Method = events.BehaviorSignedIn, 0, 0
		case kind < 75:
			e.Purpose, e.MerchantID, e.Amount = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE, fmt.Sprint("M", random.IntN(200)), random.Int64N(300_00)+1
			if kind < 40 {
				e.Method, e.CardToken = eventsv1.PaymentMethod_PAYMENT_METHOD_CARD, "T"+id
			}
		case kind < 92:
			e.Purpose, e.CounterpartyID, e.Amount = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER, fmt.Sprint("C", random.IntN(20_000)), random.Int64N(900_00)+1
		default:
			e.Purpose, e.Amount = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP, 5_000_00
		}
		items[i] = backtest.Item{Event: e, Partition: int32(who % 12)}
	}
	return items
}
