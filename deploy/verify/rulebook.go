package verify

import (
	"context"

	"sluice/deploy/rulebook"
)

// rulebook proves that the audit of rulesets is complete and unchanged.
func (v *verifier) rulebook(ctx context.Context, _ *decided) ([]Row, error) {
	v.c.Progress("reading the rulebook")
	f := finding{promise: "the rulebook's audit is unbroken"}
	h, err := rulebook.New(rulebook.Config{Config: v.c.Config, Postgres: v.c.Postgres}).History(ctx, "")
	if err != nil {
		return nil, err
	}
	f.checked = int64(len(h.Steps))
	for _, b := range h.Breaches {
		f.breach("%s", b)
	}
	return []Row{f.row("%s steps, each by somebody and for a reason, hashed again", thousands(f.checked))}, nil
}
