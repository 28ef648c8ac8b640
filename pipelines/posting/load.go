package posting

import (
	"regexp"
	"slices"
	"strings"

	"sluice/pipelines/payments"
	"sluice/rules"
)

var (
	nameText = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)
	kindText = regexp.MustCompile(`^[a-z][a-z0-9_]{0,24}$`)
)

// Load parses and checks a posting file. Its error is a rules.Mistakes: all that is wrong, with file, line, column and what to write
// instead. No bytes make it panic. A file without parties: has those of the standard one. The file's name is for messages only.
func Load(file string, data []byte) (*Rules, error) {
	y, body := rules.ParseYAML(file, data)
	l := &loader{YAML: y, r: &Rules{Source: slices.Clone(data)}, ids: map[string]int{}}
	if body == nil {
		if y.Err() == nil {
			y.Fail(nil, "the file is empty; posting rules start with postings: and version:")
		}
		return nil, y.Err()
	}
	if !rules.IsMapping(body) {
		y.Fail(body, "posting rules are a mapping of postings:, version:, parties: and effects: to what they are")
		return nil, y.Err()
	}
	if l.load(body) {
		l.check() // of what could be read: a wrong effect hides no other's mistakes
	}
	if err := y.Err(); err != nil {
		return nil, err
	}
	l.r.frames.New = func() any { return &frame{Frame: terms.NewFrame()} }
	return l.r, nil
}

type loader struct {
	*rules.YAML
	r        *Rules
	ids      map[string]int // line of each
	partyAt  []partyPlaces
	effectAt []effectPlaces
	at       rules.Node // of parties:, or of the file
}

type partyPlaces struct{ at, when, payer, payee, kept rules.Node }

type effectPlaces struct{ at, when, on, debit, credit, amount, kind, back rules.Node }

// load reads the file; false means that not all parties could be read.
func (l *loader) load(body rules.Node) (parties bool) {
	named, numbered, own := false, false, false
	l.at, parties = body, true
	keys := l.Mapping(body, "a posting file", []string{"postings", "version", "parties", "effects"})
	misspelt := l.Count()
	for _, e := range keys {
		switch e.Key {
		case "postings":
			named = true
			if l.r.Name = l.Text(e.Value, "postings"); !nameText.MatchString(l.r.Name) {
				l.Fail(e.Value, "postings: %q is no name; use small letters, digits and dashes", l.r.Name)
			}
		case "version":
			numbered = true
			l.r.Version = int(l.Integer(e.Value, "version", 1, 1_000_000_000))
		case "parties":
			own, l.at = true, e.At
			before := l.Count()
			l.parties(e.Value)
			parties = l.Count() == before
		case "effects":
			l.effects(e.Value)
		}
	}
	if !named {
		l.Lacks(body, 1, misspelt, "the posting rules have no name; write postings: house")
	}
	if !numbered {
		l.Lacks(body, 1, misspelt, "the posting rules have no version; write version: 1")
	}
	if !own {
		l.r.parties = slices.Clone(Standard().parties)
		l.partyAt = make([]partyPlaces, len(l.r.parties))
		for i := range l.partyAt {
			l.partyAt[i] = partyPlaces{at: body, when: body, payer: body, payee: body, kept: body}
		}
	}
	return parties
}

// lacking is how many keys are not there.
func lacking(there ...bool) (n int) {
	for _, is := range there {
		if !is {
			n++
		}
	}
	return n
}

// id reads a rule's name, which no other has.
func (l *loader) id(n rules.Node, what string) string {
	id := l.Text(n, "id")
	switch line := l.ids[id]; {
	case !nameText.MatchString(id):
		l.Fail(n, "id: %q is no name; use small letters, digits and dashes", id)
	case line > 0:
		l.Fail(n, "id: %s is the name of another on line %d; give %s its own", id, line, what)
	default:
		l.ids[id] = l.Line(n)
	}
	return id
}

func (l *loader) parties(n rules.Node) {
	list := l.List(n, "parties")
	if len(list) > MaxParties {
		l.Fail(n, "%d parties; at most %d", len(list), MaxParties)
		return
	}
	for _, one := range list {
		p, at := party{line: l.Line(one)}, partyPlaces{at: one}
		before := l.Count()
		keys := l.Mapping(one, "a party", []string{"id", "when", "payer", "payee", "kept"})
		misspelt := l.Count() - before
		fine, named := misspelt == 0, false
		for _, e := range keys {
			ok := true
			switch e.Key {
			case "id":
				named = true
				p.id = l.id(e.Value, "the party")
			case "when":
				at.when = e.Value
				p.when = partyTerms.Condition(l.YAML, e.Value, "when")
			case "payer":
				at.payer = e.Value
				p.payer, ok = l.account(e.Value, "payer", false)
			case "payee":
				at.payee = e.Value
				p.payee, ok = l.account(e.Value, "payee", false)
			case "kept":
				at.kept, p.keeps = e.Value, true
				p.kept, ok = l.account(e.Value, "kept", false)
			}
			fine = fine && ok
		}
		if n := lacking(named, at.when != nil, at.payer != nil, at.payee != nil); n > 0 {
			l.Lacks(one, n, misspelt, "a party needs id:, when:, payer: and payee:")
			continue
		}
		if fine && p.when != nil {
			l.r.parties, l.partyAt = append(l.r.parties, p), append(l.partyAt, at)
		}
	}
}

var roundNames = map[string]rules.Rounding{
	"half_up": rules.RoundHalfUp, "down": rules.RoundDown, "up": rules.RoundUp, "half_even": rules.RoundHalfEven,
}

func (l *loader) effects(n rules.Node) {
	list := l.List(n, "effects")
	if len(list) > MaxEffects {
		l.Fail(n, "%d effects; at most %d, since all that a payment posts is one group of the book", len(list), MaxEffects)
		return
	}
	for _, one := range list {
		l.effect(one)
	}
}

// effect reads one; all of it, whatever is wrong with a part.
func (l *loader) effect(one rules.Node) {
	x, at := effect{line: l.Line(one)}, effectPlaces{at: one}
	before, named := l.Count(), false
	var post, back rules.Node
	keys := l.Mapping(one, "an effect", []string{"id", "on", "when", "post", "back"})
	misspelt := l.Count() - before
	for _, e := range keys {
		switch e.Key {
		case "id":
			named = true
			x.id = l.id(e.Value, "the effect")
		case "on":
			at.on = e.Value
		case "when":
			at.when = e.Value
			x.when = terms.Condition(l.YAML, e.Value, "when")
		case "post":
			post = e.Value
		case "back":
			back, at.back = e.Value, e.Value
		}
	}
	if n := lacking(named, at.on != nil, post != nil); n > 0 {
		l.Lacks(one, n, misspelt, "an effect needs id:, on: and post:")
	}
	var moments []payments.Moment
	if at.on != nil {
		moments = l.moments(at.on)
	}
	if post != nil {
		l.post(&x, &at, post)
	}
	if len(moments) > 0 {
		x.on = moments[0]
		l.goesBack(&x, back, one, misspelt)
	} else if back != nil { // when it goes back is not known, how it does is read
		x.on = payments.OnMove
		l.goesBack(&x, back, one, misspelt)
	}
	if l.Count() > before {
		return
	}
	for _, x.on = range moments {
		l.r.effects, l.effectAt = append(l.r.effects, x), append(l.effectAt, at)
	}
}

// moments reads on: settled, or on: [charged_back, dispute_lost]; none after a mistake.
func (l *loader) moments(n rules.Node) (all []payments.Moment) {
	before := l.Count()
	words := l.Texts(n, "on")
	for _, word := range words {
		m, known := payments.ParseMoment(word)
		switch {
		case !known:
			l.Fail(n, "on: there is no moment %q%s", word, rules.Suggest(word, momentWords()))
		case m == payments.OnHold:
			l.Fail(n, "on: nothing is linked to held money: it may never move; write on: moved")
		case m == payments.OnMove && len(words) > 1:
			l.Fail(n, "on: moved stands alone: its amount is all that has been captured so far, that of other moments is what they move")
		case slices.Contains(all, m):
			l.Fail(n, "on: %s is there twice", m)
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		l.Fail(n, "on: name a moment, such as moved")
	}
	if l.Count() > before {
		return nil
	}
	return all
}

func momentWords() []string {
	var words []string
	for m := payments.OnMove; m <= payments.OnDisputeLost; m++ {
		words = append(words, m.String())
	}
	return words
}

func (l *loader) post(x *effect, at *effectPlaces, n rules.Node) {
	before := l.Count()
	keys := l.Mapping(n, "post", []string{"debit", "credit", "amount", "kind", "round"})
	misspelt := l.Count() - before
	for _, e := range keys {
		switch e.Key {
		case "debit":
			at.debit = e.Value
			x.debit, _ = l.account(e.Value, "debit", true)
		case "credit":
			at.credit = e.Value
			x.credit, _ = l.account(e.Value, "credit", true)
		case "amount":
			at.amount = e.Value
			x.amount = terms.Number(l.YAML, e.Value, "amount")
		case "kind":
			at.kind = e.Value
			if x.kind = l.Text(e.Value, "kind"); !kindText.MatchString(x.kind) {
				l.Fail(e.Value, "kind: %q is no kind; use at most %d small letters, digits and _", x.kind, maxKind)
			}
		case "round":
			word, known := l.Text(e.Value, "round"), false
			if x.round, known = roundNames[word]; !known {
				l.Fail(e.Value, "round: there is no %q%s", word, rules.Suggest(word, []string{"half_up", "down", "up", "half_even"}))
			}
		}
	}
	if n := lacking(at.debit != nil, at.credit != nil, at.amount != nil, at.kind != nil); n > 0 && (misspelt == 0 || len(keys) > 0) {
		l.Lacks(at.at, n, misspelt, "post: the effect %s needs debit:, credit:, amount: and kind:", x.id)
	}
	x.ret = x.kind + "_return"
}

// goesBack reads back: share, or back: {refunded: keep, voided: all}. misspelt are keys of the effect that may be back:.
func (l *loader) goesBack(x *effect, n, at rules.Node, misspelt int) {
	switch {
	case n == nil && x.on == payments.OnMove:
		l.Lacks(at, 1, misspelt, "say how the effect %s goes back when the payment does: back: share, back: keep, "+
			"or back: {refunded: keep, charged_back: keep, voided: all, failed: all}", x.id)
		return
	case n == nil:
		return
	case x.on != payments.OnMove:
		l.Fail(n, "back: only what is linked to moved goes back; leave it out")
		return
	}
	if !rules.IsMapping(n) {
		w := l.way(n)
		for i := range x.back {
			x.back[i] = w
		}
		return
	}
	var words []string
	for _, m := range backMoments {
		words = append(words, m.String())
	}
	before := l.Count()
	keys := l.Mapping(n, "back", words)
	misspelt = l.Count() - before
	for _, e := range keys {
		x.back[slices.Index(words, e.Key)] = l.way(e.Value)
	}
	if few := len(words) - len(keys); few > 0 {
		l.Lacks(n, few, misspelt, "back: say it of each of %s", strings.Join(words, ", "))
	}
}

func (l *loader) way(n rules.Node) way {
	word := l.Text(n, "back")
	i := slices.Index(wayNames[:], word)
	if i < 0 {
		l.Fail(n, "back: there is no way %q%s", word, rules.Suggest(word, wayNames[:]))
	}
	return way(max(i, 0))
}
