package backtest_test

import (
	"encoding/xml"
	"io"
	"regexp"
	"strings"
	"testing"

	"sluice/pipelines/backtest"
	"sluice/rules"
)

// The page needs nothing else, its plots are well-formed, and what a ruleset is called cannot break out of it.
func TestPage(t *testing.T) {
	t.Parallel()
	empty := backtest.NewRun(backtest.Options{Rules: ruleset(t, liveRules)}).Report()
	named := measured(t)
	named.Rules.Ruleset = `<script>alert(1)</script>`
	for name, r := range map[string]*backtest.Report{"empty": empty, "measured": measured(t), "named": named} {
		html := string(r.HTML())
		if strings.Contains(html, "<script") || regexp.MustCompile(`(src|href)=|url\(|@import`).MatchString(html) {
			t.Errorf("%s: the page has a script or asks for something else", name)
		}
		plots := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(html, -1)
		if len(plots) < 4 {
			t.Errorf("%s: %d plots", name, len(plots))
		}
		for _, plot := range plots {
			d := xml.NewDecoder(strings.NewReader(plot))
			for {
				if _, err := d.Token(); err == io.EOF {
					break
				} else if err != nil {
					t.Fatalf("%s: %v in %s", name, err, plot)
				}
			}
			if strings.Contains(plot, "NaN") || strings.Contains(plot, "Inf") {
				t.Errorf("%s: a place is no number: %s", name, plot)
			}
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	r := measured(t)
	table := r.Table()
	for _, want := range []string{"live@2", "live@1", "device", "→", "CNY"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
	for _, rs := range []*rules.Ruleset{ruleset(t, liveRules)} {
		if empty := backtest.NewRun(backtest.Options{Rules: rs}).Report().Table(); !strings.Contains(empty, "–") {
			t.Errorf("\n%s", empty)
		}
	}
}
