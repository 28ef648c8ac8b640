package reconcile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/schemas/events"
)

var (
	cny = events.MustCurrency("CNY")
	eur = events.MustCurrency("EUR")
)

// said writes a result by the lines' ids, sorted.
func said(here, there []Line, r Result) (matches, breaks []string) {
	ids := func(lines []Line, at []int32) string {
		var all []string
		for _, i := range at {
			all = append(all, lines[i].ID)
		}
		slices.Sort(all)
		return strings.Join(all, "+")
	}
	for _, m := range r.Matches {
		matches = append(matches, m.Stage.String()+" "+ids(here, m.Here)+" = "+ids(there, m.There))
	}
	for _, b := range r.Breaks {
		text, of := b.Class.String(), here
		if b.Here != None {
			text += " " + here[b.Here].ID
		}
		if b.There != None {
			text, of = text+" "+there[b.There].ID, there
		}
		if b.Twin != None {
			text += " like " + of[b.Twin].ID
		}
		breaks = append(breaks, text)
	}
	slices.Sort(matches)
	slices.Sort(breaks)
	return matches, breaks
}

// someLines draws few lines of few references, amounts and days, so that everything collides with everything.
func someLines(t *rapid.T, side string, most int) []Line {
	references := []string{"", "", "PAY-100001", "pay 100001", "PAY100001X", "00100001", "100001", "PAY-1000012", "LOT1", "X-PAY-1000012"}
	lines := make([]Line, rapid.IntRange(0, most).Draw(t, side))
	for i := range lines {
		pick := func(n int, what string) int { return rapid.IntRange(0, n-1).Draw(t, what) }
		lines[i] = Line{
			ID: fmt.Sprint(side, i), Reference: references[pick(len(references), "reference")], Date: Day(10 + pick(6, "day")),
			Amount: int64(pick(7, "amount")-1) * 100, Currency: []events.Currency{cny, cny, cny, eur}[pick(4, "currency")],
			Text:       []string{"", "paid (PAY-100001), thanks", "pay-1000012 100001"}[pick(3, "text")],
			Collective: pick(3, "collective") == 0, Open: pick(4, "open") == 0, Settled: pick(8, "settled") == 0,
		}
		if side == "there" {
			lines[i].Fee = []int64{0, 0, 5, 100}[pick(4, "fee")]
		} else {
			lines[i].Cost, lines[i].Rerouted = pick(5, "cost") == 0, pick(5, "rerouted") == 0
		}
		if lines[i].Collective {
			lines[i].Count = []int{0, 0, 2, 3}[pick(4, "count")]
		}
	}
	return lines
}

func someOptions(t *rapid.T) Options {
	o := Options{
		Amount: rapid.SampledFrom([]int64{0, 1, 100}).Draw(t, "tolerance"), Days: rapid.IntRange(0, 2).Draw(t, "days"),
		FeePoints: rapid.SampledFrom([]int64{0, 0, 3000}).Draw(t, "fee points"), GroupDays: rapid.IntRange(0, 3).Draw(t, "group days"),
	}
	if rapid.Bool().Draw(t, "period") {
		o.From, o.To = Day(rapid.IntRange(9, 12).Draw(t, "from")), Day(rapid.IntRange(12, 15).Draw(t, "to"))
	}
	return o
}

// What the naive comparison of all with all says is what Run says.
func TestAgainstNaive(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		here, there, o := someLines(t, "here", 8), someLines(t, "there", 8), someOptions(t)
		matches, breaks := said(here, there, Run(here, there, o))
		wantMatches, wantBreaks := runNaive(here, there, o)
		if !slices.Equal(matches, wantMatches) || !slices.Equal(breaks, wantBreaks) {
			t.Fatalf("got\n%q\n%q\nwant\n%q\n%q", matches, breaks, wantMatches, wantBreaks)
		}
	})
}

// The order of the lines changes nothing, not even the order of what comes out.
func TestOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	inOrder := func(here, there []Line, r Result) string {
		var out strings.Builder
		for _, m := range r.Matches {
			one, _ := said(here, there, Result{Matches: []Match{m}})
			fmt.Fprintln(&out, one)
		}
		for _, b := range r.Breaks {
			_, one := said(here, there, Result{Breaks: []Break{b}})
			fmt.Fprintln(&out, one, b.Amount, b.Date, b.Currency)
		}
		return out.String()
	}
	rapid.Check(t, func(t *rapid.T) {
		here, there, o := someLines(t, "here", 30), someLines(t, "there", 30), someOptions(t)
		want := inOrder(here, there, Run(here, there, o))
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		random.Shuffle(len(here), func(i, j int) { here[i], here[j] = here[j], here[i] })
		random.Shuffle(len(there), func(i, j int) { there[i], there[j] = there[j], there[i] })
		if got := inOrder(here, there, Run(here, there, o)); got != want {
			t.Fatalf("shuffled:\n%s\nwas\n%s", got, want)
		}
	})
}

// Whatever the lines: each is used once; matched amounts agree; every line of the period is accounted for.
func TestEveryLineOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		here, there, o := someLines(t, "here", 40), someLines(t, "there", 40), someOptions(t)
		r := Run(here, there, o)
		o = o.fill()
		seen := [2]map[int32]bool{{}, {}}
		use := func(side int, lines []Line, i int32) int64 {
			if seen[side][i] {
				t.Fatalf("%s is used twice", lines[i].ID)
			}
			seen[side][i] = true
			return lines[i].gross()
		}
		for _, m := range r.Matches {
			var sums [2]int64
			for _, i := range m.Here {
				sums[0] += use(0, here, i)
			}
			for _, i := range m.There {
				sums[1] += use(1, there, i)
			}
			if len(m.There) == 0 && len(m.Here) == 1 && here[m.Here[0]].Cost { // it is a fee of other lines
				continue
			}
			if !o.agrees(sums[0], sums[1]) || len(m.Here) > 1 && m.Stage != OneToMany || len(m.There) > 1 && m.Stage != ManyToOne {
				t.Fatalf("a %s match of %d with %d: %v", m.Stage, sums[0], sums[1], m)
			}
		}
		for _, b := range r.Breaks {
			if b.Here != None {
				use(0, here, b.Here)
			}
			if b.There != None {
				use(1, there, b.There)
			}
		}
		for side, lines := range [2][]Line{here, there} {
			for i := range lines {
				if d := lines[i].Date; d >= o.From && d <= o.To && !lines[i].Settled && !seen[side][int32(i)] {
					t.Fatalf("%s is neither matched nor a break", lines[i].ID)
				}
			}
		}
	})
}

// What one run leaves, another cannot match: it reports the same breaks, and no others.
func TestAgainNothingChanges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		here, there, o := someLines(t, "here", 20), someLines(t, "there", 20), someOptions(t)
		r := Run(here, there, o)
		_, want := said(here, there, r)
		for _, m := range r.Matches {
			for _, i := range m.Here {
				here[i].Settled = true
			}
			for _, i := range m.There {
				there[i].Settled = true
			}
		}
		for _, b := range r.Breaks {
			switch b.Class {
			case MissingThere:
				here[b.Here].Open = true
			case MissingHere:
				there[b.There].Open = true
			}
		}
		matches, breaks := said(here, there, Run(here, there, o))
		if len(matches) > 0 || !slices.Equal(breaks, want) {
			t.Fatalf("again: %q, %q\nwas %q", matches, breaks, want)
		}
	})
}

// line is a line of the tests below.
func line(id, reference string, day Day, amount int64, change ...func(*Line)) Line {
	l := Line{ID: id, Reference: reference, Date: day, Amount: amount, Currency: cny}
	for _, c := range change {
		c(&l)
	}
	return l
}

func payout(l *Line)   { l.Collective = true }
func cost(l *Line)     { l.Cost = true }
func settled(l *Line)  { l.Settled = true }
func rerouted(l *Line) { l.Rerouted = true }

func TestStages(t *testing.T) {
	t.Parallel()
	std := Options{Days: 2, GroupDays: 3}
	for name, c := range map[string]struct {
		here, there     []Line
		o               Options
		matches, breaks []string
	}{
		"exact":                        {[]Line{line("h", "P-1", 5, 100)}, []Line{line("t", "P-1", 5, 100)}, Options{}, []string{"exact h = t"}, nil},
		"other currency":               {[]Line{line("h", "P-1", 5, 100)}, []Line{line("t", "P-1", 5, 100, func(l *Line) { l.Currency = eur })}, std, nil, []string{"missing_here t", "missing_there h"}},
		"reference written otherwise":  {[]Line{line("h", "P-1", 5, 100)}, []Line{line("t", "p1", 5, 100)}, Options{}, []string{"tolerant h = t"}, nil},
		"date within":                  {[]Line{line("h", "P-1", 5, 100)}, []Line{line("t", "P-1", 7, 100)}, std, []string{"tolerant h = t"}, nil},
		"date beyond":                  {[]Line{line("h", "P-1", 5, 100)}, []Line{line("t", "P-1", 8, 100)}, std, nil, []string{"timing h t"}},
		"date beyond, reported before": {[]Line{line("h", "P-1", 5, 100, func(l *Line) { l.Open = true })}, []Line{line("t", "P-1", 80, 100)}, std, []string{"late h = t"}, nil},
		"after the period":             {[]Line{line("h", "P-1", 5, 100)}, []Line{line("t", "P-1", 6, 100)}, Options{Days: 2, From: 1, To: 5}, nil, []string{"timing h t"}},
		"before the period":            {[]Line{line("h", "P-1", 5, 100)}, []Line{line("t", "P-1", 6, 100)}, Options{Days: 2, From: 6, To: 9}, []string{"tolerant h = t"}, nil},
		"outside the period":           {[]Line{line("h", "P-1", 5, 100)}, []Line{line("t", "P-2", 9, 100)}, Options{Days: 2, From: 6, To: 8}, nil, nil},
		"amount within":                {[]Line{line("h", "P-1", 5, 100)}, []Line{line("t", "P-1", 5, 98)}, Options{Amount: 2}, []string{"tolerant h = t"}, nil},
		"amount beyond":                {[]Line{line("h", "P-1", 5, 100)}, []Line{line("t", "P-1", 5, 97)}, Options{Amount: 2}, nil, []string{"amount h t"}},
		"net of a fee that is said":    {[]Line{line("h", "P-1", 5, 1000)}, []Line{line("t", "P-1", 5, 994, func(l *Line) { l.Fee = 6 })}, Options{}, []string{"exact h = t"}, nil},
		"net of a fee that is not":     {[]Line{line("h", "P-1", 5, 1000)}, []Line{line("t", "P-1", 5, 994)}, Options{FeePoints: 60}, []string{"tolerant h = t"}, nil},
		"net of too much":              {[]Line{line("h", "P-1", 5, 1000)}, []Line{line("t", "P-1", 5, 993)}, Options{FeePoints: 60}, nil, []string{"amount h t"}},
		"reference in the text":        {[]Line{line("h", "PAY-20260001", 5, 100)}, []Line{line("t", "", 5, 100, func(l *Line) { l.Text = "payment PAY-20260001 of M" })}, std, []string{"tolerant h = t"}, nil},
		"reference cut off":            {[]Line{line("h", "PAY-2026-000123", 5, 100)}, []Line{line("t", "PAY-2026-0001", 5, 100)}, std, []string{"tolerant h = t"}, nil},
		"reference cut off, two fit":   {[]Line{line("h", "PAY-2026-000123", 5, 100), line("i", "PAY-2026-000124", 5, 100)}, []Line{line("t", "PAY-2026-0001", 5, 100)}, std, nil, []string{"missing_here t", "missing_there h", "missing_there i"}},
		"no reference":                 {[]Line{line("h", "", 5, 100)}, []Line{line("t", "", 5, 100)}, std, nil, []string{"missing_here t", "missing_there h"}},
		"three parts of a reference":   {[]Line{line("h", "L1", 5, 100), line("i", "L1", 5, 50), line("j", "L1", 6, -20)}, []Line{line("t", "L1", 6, 130)}, std, []string{"one_to_many h+i+j = t"}, nil},
		"two of three parts":           {[]Line{line("h", "L1", 5, 100), line("i", "L1", 5, 51), line("j", "L1", 6, 7)}, []Line{line("t", "L1", 6, 151)}, std, []string{"one_to_many h+i = t"}, []string{"missing_there j"}},
		"parts there":                  {[]Line{line("h", "L1", 5, 150)}, []Line{line("t", "L1", 5, 100), line("u", "L1", 6, 50)}, std, []string{"many_to_one h = t+u"}, nil},
		"a day's payout": {[]Line{line("h", "A", 5, 100), line("i", "B", 5, 50), line("j", "C", 6, 70)}, []Line{line("t", "PO", 6, 150, payout)}, std,
			[]string{"one_to_many h+i = t"}, []string{"missing_there j"}},
		"a day's payout, net": {[]Line{line("h", "A", 5, 10000), line("i", "B", 5, 5000)}, []Line{line("t", "PO", 6, 14910, payout)}, Options{GroupDays: 3, FeePoints: 60},
			[]string{"one_to_many h+i = t"}, nil},
		"a payout of some": {[]Line{line("h", "A", 5, 100), line("i", "B", 5, 50), line("j", "C", 5, 7)}, []Line{line("t", "PO", 6, 107, payout)}, std,
			[]string{"one_to_many h+j = t"}, []string{"missing_there i"}},
		"a payout of some, by its count": {[]Line{line("h", "A", 5, 100), line("i", "B", 5, 50), line("j", "C", 5, 50), line("k", "D", 5, 100)}, []Line{line("t", "PO", 6, 200, payout, func(l *Line) { l.Count = 2 })}, std,
			[]string{"one_to_many h+k = t"}, []string{"missing_there i", "missing_there j"}},
		"a payout of who knows which": {[]Line{line("h", "A", 5, 100), line("i", "B", 5, 100), line("j", "C", 5, 100)}, []Line{line("t", "PO", 6, 200, payout)}, std,
			nil, []string{"missing_here t", "missing_there h", "missing_there i", "missing_there j"}},
		"no payout":                      {[]Line{line("h", "A", 5, 100), line("i", "B", 5, 50)}, []Line{line("t", "PO", 6, 150)}, std, nil, []string{"missing_here t", "missing_there h", "missing_there i"}},
		"a cost that is stated as fee":   {[]Line{line("h", "P-1", 5, 10000), line("k", "P-1", 6, -28, cost)}, []Line{line("t", "P-1", 5, 9972, func(l *Line) { l.Fee = 28 })}, std, []string{"exact h = t", "exact k = "}, nil},
		"a cost that is not the fee":     {[]Line{line("h", "P-1", 5, 10000), line("k", "P-1", 6, -28, cost)}, []Line{line("t", "P-1", 5, 9970, func(l *Line) { l.Fee = 30 })}, std, []string{"exact h = t"}, []string{"missing_there k"}},
		"a cost, net":                    {[]Line{line("h", "P-1", 5, 10000), line("k", "P-1", 6, -28, cost)}, []Line{line("t", "P-1", 5, 9972)}, Options{Days: 2, FeePoints: 60}, []string{"one_to_many h+k = t"}, nil},
		"a cost, net within tolerance":   {[]Line{line("h", "P-1", 5, 10000), line("k", "P-1", 6, -28, cost)}, []Line{line("t", "P-1", 5, 9970)}, Options{Days: 2, FeePoints: 60}, []string{"exact k = ", "tolerant h = t"}, nil},
		"a cost, gross":                  {[]Line{line("h", "P-1", 5, 10000), line("k", "P-1", 6, -28, cost)}, []Line{line("t", "P-1", 5, 10000)}, Options{Days: 2, FeePoints: 60}, []string{"exact h = t"}, []string{"missing_there k"}},
		"a cost that has its line":       {[]Line{line("h", "P-1", 5, 10000), line("k", "P-1", 6, -28, cost)}, []Line{line("t", "P-1", 5, 10000), line("u", "P-1", 6, -28)}, std, []string{"exact h = t", "exact k = u"}, nil},
		"a cost booked later":            {[]Line{line("h", "P-1", 5, 10000, settled), line("k", "P-1", 9, -28, cost)}, []Line{line("t", "P-1", 5, 9972, settled, func(l *Line) { l.Fee = 28 })}, std, []string{"exact k = "}, nil},
		"an exact sum before a tolerant": {[]Line{line("h", "P-1", 5, 10000), line("i", "P-1", 5, -30)}, []Line{line("t", "P-1", 5, 9970)}, Options{FeePoints: 60, Amount: 50}, []string{"one_to_many h+i = t"}, nil},
		"rerouted away":                  {[]Line{line("h", "P-1", 5, 70), line("i", "P-1", 5, -70, rerouted)}, nil, std, []string{"one_to_many h+i = "}, nil},
		"refunded and rerouted away":     {[]Line{line("h", "P-1", 5, 100), line("i", "P-1", 5, -30), line("j", "P-1", 6, -70, rerouted)}, nil, std, []string{"one_to_many h+i+j = "}, nil},
		"rerouted away and back":         {[]Line{line("h", "P-1", 5, 70), line("i", "P-1", 5, -70, rerouted), line("j", "P-1", 6, 70, rerouted)}, []Line{line("t", "P-1", 6, 70)}, std, []string{"exact j = t", "one_to_many h+i = "}, nil},
		"carried, and rerouted away":     {[]Line{line("h", "P-1", 5, 70), line("i", "P-1", 6, -70, rerouted)}, []Line{line("t", "P-1", 5, 70)}, std, []string{"exact h = t"}, []string{"missing_there i"}},
		"captured in part and rerouted":  {[]Line{line("h", "P-1", 5, 40), line("i", "P-1", 6, -40, rerouted), line("j", "P-1", 7, 60)}, []Line{line("t", "P-1", 7, 60)}, std, []string{"exact j = t", "one_to_many h+i = "}, nil},
		"twice there":                    {[]Line{line("h", "P-1", 5, 100)}, []Line{line("t", "P-1", 5, 100), line("u", "P1", 6, 100)}, std, []string{"exact h = t"}, []string{"duplicate u like t"}},
		"twice here":                     {[]Line{line("h", "P-1", 5, 100), line("i", "P-1", 5, 100)}, []Line{line("t", "P-1", 5, 100)}, std, []string{"exact h = t"}, []string{"duplicate i like h"}},
		"wrong and twice":                {[]Line{line("h", "P-1", 5, 100)}, []Line{line("t", "P-1", 5, 90), line("u", "P-1", 5, 90)}, std, nil, []string{"amount h t", "duplicate u like t"}},
		"paid and refunded":              {[]Line{line("h", "P-1", 5, 100), line("i", "P-1", 5, -100)}, []Line{line("t", "P-1", 5, 100)}, std, []string{"exact h = t"}, []string{"missing_there i"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			matches, breaks := said(c.here, c.there, Run(c.here, c.there, c.o))
			if !slices.Equal(matches, c.matches) || !slices.Equal(breaks, c.breaks) {
				t.Errorf("got %q, %q\nwant %q, %q", matches, breaks, c.matches, c.breaks)
			}
		})
	}
}

// planted makes n payments over some days, each on both sides, and the options to match them with.
func planted(n int, random *rand.Rand) (here, there []Line, o Options) {
	o = Options{Amount: 1, Days: 2, GroupDays: 3, From: 1000, To: 1029}
	for i := range n {
		l := line(fmt.Sprintf("%09d", i), fmt.Sprintf("PAY-%08d", i), Day(1000+random.IntN(28)), 100+random.Int64N(1_000_000))
		here = append(here, l)
		switch random.IntN(20) {
		case 0:
			l.Reference = strings.ToLower(l.Reference)
		case 1:
			l.Date += Day(random.IntN(3))
		case 2:
			l.Text, l.Reference = "payment "+l.Reference+" thanks", ""
		case 3:
			l.Fee = l.Amount / 100
			l.Amount -= l.Fee
		case 4:
			l.Amount++
		}
		there = append(there, l)
	}
	return here, there, o
}

// plant puts n errors of each class into matched lines and returns what must be found.
func plant(here, there *[]Line, n int) []string {
	var want []string
	var dropHere, dropThere []int
	for k := range n {
		at := 5 * k * (len(*here) / (5 * n))
		id := func(i int) string { return (*here)[at+i].ID }
		dropHere = append(dropHere, at)
		want = append(want, "missing_here "+id(0))
		dropThere = append(dropThere, at+1)
		want = append(want, "missing_there "+id(1))
		t := &(*there)[at+2]
		t.Reference, t.Amount = (*here)[at+2].Reference, t.Amount+50
		want = append(want, "amount "+id(2)+" "+id(2))
		twin := (*there)[at+3]
		twin.ID += "d"
		twin.Reference = (*here)[at+3].Reference
		(*there)[at+3] = twin
		(*there)[at+3].ID = id(3)
		*there = append(*there, twin)
		want = append(want, "duplicate "+twin.ID+" like "+id(3))
		h, t := &(*here)[at+4], &(*there)[at+4]
		*t = *h
		h.Date, t.Date = 1029, 1030
		want = append(want, "timing "+id(4)+" "+id(4))
	}
	remove := func(lines []Line, at []int) []Line {
		for _, i := range slices.Backward(at) {
			lines = slices.Delete(lines, i, i+1)
		}
		return lines
	}
	*here, *there = remove(*here, dropHere), remove(*there, dropThere)
	slices.Sort(want)
	return want
}

// Of errors planted into matched lines, exactly those come out.
func TestPlantedErrors(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		here, there, o := planted(2000, random)
		if _, breaks := said(here, there, Run(here, there, o)); len(breaks) > 0 {
			t.Fatalf("seed %d: breaks among lines that match: %q", seed, breaks)
		}
		want := plant(&here, &there, int(seed)+1)
		random.Shuffle(len(there), func(i, j int) { there[i], there[j] = there[j], there[i] })
		matches, breaks := said(here, there, Run(here, there, o))
		if !slices.Equal(breaks, want) {
			t.Fatalf("seed %d:\ngot  %q\nwant %q", seed, breaks, want)
		}
		if len(matches) != 2000-5*(int(seed)+1)+int(seed)+1 { // the line with a duplicate stays matched
			t.Fatalf("seed %d: %d matches", seed, len(matches))
		}
	}
}

func TestNormalise(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "", "PAY1": "PAY1", "pay-1/a b": "PAY1AB", "000": "000", "0012": "12", "00A2": "00A2", "über-1": "ÜBER1", "支付 7": "支付7", "--": ""} {
		if got := Normalise(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestDays(t *testing.T) {
	t.Parallel()
	shanghai := time.FixedZone("", 8*3600)
	if got := DayOf(time.Date(2026, 3, 1, 1, 0, 0, 0, shanghai)).String(); got != "2026-03-01" {
		t.Error(got)
	}
	for _, text := range []string{"1970-01-01", "2026-02-28", "9999-12-31"} {
		if d, err := ParseDay(text); err != nil || d.String() != text {
			t.Error(text, d, err)
		}
	}
	for _, text := range []string{"", "2026-02-29", "1969-12-31", "1.2.2026"} {
		if d, err := ParseDay(text); err == nil {
			t.Errorf("%q is %s", text, d)
		}
	}
	if FirstDay.String() != "1970-01-01" || LastDay.String() != "9999-12-31" {
		t.Error(FirstDay, LastDay)
	}
	for age, want := range map[int]string{-3: "0-1", 0: "0-1", 1: "0-1", 2: "2-7", 7: "2-7", 8: "8-30", 30: "8-30", 31: "31-90", 91: "over 90"} {
		if got := Bucket(age); got != want {
			t.Errorf("%d days: %s, want %s", age, got, want)
		}
	}
	for _, c := range Classes() {
		if got, ok := ParseClass(c.String()); !ok || got != c {
			t.Error(c)
		}
	}
}

// FuzzRun: no lines make it panic, or use a line twice.
func FuzzRun(f *testing.F) {
	f.Add([]byte("PAY-100001 PAY100001 pay-1"), int64(10), uint8(3))
	f.Fuzz(func(t *testing.T, text []byte, amount int64, days uint8) {
		var sides [2][]Line
		for i, word := range strings.Fields(string(text)) {
			if i == 64 {
				break
			}
			sides[i%2] = append(sides[i%2], Line{ID: fmt.Sprint(i), Reference: word, Date: Day(i % 7), Amount: amount % events.MaxAmount * int64(i%3-1), Currency: cny,
				Text: word + " " + string(text[:min(len(text), 50)]), Collective: i%5 == 0, Open: i%11 == 0})
		}
		r := Run(sides[0], sides[1], Options{Days: int(days), GroupDays: int(days), Amount: amount & 0xff})
		used := 0
		for _, m := range r.Matches {
			used += len(m.Here) + len(m.There)
		}
		for _, b := range r.Breaks {
			if b.Here != None {
				used++
			}
			if b.There != None {
				used++
			}
		}
		if used != len(sides[0])+len(sides[1]) {
			t.Fatalf("%d lines used of %d", used, len(sides[0])+len(sides[1]))
		}
	})
}

// BenchmarkRun: a million lines on each side; none reported, 1 % planted, and, for the worst, nothing that matches.
func BenchmarkRun(b *testing.B) {
	const n = 1_000_000
	run := func(here, there []Line, o Options) func(*testing.B) {
		return func(b *testing.B) {
			for b.Loop() {
				Run(here, there, o)
			}
			b.ReportMetric(float64(len(here)+len(there))*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		}
	}
	random := rand.New(rand.NewPCG(1, 1))
	here, there, o := planted(n, random)
	b.Run("planted", func(b *testing.B) {
		plant(&here, &there, n/500)
		random.Shuffle(len(there), func(i, j int) { there[i], there[j] = there[j], there[i] })
		run(here, there, o)(b)
	})
	for i := range there {
		there[i].Reference, there[i].Text = fmt.Sprintf("QAY-%08d", i), "nothing of note here"
	}
	b.Run("nothing matches", run(here, there, o))
	for i := range there {
		there[i].Collective = i%10 == 0
	}
	b.Run("payouts of nothing", run(here, there, o))
}
