package names

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// people makes up names whose parts are met as unevenly as those of real ones: one surname in ten is Chinese, a few are very
// common.
type people struct {
	random                 *rand.Rand
	families, given, names []string
}

func newPeople(seed uint64) *people {
	p := &people{random: rand.New(rand.NewPCG(seed, 1))}
	syllable := func(starts, vowels, ends string) string {
		pick := func(s string) string { all := strings.Fields(s); return all[p.random.IntN(len(all))] }
		return strings.Trim(pick(starts), "_") + pick(vowels) + strings.Trim(pick(ends), "_")
	}
	invent := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteString(syllable("b br c d dr f g gr h j k kr l m n p r s sch st t tr v w z _", "a e i o u ai ou ee ia", "_ _ _ n r l s t m ck nd"))
		}
		return b.String()
	}
	for range 20_000 {
		p.families = append(p.families, invent(2+p.random.IntN(2)))
	}
	for range 3_000 {
		p.given = append(p.given, invent(1+p.random.IntN(2)))
	}
	return p
}

// zipf draws an index, the first ones far more often.
func (p *people) zipf(n int) int {
	x := p.random.Float64()
	return int(x * x * x * float64(n))
}

const hanFamilies, hanGiven = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗", "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉萍红建文国志海晓小春"

func (p *people) name() string {
	if p.random.IntN(10) == 0 {
		family, given := []rune(hanFamilies), []rune(hanGiven)
		s := string(family[p.zipf(len(family))])
		for range 1 + p.random.IntN(2) {
			s += string(given[p.zipf(len(given))])
		}
		return s
	}
	s := p.given[p.zipf(len(p.given))]
	if p.random.IntN(3) == 0 {
		s += " " + p.given[p.zipf(len(p.given))]
	}
	return s + " " + p.families[p.zipf(len(p.families))]
}

// misspell changes a name as clerks do: a letter less, more, changed or swapped, words turned around, one left out.
func (p *people) misspell(s string) string {
	for range 1 + p.random.IntN(2) {
		rs := []rune(s)
		at := 1 + p.random.IntN(len(rs)-1)
		switch p.random.IntN(6) {
		case 0:
			rs = slices.Delete(rs, at, at+1)
		case 1:
			rs = slices.Insert(rs, at, rs[at])
		case 2:
			rs[at-1], rs[at] = rs[at], rs[at-1]
		case 3:
			if rs[at] < 0x80 && rs[at] != ' ' {
				rs[at] = rune("aeioulnrst"[p.random.IntN(10)])
			}
		case 4:
			words := strings.Fields(string(rs))
			slices.Reverse(words)
			rs = []rune(strings.Join(words, " "))
		default:
			if words := strings.Fields(string(rs)); len(words) == 3 {
				rs = []rune(words[0] + " " + words[2])
			}
		}
		if len(rs) < 2 {
			break
		}
		s = string(rs)
	}
	return s
}

// TestIndexAgainstBruteForce: of the misspelt names that some name on the list is like, the index finds all but one in a
// hundred, and never tells a score that comparing with every name does not give.
func TestIndexAgainstBruteForce(t *testing.T) {
	t.Parallel()
	p := newPeople(7)
	x := New()
	var all []name
	var list []string
	for i := range 1_500 {
		list = append(list, p.name())
		all = append(all, parse(list[i]))
		x.Add(fmt.Sprintf("%04d", i), list[i])
	}
	var likely, found, alsoFloor, floor int
	for range 600 {
		asked := p.misspell(list[p.random.IntN(len(list))])
		n := parse(asked)
		want := 0
		for i := range all {
			want = max(want, n.similarity(&all[i]))
		}
		score, id := x.Best(asked)
		got := int(score.Coefficient)
		if got > want || got < Floor && (got != 0 || id != "") {
			t.Fatalf("%q: the index says %d, comparing with all %d", asked, got, want)
		}
		if want >= Floor {
			floor++
			if got == want {
				alsoFloor++
			}
		}
		if want < Default {
			continue
		}
		likely++
		if got == want {
			found++
		} else {
			t.Logf("%q: best is %d, the index finds %d", asked, want, got)
		}
	}
	t.Logf("from %d: %d of %d found; from %d: %d of %d", Default, found, likely, Floor, alsoFloor, floor)
	if likely < 500 || found*100 < likely*99 {
		t.Errorf("%d of %d found", found, likely)
	}
}

// TestIndexFollowsItsList: after any adding, replacing and removing, the index answers as one made of what is left, and the
// pairs that are known to match are found.
func TestIndexFollowsItsList(t *testing.T) {
	t.Parallel()
	pool := []string{"", "---"}
	for _, c := range matches {
		pool = append(pool, c[0], c[1])
	}
	rapid.Check(t, func(t *rapid.T) {
		x, model := New(), map[string]string{}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			id := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "id")
			if rapid.IntRange(0, 3).Draw(t, "step") == 0 {
				x.Remove(id)
				delete(model, id)
				continue
			}
			s := rapid.SampledFrom(pool).Draw(t, "name")
			x.Add(id, s)
			model[id] = s
		}
		if x.Len() != len(model) {
			t.Fatalf("%d names, want %d", x.Len(), len(model))
		}
		asked := rapid.SampledFrom(pool).Draw(t, "asked")
		banned := rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "banned")
		want, first := 0, ""
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			s, ok := model[id]
			if like := int(Similarity(asked, s).Coefficient); ok && id != banned && like > want && like >= Default {
				want, first = like, id
			}
		}
		score, id := x.BestAmong(asked, func(id string) bool { return id != banned })
		if got := int(score.Coefficient); want > 0 && (got != want || id != first) || want == 0 && got >= Default {
			t.Fatalf("%q in %v without %q: %s %q, want %d %q", asked, model, banned, score, id, want, first)
		}
	})
}

// TestIndexSweeps: an index whose names have gone does not keep them.
func TestIndexSweeps(t *testing.T) {
	t.Parallel()
	x, p := New(), newPeople(3)
	for i := range 3_000 {
		x.Add(fmt.Sprint(i), p.name()+fmt.Sprint(i))
	}
	for i := range 2_990 {
		x.Remove(fmt.Sprint(i))
	}
	if x.Len() != 10 || len(x.entries) > 1_500 {
		t.Fatalf("%d names in %d entries", x.Len(), len(x.entries))
	}
	for i := range 10 {
		id := fmt.Sprint(2_990 + i)
		if score, got := x.Best(x.entries[x.byID[id]].name.key); score.Coefficient != one || got != id {
			t.Fatalf("%s is not found: %s %s", id, score, got)
		}
	}
}

// BenchmarkBest asks a list of 100,000 names, for names that are on it misspelt and for names that are not.
func BenchmarkBest(b *testing.B) {
	p, x := newPeople(1), New()
	for i := range 100_000 {
		name := p.name()
		p.names = append(p.names, name)
		x.Add(fmt.Sprint(i), name)
	}
	asked := map[string][]string{"misspelt": nil, "others": nil}
	for range 1_000 {
		asked["misspelt"] = append(asked["misspelt"], p.misspell(p.names[p.random.IntN(len(p.names))]))
		asked["others"] = append(asked["others"], p.name())
	}
	for which, names := range asked {
		b.Run(which, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				x.Best(names[i%len(names)])
				i++
			}
		})
	}
	all := make([]name, len(p.names))
	for i := range p.names {
		all[i] = parse(p.names[i])
	}
	b.Run("brute force", func(b *testing.B) {
		i := 0
		for b.Loop() {
			n := parse(asked["others"][i%1_000])
			for j := range all {
				n.similarity(&all[j])
			}
			i++
		}
	})
}
