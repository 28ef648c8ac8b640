//go:build !noembed && (linux || darwin)

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lockName is the file in the data folder whose lock says that the folder is in use.
const lockName = "lock"

// lockPoll is how often a waiting process looks whether a lock is free.
const lockPoll = 100 * time.Millisecond

// folderLock is a lock file held by this process; the kernel drops it when the process ends, however it ends.
type folderLock struct{ f *os.File }

// heldLocks keeps the files of held locks open: a file that nobody refers to closes by itself.
var heldLocks sync.Map

// tryLock takes the lock file or returns the pid that holds it (0: it did not say).
func tryLock(path string) (*folderLock, int, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, 0, fmt.Errorf("open lock file: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, 0, fmt.Errorf("lock %s: %w", path, err)
		}
		b := make([]byte, 32)
		n, _ := f.ReadAt(b, 0)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
		return nil, pid, errLocked
	}
	if err := f.Truncate(0); err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
		if err != nil {
			f.Close()
			return nil, 0, fmt.Errorf("write lock file: %w", err)
		}
	}
	l := &folderLock{f}
	heldLocks.Store(l, nil)
	return l, 0, nil
}

var errLocked = errors.New("locked by another process")

// waitLock takes the lock file, waiting for its holder; waiting is called once if it must wait.
func waitLock(ctx context.Context, path string, waiting func()) (*folderLock, error) {
	for told := false; ; {
		l, _, err := tryLock(path)
		if !errors.Is(err, errLocked) {
			return l, err
		}
		if !told {
			told = true
			waiting()
		}
		if err := sleep(ctx, lockPoll); err != nil {
			return nil, err
		}
	}
}

func (l *folderLock) release() {
	if l != nil {
		heldLocks.Delete(l)
		l.f.Close()
	}
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// InUse says whether a running process holds the data folder.
func InUse(dataDir string) bool {
	l, _, err := tryLock(filepath.Join(dataDir, lockName))
	if err != nil {
		return errors.Is(err, errLocked)
	}
	l.release()
	return false
}
