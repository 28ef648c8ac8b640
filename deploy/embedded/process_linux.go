//go:build !noembed

package embedded

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

func dieWithParent(a *syscall.SysProcAttr, s syscall.Signal) { a.Pdeathsig = s }

// commandOf is the program name and the working folder of a process, empty when it is gone or not ours to see.
func commandOf(pid int) (name, dir string) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "", ""
	}
	dir, _ = os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return strings.TrimSpace(string(b)), dir
}

// ownExecutable is this program, also after its file was replaced or deleted.
func ownExecutable() (string, error) { return "/proc/self/exe", nil }

// folderByHandle is a path to an open folder that needs no permission on its parents.
func folderByHandle(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// ownFolder is the path under which a process always reaches its working folder.
const ownFolder = "/proc/self/cwd"
