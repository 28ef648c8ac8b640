package names

import (
	"strings"
	"unicode/utf8"

	"github.com/mozillazg/go-pinyin"
	"golang.org/x/text/unicode/norm"
)

// simplified maps traditional characters to simplified ones.
var simplified = func() map[rune]rune {
	m := map[rune]rune{}
	pairs := []rune(traditional)
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}()

func simplify(r rune) rune {
	if s, ok := simplified[r]; ok {
		return s
	}
	return r
}

// compounds are the surnames of two characters that are still met, with how they are read.
var compounds = map[string]string{"欧阳": "ouyang", "司马": "sima", "上官": "shangguan", "诸葛": "zhuge", "司徒": "situ", "皇甫": "huangfu",
	"尉迟": "yuchi", "长孙": "zhangsun", "慕容": "murong", "令狐": "linghu", "夏侯": "xiahou", "轩辕": "xuanyuan", "东方": "dongfang",
	"公孙": "gongsun", "宇文": "yuwen", "司空": "sikong", "百里": "baili", "南宫": "nangong", "万俟": "moqi", "独孤": "dugu"}

// surnameReadings are surnames that are read otherwise than the character mostly is.
var surnameReadings = map[rune]string{'单': "shan", '解': "xie", '仇': "qiu", '曾': "zeng", '区': "ou", '查': "zha", '朴': "piao", '翟': "zhai",
	'乐': "yue", '盖': "ge", '任': "ren", '缪': "miao", '宁': "ning", '员': "yun", '覃': "qin", '谌': "chen", '牟': "mou", '隗': "wei",
	'种': "chong", '召': "shao", '折': "she", '繁': "po", '尹': "yin", '燕': "yan", '华': "hua", '卜': "bu", '洗': "xian", '冼': "xian",
	'石': "shi", '车': "che", '冯': "feng", '葛': "ge", '过': "guo", '令': "ling", '哈': "ha", '那': "na", '黑': "he", '秘': "bi", '薄': "bo"}

// reading is how a character is mostly read, without tone; ü is v. It is "" for a character that the table lacks.
func reading(r rune) string {
	first, _, _ := strings.Cut(pinyin.PinyinDict[int(r)], ",")
	var b strings.Builder
	for _, r := range norm.NFC.String(first) {
		switch r {
		case 'ü', 'ǖ', 'ǘ', 'ǚ', 'ǜ':
			b.WriteByte('v')
			continue
		}
		if decomposed := norm.NFD.AppendString(nil, string(r)); decomposed[0] < utf8.RuneSelf {
			b.WriteByte(decomposed[0])
		}
	}
	return b.String()
}

// readHan reads a run of characters as words: surname and given name, or one word if it is not a person's Chinese name.
func readHan(run []character, whole bool) []word {
	if whole || len(run) < 2 || len(run) > 4 {
		if w := join(run, ""); w.text != "" {
			return []word{w}
		}
		return nil
	}
	at, surname := 1, surnameReadings[run[0].is]
	if text, ok := compounds[string([]rune{run[0].is, run[1].is})]; ok && len(run) > 2 {
		at, surname = 2, text
	}
	first, second := join(run[:at], surname), join(run[at:], "")
	if first.text == "" || second.text == "" {
		return []word{join(run, "")}
	}
	return []word{first, second}
}

// join makes a word of how characters are read; text, unless empty, is how they are.
func join(run []character, text string) word {
	if text != "" {
		return newWord(text)
	}
	w := word{}
	for i := range run {
		s := run[i].reading
		if s == "" {
			s = string(run[i].is)
		}
		w.syllables = append(w.syllables, s)
	}
	w.text = strings.Join(w.syllables, "")
	w.pinyin = pinyinOf[w.text]
	return w
}

// likeHan compares two Chinese names by their characters: the best alignment in order, a character counting 1 where it is the
// same and sameReading where it only reads alike, over the mean length. A name written given name first is turned around.
func likeHan(a, b *name) int {
	score := alignHan(a.han, b.han)
	for _, pair := range [2][2]*name{{a, b}, {b, a}} {
		if han := pair[0].han; turns(han) {
			score = max(score, alignHan(turn(han), pair[1].han)*swapped/one)
		}
	}
	return score
}

// turns says whether the last character of a person's name can be the surname.
func turns(han []character) bool {
	return len(han) >= 2 && len(han) <= 4 && surnames[han[len(han)-1].reading]
}

func turn(han []character) []character {
	return append(append(make([]character, 0, len(han)), han[len(han)-1]), han[:len(han)-1]...)
}

// turned is a Chinese name with its last character as the surname.
func (n *name) turned() name {
	han := turn(n.han)
	return name{han: han, words: readHan(han, false), sound: true}
}

func alignHan(a, b []character) int {
	var rows [2][maxHan + 1]int
	for i := range a {
		row, above := &rows[(i+1)%2], &rows[i%2]
		for j := range b {
			row[j+1] = max(above[j+1], row[j], above[j]+likeCharacter(&a[i], &b[j]))
		}
	}
	return 2 * rows[len(a)%2][len(b)] / (len(a) + len(b))
}

func likeCharacter(a, b *character) int {
	switch {
	case a.is == b.is:
		return one
	case a.reading != "" && a.reading == b.reading:
		return sameReading
	}
	return 0
}
