//go:build !noembed && (linux || darwin)

package embedded

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
)

// writerVariable makes the test program a writer that starts engines in the folder it names and writes until killed.
const writerVariable = "SLUICE_TEST_WRITER"

// writeUntilKilled prints the number of each write that all engines have confirmed.
func writeUntilKilled(dir string) {
	ctx := context.Background()
	e, err := Start(ctx, all(dir))
	if err != nil {
		fmt.Println("start:", err)
		os.Exit(1)
	}
	s, err := open(ctx, e)
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	if err := s.create(ctx); err != nil {
		fmt.Println("create:", err)
		os.Exit(1)
	}
	for id := 1; ; id++ {
		runtime.GC() // engines run until Stop, also when nobody refers to them any more
		if err := s.write(ctx, id); err != nil {
			fmt.Println("write:", err)
			os.Exit(1)
		}
		fmt.Println(id)
	}
}

// After kill -9 in the middle of writing, the engines' processes go, the next start recovers, and what was confirmed is
// there.
func TestDataSurvivesKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	probe := started(t, all(t.TempDir())) // skips where the engines cannot be fetched
	if err := probe.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	confirmed := killWriterAfter(t, dir, 30)
	for orphan(postgresDir(Options{DataDir: dir})) != 0 {
		if err := sleep(t.Context(), readyPoll); err != nil {
			t.Fatalf("Postgres is left behind: %v", err)
		}
	}
	lock, err := waitLock(t.Context(), clickHouseLock(Options{DataDir: dir}), func() {})
	if err != nil {
		t.Fatalf("ClickHouse is left behind: %v", err)
	}
	lock.release()
	recovered(t, dir, confirmed)
}

// The next start does not need to wait for the processes of the killed run to go: it sees to that itself.
func TestStartRightAfterKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	probe := started(t, all(t.TempDir()))
	if err := probe.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	recovered(t, dir, killWriterAfter(t, dir, 5))
}

// killWriterAfter kills a writer once it has confirmed n writes, and returns how many it confirmed in the end.
func killWriterAfter(t *testing.T, dir string, n int) (confirmed int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	writer := exec.Command(self)
	writer.Env = append(os.Environ(), writerVariable+"="+dir)
	writer.Stderr = os.Stderr
	out, err := writer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		id, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Errorf("writer: %s", lines.Text())
			break
		}
		if confirmed = id; id == n {
			_ = writer.Process.Kill()
		}
	}
	_ = writer.Process.Kill()
	_ = writer.Wait()
	if confirmed < n {
		t.Fatalf("writer ended after %d writes", confirmed)
	}
	return confirmed
}

// recovered starts engines on dir and checks that nothing confirmed is missing and at most one write is there besides.
func recovered(t *testing.T, dir string, confirmed int) {
	t.Helper()
	s := opened(t, started(t, all(dir)))
	k, p, c, err := s.counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for engine, n := range map[string]int{"Kafka": k, "Postgres": p, "ClickHouse": c} {
		if n < confirmed || n > confirmed+1 {
			t.Errorf("%s has %d of %d confirmed writes", engine, n, confirmed)
		}
	}
	if err := s.write(t.Context(), confirmed+10); err != nil {
		t.Errorf("write after recovery: %v", err)
	}
}
