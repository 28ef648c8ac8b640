package gate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/stream"
	"sluice/pipelines/risk"
	"sluice/pipelines/routing"
	"sluice/rules"
	"sluice/schemas"
)

const (
	// MaxShadows bounds the shadow rulesets asked beside the live one: each costs about as much time as the live one. Of
	// more, those published first are asked.
	MaxShadows = 4
	// maxShadowName bounds a shadow's name, in bytes.
	maxShadowName = 64
)

// A ruling is what the topics "rules" and "channels" say: the live ruleset and its shadows, and the payment channels.
type ruling struct {
	live    *rules.Ruleset
	shadows map[string]shadow // by name; more than MaxShadows may be published
	asked   []shadow          // those that are asked, in the order of State.Shadows
	table   *routing.Table    // payment channels, nil: the house chooses none
	refused error             // why the newest table on the topic is not in force, nil if it is
	changed bool              // since the state has heard of it
}

// A shadow is a ruleset that is asked beside the live one, without effect.
type shadow struct {
	name   string
	offset int64 // of its record
	rules  *rules.Ruleset
}

// readControl reads the control topics and the tiers to their ends. There is a ruleset afterwards: the newest on the topic
// that loads, or else the configured one.
func (g *gate) readControl(ctx context.Context) error {
	err := g.replay(ctx, schemas.Rules, []int32{0}, committed, func(r *kgo.Record) error {
		g.applyRuleset(r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the live ruleset: %w", err)
	}
	if g.ruling.live == nil {
		if err := g.useConfigured(); err != nil {
			return stream.Fatal(err)
		}
	}
	err = g.replay(ctx, schemas.Channels, []int32{0}, committed, func(r *kgo.Record) error {
		g.applyChannels(r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the payment channels: %w", err)
	}
	if g.ruling.refused != nil && g.ruling.table == nil { // compacted: the one before is gone, and other gates may go on by it
		return stream.Fatal(fmt.Errorf("the payment channels that were published cannot be used, and none from before are left: %w; `sluice channels publish` others, or `sluice channels off`", g.ruling.refused))
	}
	g.enforce()
	err = g.replay(ctx, schemas.Lists, []int32{0}, committed, func(r *kgo.Record) error {
		g.applyListEntry(r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the lists: %w", err)
	}
	g.tellLists()
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
	g.ruling.live, g.ruling.changed = rs, true
	return nil
}

// applyRuleset takes a published ruleset, for the next transaction on: see enforce. One that does not load changes
// nothing, and so does the deletion of the live one; the deletion of a shadow ends it.
func (g *gate) applyRuleset(r *kgo.Record) {
	key := string(r.Key)
	name, isShadow := schemas.ShadowName(key)
	switch {
	case key != g.RulesetName && !isShadow:
	case len(r.Value) == 0 && isShadow:
		delete(g.ruling.shadows, name)
		g.ruling.changed = true
	case len(r.Value) == 0:
		g.Log.Warn("the live ruleset was deleted from the control topic; it stays in force until another is published", "ruleset", g.RulesetName)
	case len(name) > maxShadowName:
		g.refuseRuleset(r, fmt.Errorf("the name of the shadow is longer than %d bytes", maxShadowName))
	default:
		rs, err := rules.Load(key, r.Value)
		if err != nil {
			g.refuseRuleset(r, err)
			return
		}
		if isShadow {
			g.ruling.shadows[name] = shadow{name, r.Offset, rs}
		} else {
			g.ruling.live = rs
		}
		g.ruling.changed = true
	}
}

func (g *gate) refuseRuleset(r *kgo.Record, err error) {
	g.metrics.refused.Inc()
	g.Log.Error("a published ruleset was refused; the one before stays in force", "ruleset", string(r.Key), "offset", r.Offset, "error", err)
}

// enforce makes what was published the law. It runs between two transactions: no transaction is decided by two versions.
func (g *gate) enforce() {
	if !g.ruling.changed {
		return
	}
	g.ruling.changed = false
	g.ruling.choose()
	if waiting := len(g.ruling.shadows) - len(g.ruling.asked); waiting > 0 {
		g.Log.Warn("more shadow rulesets are published than are asked; end one to make room", "asked", MaxShadows, "waiting", waiting)
	}
	shadows := make([]*rules.Ruleset, len(g.ruling.asked))
	for i := range shadows {
		shadows[i] = g.ruling.asked[i].rules
	}
	engine := risk.NewEngine(g.ruling.live, shadows...).Route(g.ruling.table)
	if g.state == nil {
		g.state = risk.NewState(engine)
		g.state.SetLists(g.lists.set)
	} else {
		g.state.SetEngine(engine)
	}
	g.metrics.inForce(&g.ruling)
	g.Log.Info("ruleset is live", "ruleset", g.ruling.live.ID(), "shadows", len(shadows), "channels", channelsID(g.ruling.table))
}

// choose picks the shadows that are asked. Every gate that has read the same topic picks the same.
func (r *ruling) choose() {
	r.asked = r.asked[:0]
	for _, s := range r.shadows {
		r.asked = append(r.asked, s)
	}
	slices.SortFunc(r.asked, func(a, b shadow) int { return cmp.Compare(a.offset, b.offset) })
	r.asked = slices.Clip(r.asked[:min(len(r.asked), MaxShadows)])
}
