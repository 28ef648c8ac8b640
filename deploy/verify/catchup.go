package verify

import "context"

// CatchUp follows what had been published at its first look the whole way: decided, posted, published as results and counted. What
// is published later does not matter, so it comes to an end under load too. The zero CatchUp is ready; it is for one goroutine.
type CatchUp struct {
	stage int // of stages, the one that is waited for
	until map[string]ends
	book  numbers
}

// stages are the steps of the way. The end of each is read once the one before has been reached: what came in is then before it.
var stages = []struct {
	mark   func(*CatchUp, context.Context, *verifier) error
	behind func(*CatchUp, context.Context, *verifier) (int64, error)
}{
	{func(c *CatchUp, ctx context.Context, v *verifier) error { return c.markTopics(ctx, v, inputs) }, (*CatchUp).decided},
	{func(c *CatchUp, ctx context.Context, v *verifier) error { return c.markTopics(ctx, v, posterTopics) }, (*CatchUp).posted},
	{(*CatchUp).markBook, (*CatchUp).published},
	{func(c *CatchUp, ctx context.Context, v *verifier) error { return c.markTopics(ctx, v, warehouseTopics) }, (*CatchUp).counted},
}

// Behind returns how many records of the present step are still to go, and how many steps there are after it; both 0: all is done.
func (c *CatchUp) Behind(ctx context.Context, config Config) (records int64, steps int, err error) {
	if config.Progress == nil {
		config.Progress = func(string) {}
	}
	v, closeAll, err := open(ctx, config)
	if err != nil {
		return 0, 0, err
	}
	defer closeAll()
	for c.stage < len(stages) {
		s := &stages[c.stage]
		if c.until == nil && c.book == nil {
			if err := s.mark(c, ctx, v); err != nil {
				return 0, 0, err
			}
		}
		n, err := s.behind(c, ctx, v)
		if err != nil || n > 0 {
			return n, len(stages) - c.stage - 1, err
		}
		c.stage, c.until, c.book = c.stage+1, nil, nil
	}
	return 0, 0, nil
}

func (c *CatchUp) markTopics(ctx context.Context, v *verifier, topics []string) error {
	until := map[string]ends{}
	for _, topic := range topics {
		var err error
		if until[topic], err = v.stableEnds(ctx, topic); err != nil {
			return err
		}
	}
	c.until = until
	return nil
}

func (c *CatchUp) markBook(ctx context.Context, v *verifier) (err error) {
	c.book, err = v.answered(ctx)
	return err
}

func (c *CatchUp) decided(ctx context.Context, v *verifier) (int64, error) {
	return c.group(ctx, v, "gate")
}
func (c *CatchUp) counted(ctx context.Context, v *verifier) (int64, error) {
	return c.group(ctx, v, "warehouse")
}

// group is how far a group is from the ends.
func (c *CatchUp) group(ctx context.Context, v *verifier, group string) (sum int64, err error) {
	for topic, end := range c.until {
		at, err := v.groupPositions(ctx, group, topic)
		if err != nil {
			return 0, err
		}
		n, err := v.between(ctx, topic, at, end)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func (c *CatchUp) posted(ctx context.Context, v *verifier) (sum int64, err error) {
	seen := &decided{poster: map[string]ends{}}
	if err := v.posterPositions(ctx, seen); err != nil {
		return 0, err
	}
	for topic, end := range c.until {
		n, err := v.between(ctx, topic, seen.poster[topic], end)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func (c *CatchUp) published(ctx context.Context, v *verifier) (int64, error) {
	last, err := v.newestTold(ctx)
	if err != nil {
		return 0, err
	}
	return c.book.beyond(last), nil
}
