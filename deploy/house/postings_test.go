package house

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPostingsAreShownAndTried: what an analyst sees of posting rules.
func TestPostingsAreShownAndTried(t *testing.T) {
	t.Parallel()
	lines := func(text string) (all []string) {
		for line := range strings.Lines(text) {
			all = append(all, strings.Join(strings.Fields(line), " "))
		}
		return all
	}
	has := func(t *testing.T, text string, want ...string) {
		t.Helper()
		all := "\n" + strings.Join(lines(text), "\n") + "\n"
		for _, w := range want {
			if !strings.Contains(all, "\n"+w+"\n") {
				t.Errorf("no line %q in\n%s", w, text)
			}
		}
	}
	var out strings.Builder
	if err := ShowPostings("rewards", &out); err != nil {
		t.Fatal(err)
	}
	has(t, out.String(), `withdrawal account(customer) clearing - payment.purpose == "withdrawal"`, "refunded payee payer all of it",
		`+ fees tax fee * 0.06 / 1.06 tax voided all, failed all tax-on-fee: payment.purpose == "purchase"`)
	out.Reset()
	if err := TryPostings(PostingTrial{Rules: "rewards", Purpose: "purchase", Method: "wallet", Amount: "100", Currency: "CNY", Tier: "gold"}, &out); err != nil {
		t.Fatal(err)
	}
	has(t, out.String(), "wallet:customer:CNY merchant:merchant:CNY 100.00 CNY purchase", "merchant:merchant:CNY fees/0:CNY 0.40 CNY fee",
		"points_issued/0:CNY points:customer:CNY 100 points points", "refunded, 50.00 of it",
		"points:customer:CNY points_issued/0:CNY 50 points points_return, at most what is there", "or voided")
	file := filepath.Join(t.TempDir(), "large.yaml")
	if err := os.WriteFile(file, []byte("postings: x\n#"+strings.Repeat("x", 2<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPostings(file); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a file without end: %v", err)
	}
}

// A tier that there is not is no tier.
func TestTryPostingsKnowsTheTiers(t *testing.T) {
	t.Parallel()
	for tier, good := range map[string]bool{"": true, "gold": true, "dormant": true, "golden": false} {
		var out strings.Builder
		err := TryPostings(PostingTrial{Rules: "rewards", Purpose: "purchase", Method: "wallet", Amount: "100", Currency: "CNY", Tier: tier}, &out)
		if good != (err == nil) || !good && !strings.Contains(err.Error(), "platinum, gold, silver, bronze or dormant") {
			t.Errorf("--tier %s: %v", tier, err)
		}
	}
}
