//go:build !noembed && (linux || darwin)

package embedded

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
)

const (
	// childVariable tells a re-executed process that it is the ClickHouse child, and how.
	childVariable = "SLUICE_CLICKHOUSE_CHILD"
	// orphanLimit is how long the child may take to close its tables once its parent is gone.
	orphanLimit = 5 * time.Second
	// orphanPoll is how often the child looks whether its parent is still there.
	orphanPoll = 200 * time.Millisecond
)

// childOrder is what the parent asks of the child.
type childOrder struct {
	Library string
	Args    []string
	Parent  int
}

// childReady says that ClickHouseChild was called: without it a re-executed program would run itself again.
var childReady atomic.Bool

// ClickHouseChild must be called first in main and in TestMain. If this process was started as the ClickHouse child, it
// serves until its standard input closes and exits; otherwise it returns at once.
func ClickHouseChild() {
	order := os.Getenv(childVariable)
	if order == "" {
		childReady.Store(true)
		return
	}
	os.Unsetenv(childVariable)
	var o childOrder
	if err := json.Unmarshal([]byte(order), &o); err != nil {
		fmt.Fprintln(os.Stderr, "Error: read the order of the ClickHouse child:", err)
		os.Exit(2)
	}
	go leaveWithParent(o.Parent)
	os.Exit(serveClickHouse(o))
}

// leaveWithParent ends this process when its parent is gone and closing the tables takes too long.
func leaveWithParent(parent int) {
	for os.Getppid() == parent {
		time.Sleep(orphanPoll)
	}
	time.Sleep(orphanLimit)
	os.Exit(3)
}

// serveClickHouse loads the library and runs it until standard input closes.
func serveClickHouse(o childOrder) int {
	runtime.LockOSThread()
	lib, err := purego.Dlopen(o.Library, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error: load ClickHouse:", err)
		return 2
	}
	var run func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	var message func(result unsafe.Pointer) string
	purego.RegisterLibFunc(&run, lib, "chdb_query_cmdline")
	purego.RegisterLibFunc(&message, lib, "chdb_result_error")
	argv, keep := cStrings(o.Args)
	result := run(int32(len(o.Args)), unsafe.Pointer(&argv[0]))
	runtime.KeepAlive(keep)
	if result == nil {
		return 0
	}
	if m := message(result); m != "" {
		fmt.Fprintln(os.Stderr, "Error: ClickHouse:", m)
		return 1
	}
	return 0
}

// cStrings makes a C argv, closed by a nil; keep must outlive its use.
func cStrings(args []string) (argv []*byte, keep [][]byte) {
	for _, a := range args {
		b := append([]byte(a), 0)
		keep = append(keep, b)
		argv = append(argv, &b[0])
	}
	return append(argv, nil), keep
}
