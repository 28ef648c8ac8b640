package replay

import (
	"context"
	"iter"

	"sluice/producers/channel"
)

// stopping is a source in whose middle the user presses Ctrl-C.
type stopping struct {
	*lines
	at     int
	cancel context.CancelFunc
}

func (s stopping) items() iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		n := 0
		for it, err := range s.lines.items() {
			if n++; n == s.at {
				s.cancel()
			}
			if !yield(it, err) {
				return
			}
		}
	}
}

func readPlace(file string, p *place) (bool, error) { return channel.ReadState(file, p) }
