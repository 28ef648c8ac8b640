// Package settlement says what the house pays its merchants and what payment channels owe the house: which transfers a
// cut-off takes in, what is netted, held back and released, when it is due, and the files that tell a bank to pay. It reads
// no book, keeps nothing and knows no clock: the times of transfers decide.
package settlement

import (
	"fmt"
	"time"
	_ "time/tzdata" // a machine without a time zone database settles as any other

	"sluice/pipelines/reconcile"
)

// Day is a calendar day, without a time zone.
type Day = reconcile.Day

// Convention is where a date goes that is no business day, by the names of the 2006 ISDA Definitions, section 4.12.
type Convention uint8

// The conventions.
const (
	Following         Convention = iota // the next business day
	ModifiedFollowing                   // the next one, or the last one before where that is in the next month
	Preceding                           // the last business day before
)

var conventionNames = []string{"following", "modified_following", "preceding"}

// String returns the convention in words: "modified_following".
func (c Convention) String() string { return conventionNames[c] }

// Limits of a calendar.
const (
	// MaxHolidays bounds the holidays of a calendar, and its days worked: some forty years of them.
	MaxHolidays = 1000
	// maxClosed bounds the days in a row that are no business days: a calendar with more is most likely mistyped.
	maxClosed = 60
	// MaxAfter bounds the n of T+n, in business days.
	MaxAfter = 60
)

// Calendar says which days are business days, and in which time zone a day begins and ends.
type Calendar struct {
	Name     string
	Location *time.Location
	Weekend  [7]bool      // by time.Weekday
	Holidays map[Day]bool // no business days, whatever day of the week
	Worked   map[Day]bool // business days, though of the weekend
	CutOff   int          // minutes after midnight, local time; 1440 is the end of the day
}

// Business says whether a day is a business day.
func (c *Calendar) Business(d Day) bool {
	return !c.Holidays[d] && (c.Worked[d] || !c.Weekend[d.Time().Weekday()])
}

// Days are the business days that several calendars have in common.
type Days []*Calendar

// Business says whether a day is a business day in each of the calendars.
func (s Days) Business(d Day) bool {
	for _, c := range s {
		if !c.Business(d) {
			return false
		}
	}
	return true
}

// Adjust moves a day that is no business day by a convention.
func (s Days) Adjust(d Day, by Convention) Day {
	if s.Business(d) {
		return d
	}
	if by == Preceding {
		return s.step(d, -1)
	}
	next := s.step(d, 1)
	if by == ModifiedFollowing && next.Time().Month() != d.Time().Month() {
		return s.step(d, -1)
	}
	return next
}

// Add is the nth business day after a day, T+n; T+0 is the day itself, which need not be a business day.
func (s Days) Add(d Day, n int) Day {
	for range n {
		d = s.step(d, 1)
	}
	return d
}

// step is the next business day in a direction. Where calendars have none in common for a year, it is the day after that:
// Check has refused each calendar of that kind alone.
func (s Days) step(d Day, by Day) Day {
	for range 366 {
		if d += by; s.Business(d) {
			return d
		}
	}
	return d
}

// Moment is when a clock in the calendar's time zone shows a time of a day, in minutes after midnight. A time that the clock
// skips (summer time begins) is the moment of the skip; of one that it shows twice it is the first.
func (c *Calendar) Moment(d Day, minutes int) time.Time {
	y, m, day := d.Time().Date()
	t := time.Date(y, m, day, 0, minutes, 0, 0, c.Location)
	want := time.Date(y, m, day, 0, minutes, 0, 0, time.UTC) // what the clock is to show
	start, end := t.ZoneBounds()
	switch shown := wall(t); {
	case shown.After(want): // skipped, and counted by the offset before
		return start.UTC()
	case shown.Before(want):
		return end.UTC()
	}
	if start.IsZero() {
		return t.UTC()
	}
	_, now := t.Zone()
	_, before := start.Add(-time.Nanosecond).Zone()
	if first := t.Add(time.Duration(now-before) * time.Second); first.Before(start) && first.Before(t) {
		return first.UTC()
	}
	return t.UTC()
}

// wall is what a clock on the wall shows, as if it stood in UTC.
func wall(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// Today is the day of a moment in the calendar's time zone.
func (c *Calendar) Today(t time.Time) Day { return reconcile.DayOf(t.In(c.Location)) }

// Every says on which business days cut-offs are.
type Every struct {
	Weekly  bool         // once a week, on Weekday, or the last business day before it
	Weekday time.Weekday // of Weekly
	Monthly bool         // on the last business day of a month
}

// CutOffs are the cut-offs of one schedule: one on each business day, or on some of them.
type CutOffs struct {
	*Calendar
	Minutes int // after midnight
	Every   Every
}

// Has says whether a day has a cut-off.
func (c CutOffs) Has(d Day) bool {
	own := Days{c.Calendar}
	switch {
	case !c.Business(d):
		return false
	case c.Every.Weekly: // the weekday that comes next, or what stands for it
		day := d + Day((c.Every.Weekday-d.Time().Weekday()+7)%7)
		return own.Adjust(day, Preceding) == d
	case c.Every.Monthly:
		return own.Add(d, 1).Time().Month() != d.Time().Month()
	}
	return true
}

// At is a business day's cut-off: what happened before it is in.
func (c CutOffs) At(d Day) time.Time { return c.Moment(d, c.Minutes) }

// From is the first day with a cut-off from a day on.
func (c CutOffs) From(d Day) Day {
	for n := 0; !c.Has(d) && n < maxScan; n++ {
		d++
	}
	return d
}

// Until is the last day with a cut-off up to a day.
func (c CutOffs) Until(d Day) Day {
	for n := 0; !c.Has(d) && n < maxScan; n++ {
		d--
	}
	return d
}

// maxScan bounds the days between two cut-offs: a month, and a calendar's longest time without a business day, twice.
const maxScan = 31 + 2*maxClosed

// Takes is the day whose cut-off is the first after a moment.
func (c CutOffs) Takes(t time.Time) Day {
	d := c.From(c.Today(t) - 2) // a cut-off at the end of a day is on the next, and the clock may have been put back
	for !c.At(d).After(t) {
		d = c.From(d + 1)
	}
	return d
}

// Last is the last day whose cut-off has come by a moment.
func (c CutOffs) Last(t time.Time) Day {
	d := c.Until(c.Today(t) + 1)
	for c.At(d).After(t) {
		d = c.Until(d - 1)
	}
	return d
}

// Next is the first day with a cut-off after a day.
func (c CutOffs) Next(d Day) Day { return c.From(d + 1) }

// check refuses a calendar with too many days in a row that are no business days.
func (c *Calendar) check() error {
	closed := 0
	for d := range c.Holidays {
		for closed = 0; !c.Business(d + Day(closed)); closed++ {
			if closed > maxClosed {
				return fmt.Errorf("%s begins more than %d days without a business day", d, maxClosed)
			}
		}
	}
	for _, closed := range c.Weekend {
		if !closed {
			return nil
		}
	}
	return fmt.Errorf("every day of the week is weekend")
}
