package rules

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"sluice/pipelines/models"
	"sluice/schemas/events"
)

// says is a word of the language and what it means, as editors and the documentation tell it.
type says struct{ word, text string }

// functionSays documents what conditions can call, in the order it is read.
var functionSays = []says{
	{`known(x)`, "whether a variable, an aggregate or a model has a value on this event"},
	{`listed("list", x)`, "whether an entry of the list covers the text: the value itself, its CIDR block or its prefix; false when the text is missing"},
	{`similarity("list", x)`, "how alike the text and the closest name of the list are, a decimal from 0 to 1; 0 when the text is missing"},
	{`converted(amount)`, "the amount in the currency of conversion:, exactly; unknown where the event's currency has no rate"},
	{`ratio(a, b)`, "a / b of two whole numbers or two amounts, to nine decimals; unknown where b is 0"},
	{`min(a, b), max(a, b)`, "the lesser, the greater of two numbers"},
	{`round(x), floor(x), ceil(x), round_half_even(x)`, "the whole number next to an amount or a decimal: the nearest (the middle away from zero), the one below, the one above, the nearest (the middle to the even one)"},
	{`duration("30m")`, "a time span: h, m, s and ms"},
	{`timestamp("2026-01-31T12:00:00Z")`, "a moment, RFC 3339"},
	{`x.matches("^4[0-9]+$")`, "whether the text has a match of the regular expression (RE2)"},
	{`x.startsWith(y), x.endsWith(y), x.contains(y)`, "whether the text has the part"},
	{`x in ["a", "b"]`, "whether the text or whole number is one of these"},
	{`size(x)`, "number of characters of the text"},
	{`+ - * /`, "exact; + and - keep amounts amounts, amount / amount is a decimal; whole numbers are divided by ratio()"},
	{`< <= > >= == !=`, "amounts compare with numbers and with other amounts, texts with texts; in == and != the amount stands on the left"},
	{`&& || ! ? :`, "an unknown side counts only where the other does not settle the answer"},
}

// aggregateSays documents what aggregates compute, by Func.
var aggregateSays = [...]string{
	Count:    "number of events of the kinds named",
	Sum:      "sum of an amount, in the event's currency",
	Avg:      "mean of an amount; unknown without events",
	Min:      "least amount; unknown without events",
	Max:      "largest amount; unknown without events",
	Distinct: "number of different values of a field",
	Since:    "time since the newest event of the kinds named, the present one left out; unknown if there is none",
	Age:      "time since the first event of the kinds named, the present one included",
	Stddev:   "standard deviation of an amount; unknown without events",
	Cycle:    "hops of the shortest cycle of money that the transfer closes; unknown if it closes none",
}

// keySays documents the keys of a ruleset's parts.
var keySays = map[string]string{
	"ruleset":          "name: small letters, digits and dashes",
	"version":          "whole number, from 1; a new text has a new version",
	"conversion":       "rates for converted(): exact, dated, part of the ruleset",
	"conversion.to":    "ISO 4217 code of the currency everything is converted to",
	"conversion.as_of": "day of the rates: 2026-11-01",
	"conversion.rates": "by currency, what one major unit of it is worth; at most 9 digits",
	"aggregates":       "what is counted over time, by name; a name is a variable in conditions",
	"aggregate.of":     "kinds of events, where the function names a field instead",
	"aggregate.where":  "condition on the event itself: what counts",
	"aggregate.by":     "field, or pair of fields, whose events are taken together",
	"aggregate.for":    "field of the present event whose aggregate is read; default: by",
	"aggregate.window": "10m, 24h, 30d: how far the aggregate looks back; at most 30d with the delay",
	"aggregate.delay":  "10m, 24h, 7d: the window ends this long before the event; default: with the event",
	"aggregate.hops":   "for cycle: the longest cycle looked for, 2 to 6; default 4",
	"models":           "statistical models, by name; a name is a decimal from 0 to 1 in conditions",
	"rules":            "what is asked of each event",
	"rule.id":          "name, unique in the ruleset",
	"rule.on":          "kinds of events the rule is asked of; default payment.initiated",
	"rule.when":        "condition in CEL; in single quotes where it starts with ! or has a colon",
	"rule.missing":     "when the condition cannot be answered for want of data: skip, fire, or review (fires as a review without a score)",
	"rule.then":        "what follows when the condition holds",
	"rule.brake":       "bounds the share of declines the rule may cause; beyond it the rule can only ask for review",
	"then.score":       "added to the scores of the other rules that fire, -10000 to 10000",
	"then.verdict":     "review or decline: at least this; approve: lifts everything but final blocks",
	"then.block":       "final: the verdict review or decline is never lifted",
	"then.reason":      "reason code",
	"then.say":         "sentence for an analyst, in English",
	"brake.share":      "of the events asked about within the window, above 0 and below 1: 0.05 is 5 %",
	"brake.window":     "10m, 24h, 30d",
	"brake.after":      "events asked about in the window before the brake can hold",
	"reasons":          "what each reason code says, by code",
	"reason.customer":  "to the customer, by language: nothing that helps a fraudster",
	"reason.analyst":   "to an analyst, by language",
	"outcomes":         "sums of scores from which an event is reviewed or declined, for all or for payment and loan apart",
	"outcomes.review":  "score from which an event is reviewed",
	"outcomes.decline": "score from which an event is declined",
	"model.kind":       "what trained it",
	"model.features":   "an expression for each feature of the model",
	"model.reasons":    "reason code by feature",
	"model.model":      "the model's file, as text",
	"model.base64":     "the model's file, in base64",
	"outcomes.payment": "for payments",
	"outcomes.loan":    "for loan applications",
}

// schemaID names the schema; it is where the text stands in the project, not an address to fetch.
const schemaID = "urn:sluice:ruleset"

// object is a JSON object.
type object = map[string]any

// Schema returns the JSON Schema (draft 2020-12) of ruleset files, for editors. It knows the shape and the words; Check
// knows the rest.
func Schema() []byte {
	root := mappingOf(rulesetKeys, "", object{
		"ruleset":    object{"type": "string", "pattern": rulesetName.String()},
		"version":    object{"type": "integer", "minimum": 1},
		"conversion": required(mappingOf(conversionKeys, "conversion.", object{"to": currencySchema(), "as_of": object{"type": "string", "format": "date"}, "rates": object{"type": "object", "propertyNames": currencySchema(), "additionalProperties": object{"type": "number", "exclusiveMinimum": 0}}}), conversionKeys...),
		"aggregates": named(aggregateSchema()),
		"models":     named(modelSchema()),
		"rules":      object{"type": []string{"array", "null"}, "maxItems": MaxRules, "items": ruleSchema()},
		"reasons":    object{"type": "object", "additionalProperties": required(mappingOf(audiences, "reason.", object{"customer": languagesSchema(), "analyst": languagesSchema()}), audiences...)},
		"outcomes":   outcomesSchema(),
	})
	required(root, "ruleset", "version")
	root["$schema"], root["$id"], root["title"] = "https://json-schema.org/draft/2020-12/schema", schemaID, "sluice ruleset"
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // it is made of maps and words
	}
	return append(out, '\n')
}

// mappingOf is a mapping with the keys given and no others; each key has a schema and its documentation.
func mappingOf(keys []string, prefix string, schemas object) object {
	properties := object{}
	for _, key := range keys {
		property, ok := schemas[key].(object)
		if !ok {
			panic("rules: no schema of the key " + prefix + key)
		}
		property = maps.Clone(property)
		property["description"] = keySays[prefix+key]
		if key == "when" || key == "where" {
			property["description"] = keySays[prefix+key] + ". " + conditionWords()
		}
		properties[key] = property
	}
	return object{"type": "object", "properties": properties, "additionalProperties": false}
}

func required(mapping object, keys ...string) object {
	mapping["required"] = keys
	return mapping
}

// named is a mapping from names that CEL can spell.
func named(of object) object {
	return object{"type": []string{"object", "null"}, "propertyNames": object{"pattern": aggregateName.String()}, "additionalProperties": of}
}

func oneOf(words []string) object { return object{"enum": words} }

// oneOrMore is a word, or a list of them.
func oneOrMore(words []string) object {
	return object{"anyOf": []object{oneOf(words), {"type": "array", "items": oneOf(words), "minItems": 1}}}
}

func currencySchema() object { return object{"type": "string", "pattern": "^[A-Z]{3}$"} }

func languagesSchema() object {
	texts := object{}
	for _, language := range languages {
		texts[language] = object{"type": "string", "minLength": 1, "maxLength": maxSay}
	}
	return object{"type": "object", "properties": texts, "required": languages, "additionalProperties": false}
}

func windowSchema() object { return object{"type": "string", "pattern": windowText.String()} }

func conditionSchema() object {
	return object{"type": []string{"string", "boolean"}, "maxLength": MaxConditionBytes}
}

// conditionWords names what a condition can use, for who writes one.
func conditionWords() string {
	var vars, calls []string
	for i := range variables {
		vars = append(vars, variables[i].name)
	}
	for _, f := range functionSays {
		calls = append(calls, f.word)
	}
	return "Variables: " + strings.Join(vars, ", ") + ". Written with: " + strings.Join(calls, "; ")
}

func kindsSchema() object {
	return oneOrMore(append([]string{events.Payment.String(), events.Loan.String(), events.Behavior.String()}, kindWords()...))
}

func aggregateSchema() object {
	key := object{"anyOf": []object{oneOf(fieldNames[1 : lastKey+1]), {"type": "array", "items": oneOf(fieldNames[1 : lastKey+1]), "minItems": 1, "maxItems": 2, "uniqueItems": true}}}
	a := mappingOf(aggregateKeys, "aggregate.", object{"of": kindsSchema(), "where": conditionSchema(), "by": key, "for": key,
		"window": windowSchema(), "delay": windowSchema(), "hops": object{"type": "integer", "minimum": MinHops, "maximum": MaxHops}})
	amounts := oneOf(slices.Sorted(maps.Keys(amountNames)))
	var exactlyOne []object
	for i, name := range funcNames {
		schema := kindsSchema()
		switch Func(i) {
		case Distinct:
			schema = oneOf(fieldNames[1:])
		case Sum, Avg, Min, Max, Stddev:
			schema = maps.Clone(amounts)
		}
		schema["description"] = aggregateSays[i]
		a["properties"].(object)[name] = schema
		need := []string{name, "by", "window"}
		if Func(i) == Cycle {
			need = []string{name, "window"}
		}
		exactlyOne = append(exactlyOne, object{"required": need})
	}
	a["oneOf"] = exactlyOne
	return a
}

func modelSchema() object {
	keys := []string{"kind", "features", "reasons", "model", "base64"}
	text := object{"type": "string"}
	return required(mappingOf(keys, "model.", object{"kind": oneOf(models.Kinds), "features": object{"type": "object", "additionalProperties": conditionSchema()},
		"reasons": object{"type": "object", "additionalProperties": text}, "model": text, "base64": text}), "kind", "features")
}

func ruleSchema() object {
	score := object{"type": "integer", "minimum": -MaxScore, "maximum": MaxScore}
	then := mappingOf(thenKeys, "then.", object{"score": score, "verdict": oneOf(verdictNames), "block": oneOf([]string{"final"}),
		"reason": object{"type": "string", "maxLength": events.MaxWordBytes}, "say": object{"type": "string", "maxLength": maxSay}})
	then["anyOf"] = []object{{"required": []string{"score"}}, {"required": []string{"verdict"}}}
	brake := mappingOf(brakeKeys, "brake.", object{"share": object{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, "window": windowSchema(),
		"after": object{"type": "integer", "minimum": 1, "maximum": maxAfter}})
	return required(mappingOf(ruleKeys, "rule.", object{"id": object{"type": "string", "pattern": ruleName.String()}, "on": kindsSchema(), "when": conditionSchema(),
		"missing": oneOf(missingNames[1:]), "then": required(then, "reason", "say"), "brake": required(brake, brakeKeys...)}), "id", "when", "then")
}

func outcomesSchema() object {
	threshold := object{"type": "integer", "minimum": 1, "maximum": MaxScore}
	each := mappingOf([]string{"review", "decline"}, "outcomes.", object{"review": threshold, "decline": threshold})
	apart := mappingOf([]string{"payment", "loan"}, "outcomes.", object{"payment": each, "loan": each})
	return object{"anyOf": []object{each, apart}}
}

// typeName is a type's name as conditions have it.
func (t valueType) String() string {
	return [...]string{noType: "none", boolType: "bool", intType: "int", moneyType: "money", decimalType: "decimal", stringType: "text",
		durationType: "duration", timeType: "time"}[t]
}

// onText says which events have a variable.
func onText(in Kinds) string {
	if in == everyKind {
		return "all"
	}
	var all []string
	for _, f := range []events.Family{events.Payment, events.Loan, events.Behavior} {
		switch kinds := kindsOf(f); {
		case in&kinds == kinds:
			all = append(all, f.String())
		case in&kinds != 0:
			all = append(all, strings.ReplaceAll(kindsText(in&kinds), ",", ", "))
		}
	}
	return strings.Join(all, ", ")
}

// knownText says when a variable is known.
func (v *variable) knownText() string {
	switch {
	case v.presence != "" || v.in&^v.always == 0:
		return "always"
	case v.with.name != "":
		return "where " + v.with.name + " is " + v.with.word
	case v.always != 0:
		return onText(v.always)
	}
	return "if stated"
}

// Vocabulary returns the language's words as tables in Markdown, as docs/rules.md has them.
func Vocabulary() string {
	var out strings.Builder
	table := func(title string, head ...string) func(cells ...string) {
		out.WriteString("\n### " + title + "\n\n| " + strings.Join(head, " | ") + " |\n|" + strings.Repeat("---|", len(head)) + "\n")
		return func(cells ...string) {
			for i := range cells {
				cells[i] = strings.ReplaceAll(cells[i], "|", "\\|")
			}
			out.WriteString("| " + strings.Join(cells, " | ") + " |\n")
		}
	}
	row := table("Keys", "key", "meaning")
	for _, part := range []struct {
		prefix string
		keys   []string
	}{{"", rulesetKeys}, {"conversion.", conversionKeys}, {"aggregate.", aggregateKeys}, {"rule.", ruleKeys}, {"then.", thenKeys}, {"brake.", brakeKeys},
		{"reason.", audiences}, {"outcomes.", []string{"review", "decline", "payment", "loan"}}, {"model.", []string{"kind", "features", "reasons", "model", "base64"}}} {
		for _, key := range part.keys {
			row("`"+part.prefix+key+"`", keySays[part.prefix+key])
		}
	}
	row = table("Variables", "variable", "type", "on", "known", "meaning")
	for i := range variables {
		v := &variables[i]
		row("`"+v.name+"`", v.typ.String(), onText(v.in), v.knownText(), v.says)
	}
	row = table("Functions and operators", "written", "meaning")
	for _, f := range functionSays {
		row("`"+f.word+"`", f.text)
	}
	row = table("Aggregates", "function", "meaning", "type in conditions")
	for i, name := range funcNames {
		a := Aggregate{Func: Func(i)}
		v := aggregateVariable(&a, 0)
		row("`"+name+"`", aggregateSays[i], v.typ.String())
	}
	row = table("Fields", "field", "of by:, for:", "of distinct:")
	for i, name := range fieldNames[1:] {
		key := "yes"
		if Field(i+1) > lastKey {
			key = "no: it has too few values"
		}
		row("`"+name+"`", key, "yes")
	}
	return out.String()
}
