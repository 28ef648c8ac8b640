package lists

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/rules"
)

// What is written for the control topic is read back the same, and a tombstone says what it removes.
func TestEntriesSurviveTheControlTopic(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := anEntry.Draw(t, "entry")
		want.Added, want.Reason, want.By = noon.Add(-time.Hour), rapid.StringN(0, 20, -1).Draw(t, "reason"), "ann"
		key, value, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, removed, err := Decode(key, value)
		if err != nil || removed || !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v, %v, %v\nwant %+v", got, removed, err, want)
		}
		got, removed, err = Decode(key, nil)
		if err != nil || !removed || got.Key() != want.Key() {
			t.Fatalf("its tombstone is %+v, %v, %v", got, removed, err)
		}
	})
}

func TestValuesHaveOneForm(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		" 10.1.2.3/8 ": "10.0.0.0/8", "10.1.2.3": "10.1.2.3/32", "2001:DB8::/32": "2001:db8::/32", "::ffff:10.1.2.3": "10.1.2.3/32",
		"::ffff:10.1.2.3/120": "10.1.2.0/24", "0.0.0.0/0": "0.0.0.0/0",
	} {
		if e, err := New("deny", CIDR, text); err != nil || e.Value != want {
			t.Errorf("%q is %q, %v; want %q", text, e.Value, err, want)
		}
	}
}

// Each mistake is refused with a word on what to do.
func TestMistakesAreRefused(t *testing.T) {
	t.Parallel()
	good := func() Entry { return Entry{List: "deny", Value: "x", Added: noon} }
	for what, c := range map[string]struct {
		edit func(*Entry)
		say  string
	}{
		"list name":      {func(e *Entry) { e.List = "Deny/All" }, "small letters"},
		"no value":       {func(e *Entry) { e.Value = "" }, "empty"},
		"blanks":         {func(e *Entry) { e.Value = "x " }, "blanks"},
		"long":           {func(e *Entry) { e.Value = strings.Repeat("x", MaxValue+1) }, "at most"},
		"control":        {func(e *Entry) { e.Value = "a\x00b" }, "control"},
		"block":          {func(e *Entry) { e.Kind, e.Value = CIDR, "10.0.0.0/33" }, "203.0.113.0/24"},
		"host bits":      {func(e *Entry) { e.Kind, e.Value = CIDR, "10.0.0.1/8" }, "write 10.0.0.0/8"},
		"mixed block":    {func(e *Entry) { e.Kind, e.Value = CIDR, "::ffff:0:0/64" }, "two entries"},
		"not added":      {func(e *Entry) { e.Added = time.Time{} }, "added is missing"},
		"expired":        {func(e *Entry) { e.Expires = e.Added }, "not after"},
		"reason":         {func(e *Entry) { e.Reason = strings.Repeat("r", MaxReason+1) }, "longer"},
		"endless snooze": {func(e *Entry) { e.List, e.Value = rules.SnoozeList, "r/customer/C1" }, "give expires"},
		"long snooze": {func(e *Entry) {
			e.List, e.Value, e.Expires = rules.SnoozeList, "r/customer/C1", noon.Add(MaxSnooze+1)
		}, "change the rule"},
		"snoozed for all": {func(e *Entry) { e.List, e.Kind, e.Value = rules.SnoozeList, Prefix, "r/customer/" }, "card-testing/customer/C42"},
		"half a snooze":   {func(e *Entry) { e.List, e.Value = rules.SnoozeList, "r/customer" }, "card-testing/customer/C42"},
	} {
		e := good()
		c.edit(&e)
		if err := e.Check(); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v; want a word of %q", what, err, c.say)
		}
	}
	for key, value := range map[string]string{
		"deny":         `{}`,
		"deny/value/x": `{"list":"deny","kind":"value","value":"y","added":"2026-11-24T12:00:00Z"}`,
		"deny/value/y": `{"list":"deny","kind":"value","value":"y"}`,
		"deny/what/y":  `{"list":"deny","kind":"what","value":"y","added":"2026-11-24T12:00:00Z"}`,
		"deny/value/z": `not json`,
	} {
		if e, _, err := Decode([]byte(key), []byte(value)); err == nil {
			t.Errorf("%s: %s is read as %+v", key, value, e)
		}
	}
}

// FuzzDecode: any record gives an entry or an error; an entry that is given can be put into a set and survives its encoding.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("deny/cidr/10.0.0.0/8"), []byte(`{"list":"deny","kind":"cidr","value":"10.0.0.0/8","added":"2026-11-24T12:00:00Z","expires":"2027-01-01T00:00:00Z"}`))
	f.Add([]byte("snooze/value/r/customer/C1"), []byte(nil))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		e, removed, err := Decode(key, value)
		if err != nil {
			return
		}
		s := NewSet()
		if err := s.Put(e); err != nil {
			t.Fatalf("%+v cannot be put: %v", e, err)
		}
		if removed {
			return
		}
		key2, value2, err := e.Encode()
		if err != nil || string(key2) != string(key) {
			t.Fatalf("%+v has key %s, then %s, %v", e, key, key2, err)
		}
		if again, _, err := Decode(key2, value2); err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("encoded again it is %+v, %v; was %+v", again, err, e)
		}
	})
}
