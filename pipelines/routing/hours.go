package routing

import (
	"time"
	_ "time/tzdata" // so that a zone has its rules where the system has none
)

// Hours are when a channel is open, by the clock of its zone. A window that ends before it begins runs over midnight and
// belongs to the day it begins on. Where clocks are put forward, an hour that does not exist is never; where they are put
// back, the hour that comes twice is open twice.
type Hours struct {
	Zone     *time.Location
	Days     uint8          // bits by time.Weekday
	From, To int            // minutes of the day; To is the first that is closed, up to 1440
	Holidays map[int64]bool // closed, by days since 1970-01-01
}

const (
	daySeconds = 86_400
	dayMinutes = 1_440
)

// local is a moment by the clock of a zone.
type local struct {
	day     int64 // since 1970-01-01
	minute  int   // of the day
	weekday time.Weekday
}

// localTime reads the clock of a zone.
func localTime(at time.Time, zone *time.Location) local {
	_, offset := at.In(zone).Zone()
	seconds := at.Unix() + int64(offset)
	day := seconds / daySeconds
	if seconds < day*daySeconds { // before 1970
		day--
	}
	return local{day, int(seconds-day*daySeconds) / 60, weekday(day)}
}

// weekday of a day since 1970-01-01, which was a Thursday.
func weekday(day int64) time.Weekday { return time.Weekday(((day+int64(time.Thursday))%7 + 7) % 7) }

// open says whether the channel works then.
func (h *Hours) open(l local) bool {
	if h.From < h.To {
		return l.minute >= h.From && l.minute < h.To && h.works(l.day)
	}
	return l.minute >= h.From && h.works(l.day) || l.minute < h.To && h.works(l.day-1)
}

// works says whether the channel opens on a day.
func (h *Hours) works(day int64) bool { return h.Days&(1<<weekday(day)) != 0 && !h.Holidays[day] }

// Open says whether the channel works at a moment.
func (h *Hours) Open(at time.Time) bool { return h == nil || h.open(localTime(at, h.Zone)) }
