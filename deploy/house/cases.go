package house

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"sluice/deploy/rulebook"
	"sluice/pipelines/backtest"
	"sluice/rules"
	"sluice/rules/life"
	"sluice/rules/packs"
)

// CasesOptions says which cases are run against which ruleset.
type CasesOptions struct {
	Rules      string // a file, or a shipped pack
	Cases      string // a file; "": beside the ruleset, my.yaml has my_test.yaml
	RequireAll bool   // a rule that no case fires is a failure
	JSON       bool   // print a backtest.CaseReport instead of a table
	Out        io.Writer
}

// TestRules runs the cases of a ruleset. ok is false if one failed.
func TestRules(o CasesOptions) (ok bool, err error) {
	source, err := LoadRuleset(o.Rules)
	if err != nil {
		return false, err
	}
	report, err := o.run(source)
	if err != nil {
		return false, err
	}
	return o.ok(report), o.print(report)
}

// TestVersion runs the cases of a version in the rulebook and writes down there how they went. They are in NAME_test.yaml
// unless o says otherwise.
func TestVersion(ctx context.Context, b *rulebook.Book, ref life.Ref, by, why string, o CasesOptions) (ok bool, err error) {
	source, err := RulesetText(ctx, b, ref.String())
	if err != nil {
		return false, err
	}
	if o.Cases == "" {
		o.Cases = ref.Name + "_test.yaml"
	}
	report, err := o.run(source)
	if err != nil {
		return false, err
	}
	ok = o.ok(report)
	detail := map[string]string{"cases": strconv.Itoa(len(report.Cases)), "failed": strconv.Itoa(report.Failed), "uncovered": strconv.Itoa(len(report.Uncovered))}
	v, err := b.Test(ctx, ref, by, rulebook.Result{Source: source, Passed: ok, Why: why, Detail: detail})
	if err != nil {
		return false, err
	}
	if err := o.print(report); err != nil || o.JSON {
		return ok, err
	}
	fmt.Fprintf(o.Out, "%s is %s\n", v.Ref, v.Status.Words())
	return ok, nil
}

func (o *CasesOptions) run(source []byte) (*backtest.CaseReport, error) {
	rs, err := rules.Load(o.Rules, source)
	if err != nil {
		return nil, err
	}
	cases, err := readCases(*o, rs)
	if err != nil {
		return nil, err
	}
	return backtest.RunCases(rs, cases)
}

// ok says whether all that was asked for holds.
func (o *CasesOptions) ok(r *backtest.CaseReport) bool {
	return r.Failed == 0 && (!o.RequireAll || len(r.Uncovered) == 0)
}

func (o *CasesOptions) print(r *backtest.CaseReport) error {
	if !o.JSON {
		return printCases(o.Out, r, o.RequireAll)
	}
	e := json.NewEncoder(o.Out)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// packNames are the shipped packs that may have cases.
var packNames = []string{"fraud", "credit", "aml", "sanctions", "compliance", "empty"}

// readCases reads the cases from their file, or those that are shipped with a pack.
func readCases(o CasesOptions, rs *rules.Ruleset) ([]backtest.Case, error) {
	if o.Cases != "" {
		return casesOf(o.Cases, rs)
	}
	packed := []string{o.Rules}
	if o.Rules == "" || o.Rules == "default" {
		packed = []string{"fraud", "credit"}
	} else if !slices.Contains(packNames, o.Rules) {
		return casesOf(strings.TrimSuffix(strings.TrimSuffix(o.Rules, ".yaml"), ".yml")+"_test.yaml", rs)
	}
	var all []backtest.Case
	for _, pack := range packed {
		if data := packs.Cases(pack); data != nil {
			cases, err := backtest.LoadCases(pack+"_test.yaml", data, rs)
			if err != nil {
				return nil, err
			}
			all = append(all, cases...)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no cases are shipped with the pack %s; give some: --cases FILE", o.Rules)
	}
	return all, nil
}

func casesOf(file string, rs *rules.Ruleset) ([]backtest.Case, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no file %s; write the cases there, or say where they are: --cases FILE", file)
	}
	if err != nil {
		return nil, err
	}
	return backtest.LoadCases(file, data, rs)
}

// printCases prints what became of each case, then what no case covers.
func printCases(out io.Writer, r *backtest.CaseReport, requireAll bool) error {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for i := range r.Cases {
		c := &r.Cases[i]
		word := "passed"
		if !c.Passed {
			word = "FAILED"
		}
		fmt.Fprintf(t, "%s\tline %d\t%s\n", word, c.Line, c.Name)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range r.Cases {
		printFailures(out, &r.Cases[i])
	}
	fmt.Fprintf(out, "\n%s: %d passed, %d failed\n", r.Ruleset, r.Passed, r.Failed)
	if len(r.Uncovered) > 0 {
		word := "no case fires"
		if requireAll {
			word = "FAILED: no case fires"
		}
		fmt.Fprintf(out, "%s %s\n", word, strings.Join(r.Uncovered, ", "))
	}
	return nil
}

func printFailures(out io.Writer, c *backtest.CaseResult) {
	for _, f := range c.Failures {
		fmt.Fprintf(out, "\n%s (line %d, event %d)\n", c.Name, f.Line, f.Event)
		fmt.Fprintf(out, "  expected  %s\n", strings.Join(f.Expected, ", "))
		fmt.Fprintf(out, "  came      verdict %s, score %d\n", f.Verdict, f.Score)
		fired := "no condition"
		if len(f.Fired) > 0 {
			fired = strings.Join(f.Fired, ", ")
		}
		fmt.Fprintf(out, "  true      %s\n", fired)
		for _, more := range []struct {
			what  string
			words []string
		}{{"read", f.Read}, {"snoozed", f.Snoozed}, {"unknown", f.Unknown}} {
			if len(more.words) > 0 {
				fmt.Fprintf(out, "  %-9s %s\n", more.what, strings.Join(more.words, ", "))
			}
		}
	}
}
