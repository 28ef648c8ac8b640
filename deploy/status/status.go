// Package status is the HTTP side of a process: one page that a person understands at a glance, the same facts as JSON,
// metrics, health and readiness. It only reads: it changes nothing, stores nothing and asks no engine.
package status

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/schemas/events"
)

// Config says what a process shows of itself.
type Config struct {
	// Addr to listen on, host:port; ":0" picks a free port.
	Addr string
	// Gatherer holds the parts' metrics. Nil: prometheus.DefaultGatherer.
	Gatherer prometheus.Gatherer
	// Log gets what goes wrong. Nil: silent.
	Log *slog.Logger
	// Ready says for each part of the process "" when it is ready, else why not. Nil: always ready. Called once per
	// request, so it must be quick.
	Ready func() map[string]string
	// Failed says which parts have failed for good, and why; /healthz then answers 503. Nil: none ever. Must be quick.
	Failed func() map[string]string
	// Reason puts a reason code of a rule into words, "" if it has none. Nil: codes are shown alone.
	Reason func(code string) string
	// Links are the engines' addresses and other pages worth knowing.
	Links []Link
	// Title of the page. "": "sluice".
	Title string
}

// A Link is an address shown on the page. An http or https URL, or a path of this server, can be clicked. One of
// kafka://, postgres:// or clickhouse:// is shown with commands and queries to copy. Passwords in URLs are hidden.
type Link struct {
	Name string // "Postgres"
	URL  string
	Note string // one sentence: what is found there
}

// Limits of the server. Its answers are small and its clients few: whoever needs more time or room is stuck or hostile.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 30 * time.Second // a scrape of /metrics over a slow line
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
	// maxScrapes bounds the scrapes of /metrics at one moment; the next one is answered 503.
	maxScrapes = 4
	// stopLimit is how long answers under way may take once the server stops.
	stopLimit = 3 * time.Second
)

// Server shows one process. Its methods are safe for concurrent use.
type Server struct {
	config  Config
	started time.Time
	mux     *http.ServeMux
	samples sampler
	recent  recent
}

// New makes a server; Serve starts it. Observe and Handler work before that, but rates stand still until Serve runs.
func New(c Config) *Server {
	if c.Gatherer == nil {
		c.Gatherer = prometheus.DefaultGatherer
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Ready == nil {
		c.Ready = func() map[string]string { return nil }
	}
	if c.Failed == nil {
		c.Failed = func() map[string]string { return nil }
	}
	if c.Reason == nil {
		c.Reason = func(string) string { return "" }
	}
	if c.Title == "" {
		c.Title = "sluice"
	}
	s := &Server{config: c, started: time.Now()}
	s.mux = s.routes()
	return s
}

// Observe offers a decision to the list of last decisions. It never blocks and keeps nothing of d's slices, so that a
// gate may call it for every decision: one that hit no rule costs some tens of nanoseconds.
func (s *Server) Observe(d *events.Decision) { s.recent.observe(d, time.Now(), s.config.Reason) }

// Handler answers /, /status.json, /metrics, /healthz and /readyz.
func (s *Server) Handler() http.Handler { return s.mux }
