package settlement

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/pipelines/reconcile"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func date(text string) Day {
	d, err := reconcile.ParseDay(text)
	if err != nil {
		panic(err)
	}
	return d
}

var zones = []string{"UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut", "Pacific/Apia", "America/Sao_Paulo", "Asia/Kathmandu"}

// anyCalendar draws a calendar of the years around 2011, in which Samoa skipped a day.
func anyCalendar(t *rapid.T) *Calendar {
	l, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
	if err != nil {
		t.Fatal(err)
	}
	c := &Calendar{Location: l, Holidays: map[Day]bool{}, Worked: map[Day]bool{}}
	for range rapid.IntRange(0, 2).Draw(t, "weekend days") {
		c.Weekend[rapid.IntRange(0, 6).Draw(t, "weekend")] = true
	}
	for range rapid.IntRange(0, 40).Draw(t, "holidays") {
		c.Holidays[date("2011-01-01")+Day(rapid.IntRange(0, 800).Draw(t, "holiday"))] = true
	}
	for range rapid.IntRange(0, 10).Draw(t, "worked") {
		c.Worked[date("2011-01-01")+Day(rapid.IntRange(0, 800).Draw(t, "worked"))] = true
	}
	return c
}

// naiveAdjust is the definition, day by day.
func naiveAdjust(business func(Day) bool, d Day, by Convention) Day {
	next, last := d, d
	for !business(next) {
		next++
	}
	for !business(last) {
		last--
	}
	switch {
	case by == Preceding, by == ModifiedFollowing && next.Time().Month() != d.Time().Month():
		return last
	}
	return next
}

func TestCalendarAgreesWithCountingDays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyCalendar(t), anyCalendar(t)
		both := Days{a, b}
		business := func(d Day) bool {
			for _, c := range both {
				weekend := c.Weekend[d.Time().Weekday()]
				if c.Holidays[d] || weekend && !c.Worked[d] {
					return false
				}
			}
			return true
		}
		d := date("2011-03-01") + Day(rapid.IntRange(0, 500).Draw(t, "day"))
		for _, by := range []Convention{Following, ModifiedFollowing, Preceding} {
			if got, want := both.Adjust(d, by), naiveAdjust(business, d, by); got != want {
				t.Fatalf("%s adjusted by %s is %s, want %s", d, by, got, want)
			}
		}
		n, want := rapid.IntRange(0, 20).Draw(t, "n"), d
		for left := n; left > 0; {
			if want++; business(want) {
				left--
			}
		}
		if got := both.Add(d, n); got != want {
			t.Fatalf("%s + %d business days is %s, want %s", d, n, got, want)
		}
	})
}

// A cut-off is the first moment at which a clock on the wall shows its time or a later one, looked for minute by minute.
func TestCutOffIsWhatTheClockShows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := anyCalendar(t)
		d := date("2011-01-02") + Day(rapid.IntRange(0, 720).Draw(t, "day"))
		minutes := rapid.IntRange(1, 24*60).Draw(t, "minutes")
		want := d.Time().Add(time.Duration(minutes) * time.Minute)
		at := want.Add(-28 * time.Hour) // no zone is further ahead, a skipped day included
		for ; wall(at.In(c.Location)).Before(want); at = at.Add(time.Minute) {
		}
		if got := c.Moment(d, minutes); !got.Equal(at) {
			t.Fatalf("%s %d:%02d in %s is %s, the clock shows it at %s", d, minutes/60, minutes%60, c.Location, got, at)
		}
	})
}

func anyEvery(t *rapid.T) Every {
	return rapid.SampledFrom([]Every{{}, {}, {Monthly: true}, {Weekly: true, Weekday: time.Friday}, {Weekly: true, Weekday: time.Sunday}}).Draw(t, "every")
}

// naiveHas goes through the days by the definition: the weekday itself, or the last business day before it; a month's last one.
func naiveHas(c CutOffs, d Day) bool {
	if !c.Business(d) || !c.Every.Weekly && !c.Every.Monthly {
		return c.Business(d)
	}
	for next := d; ; next++ { // until another business day: d stands for those between
		if next > d && c.Business(next) {
			return c.Every.Monthly && next.Time().Month() != d.Time().Month()
		}
		if c.Every.Weekly && next.Time().Weekday() == c.Every.Weekday {
			return true
		}
	}
}

// Every moment is in the first business day's cut-off after it, and Last and Takes agree about where one ends.
func TestEveryMomentHasOneCutOff(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := CutOffs{anyCalendar(t), rapid.IntRange(1, 24*60).Draw(t, "minutes"), anyEvery(t)}
		at := date("2011-02-01").Time().Add(time.Duration(rapid.Int64Range(0, 600*24*60*60).Draw(t, "at")) * time.Second)
		if rapid.Bool().Draw(t, "on a cut-off") {
			at = c.At(c.Takes(at))
		}
		var want, last Day
		for d := date("2010-11-10"); want == 0; d++ {
			switch {
			case !naiveHas(c, d):
			case c.At(d).After(at):
				want = d
			default:
				last = d
			}
		}
		if got := c.Takes(at); got != want {
			t.Fatalf("%s is taken by %s, want %s", at, got, want)
		}
		if got := c.Last(at); got != last {
			t.Fatalf("the last cut-off by %s is %s, want %s", at, got, last)
		}
	})
}

func TestKnownDates(t *testing.T) {
	t.Parallel()
	terms := Standard()
	china := &Calendar{Location: zone(t, "Asia/Shanghai"), Weekend: [7]bool{0: true, 6: true}, Holidays: map[Day]bool{}, Worked: map[Day]bool{date("2026-02-14"): true}}
	for d := date("2026-02-16"); d <= date("2026-02-23"); d++ {
		china.Holidays[d] = true
	}
	berlin := CutOffs{&Calendar{Location: zone(t, "Europe/Berlin")}, 150, Every{}}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"T+1 on Friday", terms.Merchant.ValueDate(date("2026-03-06")), date("2026-03-09")},
		{"a Saturday that is worked", Days{china}.Add(date("2026-02-13"), 1), date("2026-02-14")},
		{"T+2 over the Spring Festival", Days{china}.Add(date("2026-02-13"), 2), date("2026-02-24")},
		{"month end, following", Days{terms.Calendars["utc"]}.Adjust(date("2026-05-30"), Following), date("2026-06-01")},
		{"month end, modified following", Days{terms.Calendars["utc"]}.Adjust(date("2026-05-30"), ModifiedFollowing), date("2026-05-29")},
		{"half past two that is skipped", berlin.At(date("2026-03-29")), time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC)},
		{"half past two that comes twice", berlin.At(date("2026-10-25")), time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC)},
		{"weekly on a Friday that is a holiday", CutOffs{china, 1440, Every{Weekly: true, Weekday: time.Friday}}.From(date("2026-02-10")), date("2026-02-13")},
		{"and the one of the festival's week", CutOffs{china, 1440, Every{Weekly: true, Weekday: time.Friday}}.From(date("2026-02-14")), date("2026-02-14")},
		{"a month's end on a Sunday", CutOffs{terms.Calendars["utc"], 1440, Every{Monthly: true}}.From(date("2026-05-01")), date("2026-05-29")},
		{"midnight UTC", terms.Merchant.CutOffs.At(date("2026-03-06")), time.Date(2026, 3, 7, 0, 0, 0, 0, time.UTC)},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
}
