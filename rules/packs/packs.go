// Package packs holds the rulesets that are shipped, as YAML. It loads none of them: rules.Load does.
package packs

import (
	_ "embed"
	"strings"
)

var (
	// Fraud is the pack of rules for payments.
	//
	//go:embed fraud.yaml
	Fraud []byte

	// Credit is the pack of rules for loan applications.
	//
	//go:embed credit.yaml
	Credit []byte

	// AML is the pack that finds what money laundering looks like. It reviews and never declines.
	//
	//go:embed aml.yaml
	AML []byte

	// Sanctions is the pack that screens names and countries. Its lists are the house's to fill.
	//
	//go:embed sanctions.yaml
	Sanctions []byte

	// Compliance is the pack of limits by law, for houses under the rules of the People's Bank of China whose channels say
	// the customer's KYC level: without one every customer has the limits of account class I.
	//
	//go:embed compliance.yaml
	Compliance []byte

	// Empty has no rules: everything is approved.
	//
	//go:embed empty.yaml
	Empty []byte
)

// Default returns the fraud and credit packs as one ruleset, "default". Its text is made of theirs, section by section, so
// that there is one place for each rule.
func Default() []byte {
	var out strings.Builder
	out.WriteString("# The packs fraud and credit in one ruleset.\nruleset: default\nversion: 1\n")
	for _, name := range []string{"aggregates", "rules", "reasons", "outcomes"} {
		out.WriteString("\n" + name + ":\n")
		for _, pack := range [][]byte{Fraud, Credit} {
			out.WriteString(section(string(pack), name))
		}
	}
	return []byte(out.String())
}

// section returns the lines under a top-level key of a pack.
func section(pack, name string) string {
	_, rest, found := strings.Cut(pack, "\n"+name+":\n")
	if !found {
		panic("packs: a pack has no section " + name)
	}
	var out strings.Builder
	for line := range strings.Lines(rest) {
		if line[0] != ' ' && line[0] != '\n' {
			break
		}
		out.WriteString(line)
	}
	return out.String()
}
