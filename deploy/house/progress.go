package house

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// redraw bounds how often a progress line is drawn on a terminal, plain how often it is written to a file.
const (
	redraw = 200 * time.Millisecond
	plain  = 10 * time.Second
)

// ticker draws one line over and over on a terminal, and now and then a line of its own elsewhere.
type ticker struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	drawn    time.Time
	open     bool // a line without its end stands on the terminal
}

func newTicker(w io.Writer) *ticker {
	t := &ticker{w: w}
	if f, ok := w.(*os.File); ok {
		if st, err := f.Stat(); err == nil {
			t.terminal = st.Mode()&os.ModeCharDevice != 0
		}
	}
	return t
}

// line shows text; the last one of a piece of work is always shown.
func (t *ticker) line(text string, last bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	every := plain
	if t.terminal {
		every = redraw
	}
	if now := time.Now(); last || now.Sub(t.drawn) >= every {
		t.drawn = now
	} else {
		return
	}
	switch {
	case !t.terminal:
		fmt.Fprintln(t.w, text)
	case last:
		fmt.Fprintf(t.w, "\r\033[K%s\n", text)
	default:
		fmt.Fprintf(t.w, "\r\033[K%s", text)
	}
	t.open = t.terminal && !last
}

// end closes a line that is still open.
func (t *ticker) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open {
		fmt.Fprintln(t.w)
		t.open = false
	}
}

// Progress returns a function that draws how far a long stage is.
func Progress(w io.Writer) func(stage string, done, total int64) {
	t := newTicker(w)
	return func(stage string, done, total int64) {
		t.line(bar(stage, done, total), total > 0 && done >= total)
	}
}

// Line returns a function that shows what is being done now.
func Line(w io.Writer) func(text string) {
	t := newTicker(w)
	return func(text string) { t.line(text, text == "") }
}

const barWidth = 30

func bar(stage string, done, total int64) string {
	if total <= 0 {
		return fmt.Sprintf("%-34s %s", stage, size(done))
	}
	full := int(min(done, total) * barWidth / total)
	return fmt.Sprintf("%-34s [%s%s] %3d %%", stage, strings.Repeat("█", full), strings.Repeat("·", barWidth-full), min(done, total)*100/total)
}

func size(n int64) string {
	if n < 1<<20 {
		return ""
	}
	return fmt.Sprintf("%d MB", n>>20)
}

// thousands writes 1234567 as 1,234,567.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
