package lists

import (
	"encoding/csv"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestImportReadsEveryColumn(t *testing.T) {
	t.Parallel()
	file := "\xef\xbb\xbfkind,value,expires,reason\r\n,tok_1,,\r\ncidr,10.1.2.3/8,2026-12-31,\"VPN, leased\"\r\nname,Ann Example,2026-12-31T18:00:00+08:00,\r\n"
	got, err := ParseCSV(strings.NewReader(file), "watch", "ann", noon)
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{
		{"watch", Value, "tok_1", "", "ann", noon, time.Time{}},
		{"watch", CIDR, "10.0.0.0/8", "VPN, leased", "ann", noon, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"watch", Name, "Ann Example", "", "ann", noon, time.Date(2026, 12, 31, 10, 0, 0, 0, time.UTC)},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// Every mistake is told with its line and what to do, and nothing of the file counts.
func TestImportTellsEveryMistake(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		file string
		say  []string
	}{
		"empty":          {"", []string{"value,kind,reason,expires"}},
		"no header":      {"tok_1,value\n", []string{"line 1", "tok_1", "value,kind,reason,expires"}},
		"no value":       {"kind,reason\nvalue,x\n", []string{"line 1", "no column value"}},
		"twice a column": {"value,value\nx,y\n", []string{"line 1", "twice"}},
		"nothing":        {"value\n", []string{"no entries"}},
		"lines": {"value,kind,expires\nok,value,\nok,value,\n10.0.0.0/40,cidr,\nx,sort,\ny,value,tomorrow\nz\n,value,\nq,value,2020-01-01\n",
			[]string{"line 3", "line 2 already", "line 4", "203.0.113.0/24", "line 5", "use value, cidr, prefix or name", "line 6", "2026-12-31", "line 7", "columns", "line 8", "empty", "line 9", "not after"}},
		"quote": {"value,reason\nx,\"a\" b\n", []string{"line 2", `""`}},
		"many":  {"value,kind\n" + strings.Repeat("x,y\n", 25), []string{"and 5 lines more"}},
	} {
		got, err := ParseCSV(strings.NewReader(c.file), "watch", "ann", noon)
		if err == nil || got != nil {
			t.Errorf("%s: %v, %v", what, got, err)
			continue
		}
		for _, say := range c.say {
			if !strings.Contains(err.Error(), say) {
				t.Errorf("%s: %v\ndoes not say %q", what, err, say)
			}
		}
	}
}

// One bad line anywhere, and nothing counts; without it everything does.
func TestImportIsAllOrNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 50).Draw(t, "lines")
		bad := rapid.IntRange(0, n).Draw(t, "bad") // 0: none
		var file strings.Builder
		w := csv.NewWriter(&file)
		_ = w.Write([]string{"value", "reason"})
		for i := 1; i <= n; i++ {
			value := fmt.Sprintf("v%d", i)
			if i == bad {
				value = strings.Repeat("v", MaxValue+1)
			}
			_ = w.Write([]string{value, rapid.StringN(0, 10, -1).Draw(t, "reason")})
		}
		w.Flush()
		got, err := ParseCSV(strings.NewReader(file.String()), "watch", "ann", noon)
		if (err != nil) != (bad > 0) || bad == 0 && len(got) != n || bad > 0 && got != nil {
			t.Fatalf("%d lines, bad line %d: %d entries, %v", n, bad, len(got), err)
		}
	})
}

// FuzzParseCSV: any file gives entries that may all be published, or an error.
func FuzzParseCSV(f *testing.F) {
	f.Add("value,kind,reason,expires\nx,value,why,2026-12-31\n")
	f.Fuzz(func(t *testing.T, file string) {
		entries, err := ParseCSV(strings.NewReader(file), "watch", "ann", noon)
		if (err == nil) == (len(entries) == 0) {
			t.Fatalf("%d entries, %v", len(entries), err)
		}
		for _, e := range entries {
			if _, _, err := e.Encode(); err != nil {
				t.Fatalf("%+v: %v", e, err)
			}
		}
	})
}
