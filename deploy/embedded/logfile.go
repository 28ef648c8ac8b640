//go:build !noembed && (linux || darwin)

package embedded

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

const (
	// logLimit is the size at which an engine's log moves to .1, replacing the one before: at most twice this on disk.
	logLimit = 8 << 20
	// logTail is how much of the end is kept in memory to say why an engine did not start.
	logTail = 8 << 10
)

// logFile takes an engine's output.
type logFile struct {
	path string
	mu   sync.Mutex
	f    *os.File
	size int64
	tail []byte
}

func openLog(path string) (*logFile, error) {
	l := &logFile{path: path}
	return l, l.open()
}

func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open engine log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("open engine log: %w", err)
	}
	l.f, l.size = f, st.Size()
	return nil
}

// Write never fails: an engine must not stop because its log cannot be written.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, b...)
	if over := len(l.tail) - logTail; over > 0 {
		l.tail = append(l.tail[:0], l.tail[over:]...)
	}
	if l.f == nil {
		return len(b), nil
	}
	if l.size+int64(len(b)) > logLimit {
		l.f.Close()
		_ = os.Rename(l.path, l.path+".1")
		if l.f = nil; l.open() != nil {
			return len(b), nil
		}
	}
	n, _ := l.f.Write(b)
	l.size += int64(n)
	return len(b), nil
}

// lastLine is the last line that says something went wrong, or else the last one.
func (l *logFile) lastLine() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(string(bytes.TrimSpace(l.tail)), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.Contains(lines[i], "FATAL") || strings.Contains(lines[i], "rror") || strings.Contains(lines[i], "xception") {
			return strings.TrimSpace(lines[i])
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}

// mentions says whether the tail has text.
func (l *logFile) mentions(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.tail, []byte(text))
}

// forget empties the tail, so that lastLine speaks of what comes next.
func (l *logFile) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = l.tail[:0]
}

func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}

var _ io.WriteCloser = (*logFile)(nil)
