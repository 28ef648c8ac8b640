package settlement

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"sluice/pipelines/routing"
	"sluice/pipelines/settlement"
)

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// example is the YAML of a page of the documentation.
func example(t *testing.T, page string) []byte {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	block := yamlBlock.FindSubmatch(text)
	if block == nil {
		t.Fatalf("%s has no example", page)
	}
	return block[1]
}

// The shipped terms pay out over a channel that the shipped table has, and so do the examples of the documentation. Others are refused,
// each with whose terms they are and what to write.
func TestTermsFitTheChannels(t *testing.T) {
	t.Parallel()
	load := func(text []byte) *routing.Table {
		t.Helper()
		table, err := routing.Load("channels.yaml", text)
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	shipped := string(routing.Standard)
	parsed, err := settlement.Parse("docs/settlement.md", example(t, "../../docs/settlement.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, terms := range []*settlement.Terms{settlement.Standard(), parsed} {
		for _, table := range []*routing.Table{nil, load(routing.Standard), load(example(t, "../../docs/channels.md"))} {
			if err := (&Store{Terms: terms}).routable(table); err != nil {
				t.Error(err)
			}
		}
	}
	for _, c := range []struct{ old, new, want string }{
		{"name: bank-a ", "name: bank-b ", "the channel bank-a, which is no channel of the live table standard@2"},
		{"name: bank-a ", "enabled: false\n    name: bank-a ", "is a disabled channel"},
		{"can: [sale, refund]", "can: [refund]", "is a channel that cannot do a sale"},
		{"withdrawal, payout, purchase", "withdrawal, purchase", "is a channel not for that purpose"},
		{"methods: [bank_transfer]", "methods: [card]", "is a channel not for that method"},
	} {
		err := (&Store{Terms: settlement.Standard()}).routable(load([]byte(strings.Replace(shipped, c.old, c.new, 1))))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "backup") {
			t.Errorf("%s: %v", c.new, err)
		}
	}
	parsed.Merchants["m0"].PaidBy = "elsewhere"
	if err := (&Store{Terms: parsed}).routable(load(routing.Standard)); err == nil || !strings.Contains(err.Error(), "elsewhere") || !strings.Contains(err.Error(), "merchants: {m0: {payout: {channel: NAME}}}") {
		t.Error(err)
	}
}

// A list names five and counts the others.
func TestList(t *testing.T) {
	t.Parallel()
	for all, want := range map[string]string{"a": "a", "a b c d e": "a, b, c, d, e", "a b c d e f g": "a, b, c, d, e and 2 more"} {
		if got := List(strings.Fields(all)); got != want {
			t.Errorf("%s: %s", all, got)
		}
	}
}
