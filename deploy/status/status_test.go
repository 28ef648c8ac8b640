package status

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/schemas/events"
)

func get(t *testing.T, s *Server, path string) (int, http.Header, string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Header(), w.Body.String()
}

func document(t *testing.T, s *Server) Status {
	t.Helper()
	code, _, body := get(t, s, "/status.json")
	var doc Status
	if err := json.Unmarshal([]byte(body), &doc); err != nil || code != http.StatusOK {
		t.Fatalf("/status.json: %d, %v", code, err)
	}
	return doc
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	ready, failed := map[string]string{"gate": "", "poster": ""}, map[string]string{}
	s := New(Config{Gatherer: prometheus.NewRegistry(), Ready: func() map[string]string { return ready }, Failed: func() map[string]string { return failed }})
	f := func(path string, wantCode int, want string) {
		t.Helper()
		if code, _, body := get(t, s, path); code != wantCode || body != want {
			t.Errorf("%s: %d %q, want %d %q", path, code, body, wantCode, want)
		}
	}
	f("/readyz", 200, "ok\n")
	f("/healthz", 200, "ok\n")
	ready["poster"], ready["gate"] = "waits for\nPostgres", "starting"
	f("/readyz", 503, "gate: starting\nposter: waits for Postgres\n")
	f("/healthz", 200, "ok\n") // waiting is no reason to be killed
	failed["poster"] = "wrong schema"
	f("/readyz", 503, "gate: starting\nposter: wrong schema\n")
	f("/healthz", 503, "poster: wrong schema\n")

	doc := document(t, s)
	want := []Part{{"gate", false, false, "starting"}, {"poster", false, true, "wrong schema"}}
	if doc.Ready || len(doc.Parts) != 2 || doc.Parts[0] != want[0] || doc.Parts[1] != want[1] {
		t.Errorf("parts %+v, want %+v", doc.Parts, want)
	}
}

func TestOnlyReads(t *testing.T) {
	t.Parallel()
	s := New(Config{Gatherer: prometheus.NewRegistry()})
	for _, path := range []string{"/", "/status.json", "/metrics", "/healthz", "/readyz"} {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader("x")))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, w.Code)
		}
		if code, header, _ := get(t, s, path); code != http.StatusOK || path != "/metrics" && header.Get("Cache-Control") != "no-store" {
			t.Errorf("GET %s: %d, %v", path, code, header)
		}
	}
	if code, _, _ := get(t, s, "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("an unknown path: %d", code)
	}
}

// The page is whole in itself, runs only its own script, and its script never makes HTML of what it is told.
func TestPage(t *testing.T) {
	t.Parallel()
	_, header, body := get(t, New(Config{Gatherer: prometheus.NewRegistry()}), "/")
	policy := header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src " + digest(pageScript), "style-src " + digest(pageStyle)} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
	for _, element := range []string{"<style>" + string(pageStyle) + "</style>", "<script>" + string(pageScript) + "</script>"} {
		if !strings.Contains(body, element) {
			t.Errorf("the page lacks %.40q…", element)
		}
	}
	for _, never := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", `src="`, "<link rel=\"stylesheet", "@import"} {
		if strings.Contains(body, never) {
			t.Errorf("the page has %q", never)
		}
	}
}

// testMetrics are the metrics of a whole process.
type testMetrics struct {
	registry                        *prometheus.Registry
	in, decided, rejected, restarts *prometheus.CounterVec
	posted                          prometheus.Counter
	lag                             *prometheus.GaugeVec
	seconds                         prometheus.Histogram
}

func newTestMetrics() *testMetrics {
	m := &testMetrics{
		registry: prometheus.NewRegistry(),
		in:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: eventsIn}, []string{"topic"}),
		decided:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: decisions}, []string{"verdict"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{Name: rejected}, []string{"code"}),
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: restarts}, []string{"part"}),
		posted:   prometheus.NewCounter(prometheus.CounterOpts{Name: posted}),
		lag:      prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: lagRecords}, []string{"part", "topic"}),
		seconds:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: decisionSeconds, Buckets: []float64{.01, .02, .05}}),
	}
	unpublished := prometheus.NewGauge(prometheus.GaugeOpts{Name: resultsLag})
	unpublished.Set(17)
	m.registry.MustRegister(unpublished, m.in, m.decided, m.rejected, m.restarts, m.posted, m.lag, m.seconds)
	return m
}

func TestFiguresFromSamples(t *testing.T) {
	t.Parallel()
	m := newTestMetrics()
	s := New(Config{Gatherer: m.registry})
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 200 { // more than the ring holds
		m.in.WithLabelValues("payments").Add(30)
		m.in.WithLabelValues("loans").Add(10)
		m.decided.WithLabelValues("approve").Add(36)
		if i >= 150 { // all 50 of them within the last 60 samples
			m.decided.WithLabelValues("decline").Add(4)
			m.rejected.WithLabelValues("insufficient_funds").Inc()
		}
		m.lag.WithLabelValues("gate", "payments").Set(float64(i))
		m.lag.WithLabelValues("gate", "loans").Set(1)
		if err := s.samples.take(start.Add(time.Duration(i)*2*time.Second), m.registry); err != nil {
			t.Fatal(err)
		}
	}
	doc := document(t, s)
	in, rows := doc.Rates[0], doc.Rates[3]
	if in.Name != "events_in" || *in.PerSecond != 20 || *in.Total != 8000 || len(in.History) != keptSamples-1 || in.History[0] != 20 {
		t.Errorf("events in: %+v", in)
	}
	if len(in.By) != 2 || in.By[0] != (Count{"loans", 600, 2000}) || in.By[1] != (Count{"payments", 1800, 6000}) {
		t.Errorf("events in by topic: %+v", in.By)
	}
	if rows.PerSecond != nil || rows.Total != nil {
		t.Errorf("a metric that this process lacks is %+v, want null", rows)
	}
	if want := []Count{{"approve", 60 * 36, 7200}, {"decline", 200, 200}}; len(doc.Verdicts) != 2 || doc.Verdicts[0] != want[0] || doc.Verdicts[1] != want[1] {
		t.Errorf("verdicts %+v, want %+v", doc.Verdicts, want)
	}
	if len(doc.Rejections) != 1 || doc.Rejections[0] != (Count{"insufficient_funds", 50, 50}) {
		t.Errorf("rejections %+v", doc.Rejections)
	}
	if len(doc.Lag) != 2 || doc.Lag[1].Part != "results" || doc.Lag[1].Records != 17 || doc.Lag[0].Records != 200 || len(doc.Lag[0].History) != keptSamples || doc.Lag[0].Topics[1] != (Count{"payments", 60, 199}) {
		t.Errorf("lag %+v", doc.Lag)
	}
}

func TestLatencyOfTheLastMinute(t *testing.T) {
	t.Parallel()
	m := newTestMetrics()
	s := New(Config{Gatherer: m.registry})
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	take := func(i int) {
		if err := s.samples.take(start.Add(time.Duration(i)*time.Second), m.registry); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 {
		m.seconds.Observe(10) // long ago, and slow
	}
	take(0)
	if l := document(t, s).Latency; l.P50 != nil || l.Count != 0 {
		t.Errorf("nothing was observed since the only sample: %+v", l)
	}
	for i := 1; i <= minute; i++ {
		m.seconds.Observe(0.015)
		take(i)
	}
	l := document(t, s).Latency
	if l.Count != 60 || *l.P50 != 15 || *l.P99 != 19.9 || l.Above || len(l.History) != minute {
		t.Errorf("60 observations in the bucket of 10 to 20 ms: %+v", l)
	}
	m.seconds.Observe(1)
	take(minute + 1)
	if l := document(t, s).Latency; *l.P99 != 50 || !l.Above {
		t.Errorf("one of 60 is above every bucket: p99 %v, above %v", *l.P99, l.Above)
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	f := func(q float64, want float64, wantAbove, wantOK bool, counts ...uint64) {
		t.Helper()
		buckets := []bucket{{1, 0}, {2, 0}, {4, 0}, {math.Inf(1), 0}}
		for i, n := range counts {
			buckets[i].count = n
		}
		got, above, ok := quantile(q, buckets)
		if math.Abs(got-want) > 1e-9 || above != wantAbove || ok != wantOK {
			t.Errorf("quantile(%v, %v) = %v, %v, %v; want %v, %v, %v", q, counts, got, above, ok, want, wantAbove, wantOK)
		}
	}
	f(0.5, 0, false, false, 0, 0, 0, 0)
	f(0.5, 0.5, false, true, 10, 10, 10, 10)
	f(0.5, 1.5, false, true, 0, 10, 10, 10)
	f(0.99, 3.96, false, true, 0, 50, 100, 100)
	f(0.99, 4, true, true, 10, 10, 10, 1000)
	f(1, 1, false, true, 10, 10, 10, 10)
}

// A collector that fails must blind neither the page nor the scrape to the others.
func TestBrokenCollector(t *testing.T) {
	t.Parallel()
	m := newTestMetrics()
	m.posted.Add(7)
	m.registry.MustRegister(brokenCollector{})
	s := New(Config{Gatherer: m.registry})
	if err := s.samples.take(time.Now(), m.registry); err == nil || !strings.Contains(err.Error(), "gather the metrics") {
		t.Errorf("the error is %v", err)
	}
	if total := document(t, s).Rates[2].Total; total == nil || *total != 7 {
		t.Errorf("posted %v, want 7", total)
	}
	if code, _, body := get(t, s, "/metrics"); code != http.StatusOK || !strings.Contains(body, posted+" 7") {
		t.Errorf("/metrics: %d", code)
	}
}

type brokenCollector struct{}

var brokenDesc = prometheus.NewDesc("broken", "Never works.", nil, nil)

func (brokenCollector) Describe(ch chan<- *prometheus.Desc) { ch <- brokenDesc }
func (brokenCollector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(brokenDesc, errors.New("broken"))
}

func TestLinks(t *testing.T) {
	t.Parallel()
	f := func(in string, wantURL string, wantOpen bool, wantTry string) {
		t.Helper()
		a := addresses([]Link{{Name: "x", URL: in}})[0]
		try := ""
		if len(a.Try) > 0 {
			try = a.Try[0].Text
		}
		if a.URL != wantURL || a.Open != wantOpen || try != wantTry {
			t.Errorf("%s: %q, %v, %q; want %q, %v, %q", in, a.URL, a.Open, try, wantURL, wantOpen, wantTry)
		}
	}
	f("http://localhost:8123/play", "http://localhost:8123/play", true, "")
	f("/metrics", "/metrics", true, "")
	f("//elsewhere/x", "//elsewhere/x", false, "")
	f("javascript:alert(1)", "javascript:alert(1)", false, "")
	f("postgres://u:secret@db:5432/x", "postgres://u:xxxxx@db:5432/x", false, `psql "postgres://u:xxxxx@db:5432/x"`)
	f("postgres://u:se%cret@db/x", "(not an address)", false, "")
	f("clickhouse://u:secret@ch:9000/x", "clickhouse://u:xxxxx@ch:9000/x", false, "clickhouse client --host ch --port 9000")
	f("kafka://a:9092,b:9092", "kafka://a:9092,b:9092", false, "kcat -b a:9092,b:9092 -L")
}

// Serve samples, answers while it runs, answers what is under way when it is told to stop, and then returns nil.
func TestServe(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inReady, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s := New(Config{Gatherer: prometheus.NewRegistry(), Ready: func() map[string]string {
		once.Do(func() { close(inReady) })
		<-release
		return nil
	}})
	served := make(chan error, 1)
	go func() { served <- s.ServeOn(ctx, listener) }()

	answered := make(chan error, 1)
	go func() {
		response, err := http.Get("http://" + listener.Addr().String() + "/readyz")
		if err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
		answered <- err
	}()
	<-inReady
	cancel()
	close(release)
	if err := <-answered; err != nil {
		t.Errorf("an answer under way was cut off: %v", err)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if _, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		t.Error("it still listens")
	}
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	listener, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	addr := listener.Addr().String()
	err = Serve(t.Context(), Config{Addr: addr, Gatherer: prometheus.NewRegistry()})
	if err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "--http") {
		t.Errorf("the answer is %v", err)
	}
	if err := Serve(t.Context(), Config{Addr: "nonsense", Gatherer: prometheus.NewRegistry()}); err == nil || !strings.Contains(err.Error(), "127.0.0.1:8080") {
		t.Errorf("the answer is %v", err)
	}
}

func decision(offset int64, hits ...events.Hit) *events.Decision {
	return &events.Decision{Topic: "payments", Offset: offset, Verdict: events.Approve, Hits: hits,
		Event: events.Event{Kind: events.PaymentInitiated, CustomerID: "C1", Amount: 12345, Currency: events.MustCurrency("KWD")}}
}

func BenchmarkObserve(b *testing.B) {
	s := New(Config{Gatherer: prometheus.NewRegistry()})
	plain, hit := decision(1), decision(2, events.Hit{Rule: "r", Score: 1, Reason: "R1"})
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Observe(plain)
		}
	})
	b.Run("hit", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Observe(hit)
		}
	})
}
