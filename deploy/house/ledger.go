package house

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/deploy/verify/booksim"
	"sluice/pipelines/ledger"
)

// SimulateLedger sends operations, shared out among seeds first, first+1, …, to books in memory and prints what it has
// seen. The error names the seed and the operation that broke the book.
func SimulateLedger(ctx context.Context, operations int64, seeds int, first uint64, out io.Writer, draw func(what string, done, total int64)) error {
	if operations < 1 || seeds < 1 {
		return fmt.Errorf("%d operations over %d seeds: both must be at least 1", operations, seeds)
	}
	started := time.Now()
	var done atomic.Int64
	var mu sync.Mutex
	sum := booksim.NewFigures()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range seeds {
		n := operations / int64(seeds)
		if int64(i) < operations%int64(seeds) {
			n++
		}
		group.Go(func() error {
			figures, err := booksim.Run(ctx, booksim.Open(), first+uint64(i), n, func(n int64) {
				mu.Lock()
				defer mu.Unlock()
				draw("simulating", done.Add(n), operations)
			})
			mu.Lock()
			defer mu.Unlock()
			sum.Add(figures)
			return err
		})
	}
	err := group.Wait()
	printFigures(out, sum, seeds, time.Since(started))
	return err
}

func printFigures(out io.Writer, f booksim.Figures, seeds int, took time.Duration) {
	fmt.Fprintf(out, "%d operations over %d seeds in %s, everything checked after each: %d transfers posted, %d holds opened\n",
		f.Operations, seeds, took.Round(time.Millisecond), f.Transfers, f.Holds)
	for fate := ledger.Opened; fate <= ledger.Expired; fate++ {
		fmt.Fprintf(out, "  %-22s %12d  steps of holds\n", fate, f.Fates[fate])
	}
	for _, c := range ledger.Codes() {
		if f.Codes[c] > 0 {
			fmt.Fprintf(out, "  %-22s %12d  answers\n", c, f.Codes[c])
		}
	}
}
