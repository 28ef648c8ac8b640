package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Serve makes a server and serves until ctx ends; see Server.Serve.
func Serve(ctx context.Context, c Config) error { return New(c).Serve(ctx) }

// Serve listens on Config.Addr, samples the metrics once a second and answers until ctx ends, then returns nil. The
// error says what to do.
func (s *Server) Serve(ctx context.Context) error {
	listener, err := Listen(ctx, s.config.Addr)
	if err != nil {
		return err
	}
	return s.ServeOn(ctx, listener)
}

// Listen opens the status page's address, so that a taken port is known before anything else starts.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s, the address of the status page, is taken: stop what listens there, or give another with --http or SLUICE_HTTP", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("open %q for the status page: %w: give a host:port such as 127.0.0.1:8080 with --http or SLUICE_HTTP", addr, err)
	}
	return listener, nil
}

// ServeOn is Serve on a listener that is already open; it closes it.
func (s *Server) ServeOn(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s.mux, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug), // clients that hang up are no news
	}
	sampling, stopSampling := context.WithCancel(ctx)
	defer stopSampling()
	go s.sample(sampling)

	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the status page on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if err := server.Shutdown(limit); err != nil {
		_ = server.Close() // what did not finish in time is cut off
	}
	<-served
	return nil
}

// sample takes a sample each second until ctx ends.
func (s *Server) sample(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	said := ""
	for {
		if err := s.samples.take(time.Now(), s.config.Gatherer); err != nil && err.Error() != said {
			said = err.Error() // the same complaint once, not once a second
			s.config.Log.Warn("some metrics cannot be read", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /status.json", s.json)
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.config.Gatherer, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(s.config.Log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError, // one broken collector must not blind the operator to the others
		MaxRequestsInFlight: maxScrapes,
	}))
	return mux
}

func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	plainAnswer(h)
	_, _ = w.Write(pageHTML)
}

func (s *Server) json(w http.ResponseWriter, _ *http.Request) {
	body, err := json.Marshal(s.Status(time.Now()))
	if err != nil {
		s.config.Log.Error("the status cannot be written as JSON", "error", err)
		http.Error(w, "the status cannot be written; see the log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	plainAnswer(w.Header())
	_, _ = w.Write(body)
}

// healthz answers 200 while the process is worth keeping: a part that waits for its engine is, one that failed for good
// is not.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	answer(w, s.config.Failed())
}

// readyz answers 200 once every part is ready, else 503 and why.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	reasons := maps.Clone(s.config.Failed())
	if reasons == nil {
		reasons = map[string]string{}
	}
	for part, why := range s.config.Ready() {
		if why != "" && reasons[part] == "" {
			reasons[part] = why
		}
	}
	answer(w, reasons)
}

// answer writes "ok", or 503 and one line per reason.
func answer(w http.ResponseWriter, reasons map[string]string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	plainAnswer(w.Header())
	if len(reasons) == 0 {
		_, _ = w.Write([]byte("ok\n"))
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	for _, part := range slices.Sorted(maps.Keys(reasons)) {
		_, _ = fmt.Fprintf(w, "%s: %s\n", part, strings.Join(strings.Fields(reasons[part]), " "))
	}
}

// plainAnswer keeps browsers from guessing types and from keeping what is true for a second only.
func plainAnswer(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
}
