//go:build !noembed

package embedded

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// macOS tells no child that its parent died; the next start finds an orphan by its pid file and stops it.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// commandOf is the program name of a process and the folder after -D in its command line, empty when it is gone.
func commandOf(pid int) (name, dir string) {
	out, err := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return "", ""
	}
	program, rest, _ := strings.Cut(strings.TrimSpace(string(out)), " -D ")
	dir, _, _ = strings.Cut(rest, " -c ")
	return filepath.Base(program), dir
}

// ownExecutable is this program.
func ownExecutable() (string, error) { return os.Executable() }

// macOS has no path to an open folder; ownFolder is empty.
func folderByHandle(f *os.File) string { return f.Name() }

const ownFolder = ""
