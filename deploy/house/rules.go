package house

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pipelines/routing"
	"sluice/rules"
	"sluice/rules/packs"
	"sluice/schemas"
)

// liveRuleset is the key of the ruleset that gates decide by.
const liveRuleset = "default"

// rulesWait bounds the reading of the control topic.
const rulesWait = 15 * time.Second

// LoadRuleset returns the text of a shipped pack or of a file, once it has been checked without a mistake.
func LoadRuleset(name string) ([]byte, error) {
	source, err := rulesetSource(name)
	if err != nil {
		return nil, err
	}
	if _, err := rules.Check(name, source); err != nil {
		return nil, err
	}
	return source, nil
}

func rulesetSource(name string) ([]byte, error) {
	switch name {
	case "", "default":
		return packs.Default(), nil
	case "fraud":
		return packs.Fraud, nil
	case "credit":
		return packs.Credit, nil
	case "aml":
		return packs.AML, nil
	case "sanctions":
		return packs.Sanctions, nil
	case "compliance":
		return packs.Compliance, nil
	case "empty":
		return packs.Empty, nil
	}
	source, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("--rules %s: there is no such file; give one, or a shipped pack: default, fraud, credit, aml, sanctions, compliance, empty", name)
	}
	return source, err
}

// publishFirstRuleset puts the configured ruleset on the control topic if none is live.
func (h *House) publishFirstRuleset(ctx context.Context) error {
	live, err := h.LiveRuleset(ctx)
	if err != nil || live != nil {
		return err
	}
	source, err := LoadRuleset(h.Config.Rules)
	if err != nil {
		return err
	}
	return h.PublishRuleset(ctx, source)
}

// PublishRuleset makes a ruleset live on every gate: it goes to the control topic, which they follow.
func (h *House) PublishRuleset(ctx context.Context, source []byte) error {
	client, err := h.Stream("rules").Client()
	if err != nil {
		return err
	}
	defer client.Close()
	record := &kgo.Record{Topic: h.Stream("rules").Topic(schemas.Rules), Key: []byte(liveRuleset), Value: source}
	if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
		return fmt.Errorf("publish the ruleset: %w", err)
	}
	return nil
}

// LiveRuleset returns the text of the live ruleset, nil if there is none.
func (h *House) LiveRuleset(ctx context.Context) ([]byte, error) {
	s := h.Stream("rules")
	ctx, cancel := context.WithTimeout(ctx, rulesWait)
	defer cancel()
	client, err := s.Client(kgo.ConsumeTopics(s.Topic(schemas.Rules)), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, s.Topic(schemas.Rules))
	if err != nil {
		return nil, fmt.Errorf("read the control topic %s: %w", s.Topic(schemas.Rules), err)
	}
	end, _ := ends.Lookup(s.Topic(schemas.Rules), 0)
	var live []byte
	for next := int64(0); next < end.Offset; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("read the control topic %s: %w", s.Topic(schemas.Rules), err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if string(r.Key) == liveRuleset {
				live = r.Value
			}
		})
	}
	return live, nil
}

// reasons returns the words of a reason code, as the ruleset says them that was live when the process started.
func (h *House) reasons() func(code string) string {
	words := map[string]string{routing.NoRoute: routing.NoRouteSays().Analyst["en"]}
	ctx, cancel := context.WithTimeout(context.Background(), rulesWait)
	defer cancel()
	if source, err := h.LiveRuleset(ctx); err == nil {
		if rs, err := rules.Load(liveRuleset, source); err == nil {
			for i := range rs.Rules {
				words[rs.Rules[i].Reason] = rs.Rules[i].Say
			}
		}
	}
	return func(code string) string { return words[code] }
}
