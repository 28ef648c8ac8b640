package gate

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pipelines/routing"
	"sluice/schemas"
)

// applyChannels takes a published table of payment channels, for the next transaction on: see enforce. One that does not
// load changes nothing.
func (g *gate) applyChannels(r *kgo.Record) {
	switch {
	case string(r.Key) != schemas.ChannelsKey:
	case len(r.Value) == 0, string(r.Value) == schemas.ChannelsOff:
		g.ruling.changed = g.ruling.changed || g.ruling.table != nil
		g.ruling.table, g.ruling.refused = nil, nil
	default:
		table, err := routing.Load("channels", r.Value)
		if err != nil {
			g.metrics.channelsRefused.Inc()
			g.ruling.refused = err
			g.Log.Error("a published table of payment channels was refused; the one before stays in force", "offset", r.Offset, "error", err)
			return
		}
		g.ruling.table, g.ruling.refused, g.ruling.changed = table, nil, true
	}
}

// channelsID names a table, "none" without one.
func channelsID(t *routing.Table) string {
	if t == nil {
		return "none"
	}
	return t.ID()
}

// channelsEvery is how often the health of channels is shown.
const channelsEvery = time.Second

// A channelMeter shows how payment channels fare.
type channelMeter struct {
	table *routing.Table // whose channels have metrics
	set   time.Time
}

// tellChannels shows the health of the table's channels, all partitions together, as this gate knows it.
func (g *gate) tellChannels() {
	c := &g.channels
	table := g.ruling.table
	if c.table == table && (table == nil || time.Since(c.set) < channelsEvery) {
		return
	}
	m := g.metrics
	if c.table != table {
		m.channelSuccess.Reset()
		m.channelAnswers.Reset()
		m.channelDown.Reset()
	}
	c.table, c.set = table, time.Now()
	if table == nil {
		return
	}
	for i := range table.Channels {
		name := table.Channels[i].Name
		good, all, _ := g.state.Answered(name)
		m.channelAnswers.WithLabelValues(name).Set(float64(all))
		down := 0.0
		if table.Down(good, all) {
			down = 1
		}
		m.channelDown.WithLabelValues(name).Set(down)
		if all == 0 {
			m.channelSuccess.DeleteLabelValues(name)
			continue
		}
		m.channelSuccess.WithLabelValues(name).Set(float64(good) / float64(all))
	}
}
