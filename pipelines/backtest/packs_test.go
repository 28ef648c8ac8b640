package backtest_test

import (
	"testing"

	"sluice/pipelines/backtest"
	"sluice/rules"
	"sluice/rules/packs"
)

// TestEachRuleOfThePacks runs the cases that are shipped beside the packs: each rule fires in one, and is quiet in one that
// looks alike.
func TestEachRuleOfThePacks(t *testing.T) {
	t.Parallel()
	for name, source := range map[string][]byte{"fraud": packs.Fraud, "credit": packs.Credit, "aml": packs.AML, "sanctions": packs.Sanctions,
		"compliance": packs.Compliance} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rs, err := rules.Check(name+".yaml", source)
			if err != nil {
				t.Fatal(err)
			}
			cases, err := backtest.LoadCases(name+"_test.yaml", packs.Cases(name), rs)
			if err != nil {
				t.Fatal(err)
			}
			report, err := backtest.RunCases(rs, cases)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range report.Cases {
				for _, f := range c.Failures {
					t.Errorf("%s_test.yaml:%d: %s: %+v", name, f.Line, c.Name, f)
				}
			}
			if len(report.Uncovered) > 0 {
				t.Errorf("no case fires %v", report.Uncovered)
			}
			quiet := map[string]bool{}
			for i := range cases {
				for _, e := range cases[i].Events {
					if e.Expect != nil {
						for _, rule := range e.Expect.Quiet {
							quiet[rule] = true
						}
					}
				}
			}
			for i := range rs.Rules {
				if id := rs.Rules[i].ID; !quiet[id] {
					t.Errorf("no case looks like %s and is not", id)
				}
			}
		})
	}
}
