package house

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/deploy/config"
	"sluice/producers/replay"
)

// ReplayOptions says what is replayed and how.
type ReplayOptions struct {
	Path   string    // file, folder or "-"
	Format string    // "events" or "amlsim"
	Rate   int       // events a second at most; 0: no limit
	Out    io.Writer // the summary
	Err    io.Writer // progress
	Log    *slog.Logger
}

// Replay publishes recorded events and waits until each has been decided, posted and counted. It uses the house that
// runs on the data folder; if none does, it runs one for as long as it takes.
func Replay(ctx context.Context, c config.Config, o ReplayOptions) error {
	if c.Rules == "" && o.Format == "amlsim" {
		c.Rules = "empty"
	}
	h, err := Open(ctx, c, Options{Attach: true, Embed: true, Progress: Progress(o.Err), Log: o.Log})
	if err != nil {
		return err
	}
	defer h.CloseQuietly()
	stop, err := h.runIfAlone(ctx)
	if err != nil {
		return err
	}
	defer stop()
	return h.replay(ctx, o)
}

// runIfAlone runs every part if no other process does, and returns once they are ready. stop ends them.
func (h *House) runIfAlone(ctx context.Context) (stop func(), err error) {
	if h.Engines == nil {
		return func() {}, nil
	}
	names := PartNames()
	readiness := NewReadiness(names)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx, names, Hooks{Ready: readiness.Set}) }()
	stop = func() {
		cancel()
		<-ended
	}
	select {
	case <-readiness.All():
		return stop, nil
	case err := <-ended:
		cancel()
		return nil, err
	case <-ctx.Done():
		stop()
		return nil, ctx.Err()
	}
}

func (h *House) replay(ctx context.Context, o ReplayOptions) error {
	before, err := h.resultCounts(ctx)
	if err != nil {
		return err
	}
	progress := newTicker(o.Err)
	started := time.Now()
	published, err := replay.Run(ctx, replay.Config{
		Config: h.Stream("replay"), Path: o.Path, Format: replay.Format(o.Format), Rate: float64(o.Rate),
		ResumeFile: filepath.Join(h.Config.Data, "replay.json"),
		Progress:   func(done, total int64) { progress.line(bar("publish "+o.Path, done, total), done >= total) },
	})
	progress.end()
	if err != nil {
		return err
	}
	publishing := time.Since(started)
	if err := h.Drain(ctx, func(behind int64) {
		progress.line(fmt.Sprintf("decide, post and count: %s to go", thousands(behind)), behind == 0)
	}); err != nil {
		return err
	}
	whole := time.Since(started)
	after, err := h.resultCounts(ctx)
	if err != nil {
		return err
	}
	if published.Skipped > 0 {
		fmt.Fprintf(o.Out, "%s had been published before it was interrupted\n", thousands(published.Skipped))
	}
	fmt.Fprintf(o.Out, "\n%s events published in %s; decided, posted and counted after %s: %s events/s\n",
		thousands(published.Published), publishing.Round(time.Millisecond), whole.Round(time.Millisecond),
		thousands(int64(float64(published.Published)/whole.Seconds())))
	table := tabwriter.NewWriter(o.Out, 0, 4, 2, ' ', tabwriter.AlignRight)
	for _, r := range after {
		if n := r.count - countOf(before, r.code); n > 0 {
			fmt.Fprintf(table, "%s\t%s\t\n", thousands(n), r.code)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if published.Invalid > 0 {
		return fmt.Errorf("%s of the events were not published, since they are not valid; the first: line %d: %v", thousands(published.Invalid), published.Problems[0].Line, published.Problems[0].Err)
	}
	return nil
}

type resultCount struct {
	code  string
	count int64
}

// resultCounts returns how many decisions the book has answered with each code, the most frequent first.
func (h *House) resultCounts(ctx context.Context) ([]resultCount, error) {
	conn, err := pgx.Connect(ctx, h.Addresses.Postgres)
	if err != nil {
		return nil, fmt.Errorf("count the results: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, "SELECT code, count(*) FROM results GROUP BY code ORDER BY 2 DESC, 1")
	if err != nil {
		return nil, fmt.Errorf("count the results: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r resultCount, err error) {
		return r, row.Scan(&r.code, &r.count)
	})
}

func countOf(counts []resultCount, code string) int64 {
	for _, c := range counts {
		if c.code == code {
			return c.count
		}
	}
	return 0
}

// errNotDrained is what Drain returns when time is up.
var errNotDrained = errors.New("not everything published has been decided, posted and counted yet; nothing is lost: the next start goes on")
