package house

import (
	"encoding/json"
	"strings"
	"testing"
)

func quiet(string, int64, int64) {}

func TestSimulateLedger(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := SimulateLedger(t.Context(), 2001, 4, 1, &out, quiet); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, "2001 operations over 4 seeds") {
		t.Errorf("it says %q", got)
	}
	if err := SimulateLedger(t.Context(), 0, 1, 1, &out, quiet); err == nil {
		t.Error("no operations are no mistake")
	}
}

// Every workload runs, in small, and gives figures of all three ways.
func TestBenchLedger(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a Postgres of its own")
	}
	var out strings.Builder
	err := BenchLedger(t.Context(), LedgerBench{Batches: 3, Batch: 50, Accounts: 200, Only: []string{"uniform", "hot merchant, 2 writers"}, JSON: true, Out: &out, Draw: quiet})
	if err != nil {
		t.Fatal(err)
	}
	var all []LedgerFigures
	if err := json.Unmarshal([]byte(out.String()), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Transfers != 150 || all[1].Transfers < 300 {
		t.Errorf("figures %+v", all)
	}
	for _, f := range all {
		if f.Rate <= 0 || f.Copy <= 0 || f.OneByOne <= 0 {
			t.Errorf("%s has no rate: %+v", f.Workload, f)
		}
	}
}
