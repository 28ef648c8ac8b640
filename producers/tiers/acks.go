package tiers

import "sync"

// acknowledgements keeps the first failure among records under way.
type acknowledgements struct {
	mu    sync.Mutex
	first error
}

func (a *acknowledgements) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.first == nil {
		a.first = err
	}
}

func (a *acknowledgements) err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.first
}
