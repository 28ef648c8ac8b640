package house

import (
	"fmt"
	"io"
	"net"
	"sort"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"sluice/deploy/config"
	"sluice/deploy/status"
)

// totals are the counters a person follows, read from the metrics of this process.
type totals struct {
	at                                             time.Time
	published, decided, posted, rejected, rows, dl float64
	verdicts, rejections                           map[string]float64
	latency                                        *dto.Histogram
}

func read(g prometheus.Gatherer) totals {
	t := totals{at: time.Now(), verdicts: map[string]float64{}, rejections: map[string]float64{}}
	families, err := g.Gather()
	if err != nil {
		return t // a line is missed; the metrics page says why
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			n := m.GetCounter().GetValue()
			switch f.GetName() {
			case "sluice_simulator_events_total":
				t.published += n
			case "sluice_gate_decisions_total":
				t.decided += n
				t.verdicts[label(m)] += n
			case "sluice_poster_transfers_total":
				t.posted += n
			case "sluice_poster_rejected_total":
				t.rejected += n
				t.rejections[label(m)] += n
			case "sluice_warehouse_rows_total":
				t.rows += n
			case "sluice_deadletters_total":
				t.dl += n
			case "sluice_gate_decision_seconds":
				t.latency = m.GetHistogram()
			}
		}
	}
	return t
}

func label(m *dto.Metric) string {
	if len(m.GetLabel()) == 0 {
		return ""
	}
	return m.GetLabel()[0].GetValue()
}

// watch is the line that runs while everything does.
type watch struct {
	gatherer prometheus.Gatherer
	last     totals
}

func newWatch(g prometheus.Gatherer) *watch { return &watch{gatherer: g, last: read(g)} }

func (w *watch) line() string {
	now := read(w.gatherer)
	seconds := now.at.Sub(w.last.at).Seconds()
	rate := func(now, before float64) string { return thousands(int64((now - before) / seconds)) }
	line := fmt.Sprintf("%s events/s decided · %s transfers/s posted · %s rows/s in ClickHouse · %s decided in all",
		rate(now.decided, w.last.decided), rate(now.posted, w.last.posted), rate(now.rows, w.last.rows), thousands(int64(now.decided)))
	w.last = now
	return line
}

// summary is what `up` says at its end.
type summary struct {
	gatherer prometheus.Gatherer
	started  totals
}

func newSummary(g prometheus.Gatherer) *summary { return &summary{g, read(g)} }

func (s *summary) text() string {
	now := read(s.gatherer)
	took := now.at.Sub(s.started.at)
	var b strings.Builder
	line := func(name string, n float64, more string) {
		fmt.Fprintf(&b, "  %-22s %14s   %s\n", name, thousands(int64(n)), more)
	}
	fmt.Fprintf(&b, "\nIn %s:\n", took.Round(100*time.Millisecond))
	line("events published", now.published-s.started.published, fmt.Sprintf("%s/s", thousands(int64((now.published-s.started.published)/took.Seconds()))))
	line("decided", now.decided-s.started.decided, mix(now.verdicts, s.started.verdicts))
	line("transfers posted", now.posted-s.started.posted, "")
	line("not posted", now.rejected-s.started.rejected, mix(now.rejections, s.started.rejections))
	line("rows in ClickHouse", now.rows-s.started.rows, "")
	line("dead letters", now.dl-s.started.dl, "")
	if h := now.latency; h.GetSampleCount() > 0 {
		fmt.Fprintf(&b, "  %-22s %14s   from Kafka's timestamp to the committed verdict\n", "decision p50, p99",
			"≤ "+quantile(h, 0.50)+", "+quantile(h, 0.99))
	}
	return b.String()
}

func mix(now, before map[string]float64) string {
	names := make([]string, 0, len(now))
	for name := range now {
		if now[name] > before[name] {
			names = append(names, name)
		}
	}
	sort.Slice(names, func(i, j int) bool { return now[names[i]] > now[names[j]] })
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %s", name, thousands(int64(now[name]-before[name])))
	}
	return strings.Join(names, ", ")
}

// quantile returns the upper bound of the histogram's bucket that holds the quantile.
func quantile(h *dto.Histogram, q float64) string {
	want := q * float64(h.GetSampleCount())
	for _, b := range h.GetBucket() {
		if float64(b.GetCumulativeCount()) >= want {
			return time.Duration(b.GetUpperBound() * float64(time.Second)).Round(100 * time.Microsecond).String()
		}
	}
	return "more than the last bucket"
}

// links are the engines in use, as a person reaches them.
func (h *House) links() []status.Link {
	links := []status.Link{
		{Name: "Kafka", URL: "kafka://" + strings.Join(h.Addresses.Kafka, ","), Note: "payments, loans and behaviors in; *.decided and ledger.results out"},
	}
	if h.Addresses.Postgres != "" {
		links = append(links, status.Link{Name: "Postgres", URL: config.Redact(h.Addresses.Postgres), Note: "the ledger: balances, transfers, results"})
	}
	if h.Addresses.ClickHouse != "" {
		links = append(links, status.Link{Name: "ClickHouse", URL: config.Redact(h.Addresses.ClickHouse), Note: "payments, verdicts, postings, customer_days, customer_tiers"})
	}
	if h.Addresses.ClickHouseHTTP != "" {
		links = append(links, status.Link{Name: "ClickHouse in the browser", URL: strings.TrimSuffix(h.Addresses.ClickHouseHTTP, "/?database="+database) + "/play", Note: "write SQL"})
	}
	return append(links, status.Link{Name: "Metrics", URL: "/metrics", Note: "for Prometheus"})
}

// welcome says where everything is, once everything is ready.
func (h *House) welcome(w io.Writer, page net.Listener) {
	fmt.Fprintf(w, "\nsluice is up.\n")
	if page != nil {
		fmt.Fprintf(w, "  status page   http://%s\n", page.Addr())
	}
	fmt.Fprintf(w, "  Kafka         %s\n", strings.Join(h.Addresses.Kafka, ","))
	fmt.Fprintf(w, "  Postgres      psql '%s'\n", config.Redact(h.Addresses.Postgres))
	if h.Addresses.ClickHouseHTTP != "" {
		fmt.Fprintf(w, "  ClickHouse    curl '%s' --data 'SELECT count() FROM payments'\n", h.Addresses.ClickHouseHTTP)
	} else {
		fmt.Fprintf(w, "  ClickHouse    %s\n", config.Redact(h.Addresses.ClickHouse))
	}
	fmt.Fprintf(w, "  Ctrl-C stops; the next `sluice up` goes on where this one stopped.\n\n")
}
