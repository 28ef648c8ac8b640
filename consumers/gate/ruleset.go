package gate

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/stream"
	"sluice/pipelines/risk"
	"sluice/rules"
	"sluice/schemas"
)

// readControl reads the control topic and the tiers to their ends. There is a ruleset afterwards: the newest on the topic
// that loads, or else the configured one.
func (g *gate) readControl(ctx context.Context) error {
	err := g.replay(ctx, schemas.Rules, []int32{0}, committed, func(r *kgo.Record) error {
		g.applyRuleset(r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the live ruleset: %w", err)
	}
	if g.state == nil {
		if err := g.useConfigured(); err != nil {
			return stream.Fatal(err)
		}
	}
	all := make([]int32, g.partitions)
	for i := range all {
		all[i] = int32(i)
	}
	err = g.replay(ctx, schemas.CustomerTiers, all, committed, func(r *kgo.Record) error {
		g.applyTier(r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the value tiers: %w", err)
	}
	return nil
}

func (g *gate) useConfigured() error {
	if len(g.Ruleset) == 0 {
		return errors.New("there is no ruleset: publish one on the topic " + g.Topic(schemas.Rules) + " under the key " + g.RulesetName + ", or configure one")
	}
	rs, err := rules.Load(g.RulesetName, g.Ruleset)
	if err != nil {
		return fmt.Errorf("load the configured ruleset: %w", err)
	}
	g.makeLive(rs)
	return nil
}

// applyRuleset makes a published ruleset live. It runs between two transactions: no transaction is decided by two
// versions. One that does not load, or a deletion, changes nothing.
func (g *gate) applyRuleset(r *kgo.Record) {
	if string(r.Key) != g.RulesetName {
		return
	}
	if len(r.Value) == 0 {
		g.Log.Warn("the live ruleset was deleted from the control topic; it stays in force until another is published", "ruleset", g.RulesetName)
		return
	}
	rs, err := rules.Load(g.RulesetName, r.Value)
	if err != nil {
		g.metrics.refused.Inc()
		g.Log.Error("a published ruleset was refused; the one before stays in force", "ruleset", g.RulesetName, "offset", r.Offset, "error", err)
		return
	}
	g.makeLive(rs)
}

func (g *gate) makeLive(rs *rules.Ruleset) {
	engine := risk.NewEngine(rs)
	if g.state == nil {
		g.state = risk.NewState(engine)
	} else {
		g.state.SetEngine(engine)
	}
	g.metrics.ruleset.Reset()
	g.metrics.ruleset.WithLabelValues(rs.ID()).Set(1)
	g.Log.Info("ruleset is live", "ruleset", rs.ID())
}
