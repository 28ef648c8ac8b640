// Package replay publishes what lies in files: recorded events, and the AMLSim data set. It keeps the order of the file,
// says which lines are no events, and goes on where it was stopped. It waits for acknowledgement, not for what the house
// makes of an event.
package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"sluice/consumers/stream"
	"sluice/producers/channel"
	"sluice/schemas/events"
)

// Format is what the files hold.
type Format string

// The formats.
const (
	// Events: one structured CloudEvent, as JSON, a line.
	Events Format = "events"
	// AMLSim: a folder with nodes.csv and transactions.csv.
	AMLSim Format = "amlsim"
)

// Limits of a replay.
const (
	// MaxProblems bounds the problems a Summary lists; all are counted.
	MaxProblems = 100
	// noteEvery is how often the place is kept and progress told.
	noteEvery = 500 * time.Millisecond
	// finishTimeout bounds how long a replay that is stopped waits for acknowledgements.
	finishTimeout = 5 * time.Second
)

// Config is what a replay needs to know.
type Config struct {
	stream.Config

	Path        string                  // a file, or "-" for Input (Events); a folder (AMLSim)
	Format      Format                  // required
	Input       io.Reader               // what "-" stands for; nil: the standard input
	Source      string                  // CloudEvents source of AMLSim's events; "": "amlsim". Recorded events have their own
	Start       time.Time               // day 0 of AMLSim's steps; zero: 2026-01-01
	Rate        float64                 // events a second; 0: as fast as they are taken
	SendInvalid bool                    // Events: publish lines that are no events as they are, for the gate to refuse
	ResumeFile  string                  // remembers the place until the replay is complete; "": nothing is remembered
	Progress    func(done, total int64) // called about twice a second and at the end; total is 0 where unknown; may be nil
}

// Summary is what a replay did.
type Summary struct {
	Skipped   int64     // items that an earlier run had published, by ResumeFile
	Published int64     // events sent, invalid ones that were sent included; all acknowledged unless Run failed
	Invalid   int64     // lines that are no events; not sent unless SendInvalid
	Problems  []Problem // the first MaxProblems of them
	Took      time.Duration
}

// Problem is a line that is no event.
type Problem struct {
	File string
	Line int64 // from 1
	Err  error // says what to do instead
}

// Error returns "file:line: what is wrong".
func (p Problem) Error() string { return fmt.Sprintf("%s:%d: %v", p.File, p.Line, p.Err) }

// item is a line: an event to publish, or what is wrong with it.
type item struct {
	file   string
	line   int64
	event  *events.Event
	wrong  error
	raw    []byte // of a wrong line, for SendInvalid; nil: there is nothing to send
	settle bool   // all before it must be acknowledged before it is sent
}

// source is a file being read: its items, always the same in the same order.
type source interface {
	items() iter.Seq2[item, error]
	total() int64    // 0: unknown
	identity() place // tells this source from others, without Done
	Close() error
}

// place is what ResumeFile holds: of which source, and how many of its items are done.
type place struct {
	Format Format `json:"format"`
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	Done   int64  `json:"done"`
}

// run is one call of Run.
type run struct {
	config    Config
	source    source
	publisher *channel.Publisher
	sending   context.Context // of the events under way; outlives ctx by finishTimeout
	pacer     *channel.Pacer
	tracker   channel.Tracker[int64]
	noted     time.Time
	done      int64 // items dealt with, those of earlier runs included
	summary   Summary
}

// Run publishes a file's events in its order and waits until all are acknowledged. Lines that are no events are in the
// summary, not in the error. If it is stopped, by ctx or by a failure, a run with the same ResumeFile goes on after what
// was acknowledged; what is sent twice has the same identity and so one effect.
func Run(ctx context.Context, c Config) (Summary, error) {
	started := time.Now()
	c.Config = c.Fill()
	from, err := open(c)
	if err != nil {
		return Summary{}, err
	}
	defer from.Close()
	r := &run{config: c, source: from, noted: started}
	err = r.run(ctx)
	r.summary.Took = time.Since(started)
	return r.summary, err
}

func (r *run) run(ctx context.Context) error {
	err := r.resume()
	if err != nil {
		return err
	}
	r.pacer = channel.NewPacer(r.config.Rate)
	if r.publisher, err = channel.New(channel.Config{Config: r.config.Config, Source: "replay"}); err != nil {
		return err
	}
	defer r.publisher.Close()
	var stop context.CancelFunc
	r.sending, stop = context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(finishTimeout, stop) })()
	return r.finish(ctx, r.publish(ctx))
}

func open(c Config) (source, error) {
	switch c.Format {
	case Events:
		return openLines(c)
	case AMLSim:
		return openAMLSim(c)
	}
	return nil, fmt.Errorf("replay %s: unknown format %q; use %s or %s", c.Path, c.Format, Events, AMLSim)
}

// resume reads how far an earlier run came.
func (r *run) resume() error {
	if r.config.ResumeFile == "" {
		return nil
	}
	var kept place
	found, err := channel.ReadState(r.config.ResumeFile, &kept)
	if err != nil || !found {
		return err
	}
	r.done, kept.Done = kept.Done, 0
	if kept != r.source.identity() {
		return fmt.Errorf("go on with the replay of %s: %s is of %s %s with %d bytes; delete it to begin anew",
			r.config.Path, r.config.ResumeFile, kept.Format, kept.Path, kept.Bytes)
	}
	r.summary.Skipped = r.done
	return nil
}

func (r *run) publish(ctx context.Context) error {
	n := int64(0)
	for it, err := range r.source.items() {
		if err != nil {
			return err
		}
		if n++; n <= r.summary.Skipped {
			continue
		}
		if it.settle {
			if err := r.settle(ctx); err != nil {
				return err
			}
		}
		if err := r.take(ctx, &it); err != nil {
			return err
		}
		r.done++
		if err := r.note(false); err != nil {
			return err
		}
	}
	return nil
}

// take publishes an item, or reports it.
func (r *run) take(ctx context.Context, it *item) error {
	if it.wrong == nil {
		err := r.send(ctx, func(done func(error)) error { return r.publisher.PublishAsync(r.sending, it.event, done) })
		var rejection *events.Rejection
		if !errors.As(err, &rejection) {
			return err
		}
		it.wrong = rejection // what only the publisher sees, such as a time in the future
		if _, it.raw, err = events.EncodeStructured(it.event); err != nil {
			return err
		}
	}
	r.summary.Invalid++
	if len(r.summary.Problems) < MaxProblems {
		r.summary.Problems = append(r.summary.Problems, Problem{it.file, it.line, it.wrong})
	}
	if !r.config.SendInvalid || it.raw == nil {
		return nil
	}
	topic, key := address(it.raw)
	headers := []events.Header{{Key: "content-type", Value: []byte(events.ContentStructured)}}
	return r.send(ctx, func(done func(error)) error {
		return r.publisher.PublishRaw(r.sending, topic, key, headers, it.raw, done)
	})
}

func (r *run) send(ctx context.Context, publish func(func(error)) error) error {
	if err := r.pacer.Wait(ctx); err != nil {
		return err
	}
	done := r.tracker.Sent()
	if err := publish(done); err != nil {
		done(nil) // nothing is under way
		return err
	}
	r.summary.Published++
	return nil
}

// settle waits until all that was sent is acknowledged.
func (r *run) settle(ctx context.Context) error {
	if err := r.publisher.Flush(ctx); err != nil {
		return err
	}
	return r.note(true)
}

// note keeps the place and tells progress, from time to time or now.
func (r *run) note(now bool) error {
	if err := r.tracker.Err(); err != nil {
		return err
	}
	if !now && time.Since(r.noted) < noteEvery {
		return nil
	}
	r.noted = time.Now()
	r.tracker.Mark(r.done)
	done, moved := r.tracker.Settled()
	if !moved {
		return nil
	}
	if r.config.Progress != nil {
		r.config.Progress(done, r.source.total())
	}
	if r.config.ResumeFile == "" {
		return nil
	}
	kept := r.source.identity()
	kept.Done = done
	return channel.WriteState(r.config.ResumeFile, kept)
}

// finish waits for what is under way and keeps the place, or forgets it once all is published.
func (r *run) finish(ctx context.Context, failed error) error {
	waiting := ctx
	if failed != nil {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
		defer cancel()
	}
	err := errors.Join(r.publisher.Flush(waiting), r.note(true))
	switch {
	case failed != nil && ctx.Err() != nil:
		return fmt.Errorf("the replay of %s stopped after %d items: %w", r.config.Path, r.done, errors.Join(ctx.Err(), err))
	case failed != nil || err != nil:
		return errors.Join(failed, err)
	case r.config.ResumeFile != "":
		if err := os.Remove(r.config.ResumeFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("forget the place of a complete replay: %w", err)
		}
	}
	return nil
}
