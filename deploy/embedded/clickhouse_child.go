//go:build !noembed && (linux || darwin)

package embedded

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/ebitengine/purego"
)

// clickhouseOrder is the library to load and the command line to give it.
type clickhouseOrder struct {
	Library string
	Args    []string
}

// clickhouseNice is how far ClickHouse steps back where CPUs are short: deciding and posting come first, and its inserts and
// merges would take most of a small machine in bursts. At 5 it gets a quarter of a CPU that another also wants.
const clickhouseNice = 5

// serveClickHouse loads the library and runs it until standard input closes.
func serveClickHouse(o clickhouseOrder) int {
	runtime.LockOSThread()
	// Threads that ClickHouse starts have the priority of this one. Without it everything works, only less smoothly.
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, clickhouseNice)
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
