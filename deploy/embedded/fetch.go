//go:build !noembed && (linux || darwin)

package embedded

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	// fetchLimit is how long one npm pack may take: 180 MB at 1 Mbit/s is 25 minutes.
	fetchLimit = 30 * time.Minute
	// progressEvery is how often the growing download is measured.
	progressEvery = 500 * time.Millisecond
)

// fetched returns the folder of the unpacked package, fetching it on first use. Two processes that fetch at once take
// turns; a folder that exists is complete because it is renamed into place last.
func fetched(ctx context.Context, p enginePackage, cache string, progress func(string, int64, int64)) (string, error) {
	dir := filepath.Join(cache, fmt.Sprintf("%s-%s-%s", p.engine, p.version, platform()))
	if complete(dir, p) {
		return dir, nil
	}
	if err := makeOpenFolder(cache); err != nil {
		return "", &OptionError{Name: "CacheDir", Reason: fmt.Sprintf("cannot be created (%v): set %s", err, CacheVariable)}
	}
	lock, err := waitLock(ctx, filepath.Join(cache, p.engine+".lock"), func() { progress(StageWaitFetch, 0, 0) })
	if err != nil {
		return "", fmt.Errorf("lock cache folder: %w", err)
	}
	defer lock.release()
	if complete(dir, p) {
		return dir, nil
	}
	stage := dir + ".partial"
	defer os.RemoveAll(stage)
	for _, d := range []string{stage, dir} { // leftovers of a killed run, or damaged
		if err := os.RemoveAll(d); err != nil {
			return "", fmt.Errorf("clear cache folder: %w", err)
		}
	}
	if err := os.Mkdir(stage, 0o755); err != nil {
		return "", fmt.Errorf("create cache folder: %w", err)
	}
	return dir, install(ctx, p, stage, dir, progress)
}

// install fetches p into stage, checks and unpacks it, and renames the result to dir.
func install(ctx context.Context, p enginePackage, stage, dir string, progress func(string, int64, int64)) error {
	tgz, err := npmPack(ctx, p, stage, progress)
	if err != nil {
		return err
	}
	if err := verify(p, tgz); err != nil {
		return err // stage is deleted by the caller
	}
	root := filepath.Join(stage, "root")
	if err := unpack(ctx, p, tgz, root, progress); err != nil {
		return &UnpackError{Package: p.spec(), Err: err}
	}
	if err := os.Rename(root, dir); err != nil {
		return &UnpackError{Package: p.spec(), Err: err}
	}
	return nil
}

// npmPack runs the npm client, the one that knows the registry, and returns the .tgz. It keeps npm's cache inside
// stage: that is where the download grows, and the user's own cache is spared a second copy.
func npmPack(ctx context.Context, p enginePackage, stage string, progress func(string, int64, int64)) (string, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", &NpmMissingError{}
	}
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	npmCache := filepath.Join(stage, "npm")
	cmd := exec.CommandContext(ctx, npm, "pack", p.spec(), "--json", "--pack-destination", stage,
		"--cache", npmCache, "--loglevel", "error", "--no-update-notifier", "--ignore-scripts")
	cmd.Dir = stage
	cmd.WaitDelay = 2 * time.Second // npm's own children may keep its output open
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	stop := reportGrowth(p, npmCache, progress)
	err = cmd.Run()
	stop()
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", &FetchError{Package: p.spec(), Reason: npmReason(msg.String(), out.String(), err)}
	}
	tgz, err := filepath.Glob(filepath.Join(stage, "*.tgz"))
	if err != nil || len(tgz) != 1 {
		return "", &FetchError{Package: p.spec(), Reason: "npm left no package file"}
	}
	return tgz[0], nil
}

// reportGrowth reports the size of dir as the stage's progress until stopped.
func reportGrowth(p enginePackage, dir string, progress func(string, int64, int64)) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	progress(p.stageFetch, 0, p.packedBytes)
	go func() {
		defer close(ended)
		t := time.NewTicker(progressEvery)
		defer t.Stop()
		for {
			select {
			case <-done:
				progress(p.stageFetch, p.packedBytes, p.packedBytes)
				return
			case <-t.C:
				progress(p.stageFetch, min(folderSize(dir), p.packedBytes-1), p.packedBytes)
			}
		}
	}()
	return func() { close(done); <-ended }
}

// folderSize sums the files below dir; files that vanish meanwhile do not count.
func folderSize(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

// npmReason picks the line of npm's output that says why.
func npmReason(stderr, stdout string, err error) string {
	var answer struct {
		Error struct{ Code, Summary string }
	}
	if json.Unmarshal([]byte(stdout), &answer) == nil && answer.Error.Code != "" {
		summary, _, _ := strings.Cut(answer.Error.Summary, "\n")
		return strings.TrimSpace(answer.Error.Code + " " + summary)
	}
	for line := range strings.Lines(stderr) {
		if s, ok := strings.CutPrefix(strings.TrimSpace(line), "npm error "); ok {
			return strings.TrimSpace(s)
		}
	}
	return err.Error()
}

// verify compares the file with the checksum pinned for the package, if there is one, and deletes it when it differs.
func verify(p enginePackage, tgz string) error {
	if p.integrity == "" {
		return nil
	}
	f, err := os.Open(tgz)
	if err != nil {
		return fmt.Errorf("open download: %w", err)
	}
	defer f.Close()
	h := sha512.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("read download: %w", err)
	}
	got := "sha512-" + base64.StdEncoding.EncodeToString(h.Sum(nil))
	if got != p.integrity {
		return errors.Join(&ChecksumError{Package: p.spec(), Got: got, Want: p.integrity}, os.Remove(tgz))
	}
	return nil
}
