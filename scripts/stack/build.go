package stack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/failwell/shared/testenv"
)

// keepBinaries is for how long an unused binary is kept.
const keepBinaries = 24 * time.Hour

// build has a binary of each program in s.Dir. They are built in a directory of the
// user's cache that belongs to this tree and these edits: there, `go build` links only
// what has changed since the last time. A program that an overlay does not reach is
// the unedited one.
func (s *Stack) build(ctx context.Context, root string, overlay map[string]string) error {
	for _, name := range Processes {
		edited, err := reaches(overlay, name)
		edits := overlay
		if !edited {
			edits = nil
		}
		if err == nil {
			err = s.buildOne(ctx, root, edits, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Stack) buildOne(ctx context.Context, root string, overlay map[string]string, name string) error {
	kept, unlock, err := s.binaries(root, overlay)
	if err != nil {
		return err
	}
	defer unlock()
	flags, err := OverlayFlags(kept, root, overlay)
	if err != nil {
		return err
	}
	binary := filepath.Join(kept, name)
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build"}, flags...), "-ldflags=-s -w", "-o", binary, packageOf(name))...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("stack: build %s: %w\n%s", packageOf(name), err, out)
	}
	// What runs must not change under its supervisor when the tree is built again.
	if os.Link(binary, filepath.Join(s.Dir, name)) == nil {
		return nil
	}
	content, err := os.ReadFile(binary) // another file system
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.Dir, name), content, 0o755) //nolint:gosec // a program
}

// reaches tells whether an overlay changes a program: a package that it is made of, or
// what such a package embeds.
func reaches(overlay map[string]string, name string) (bool, error) {
	if len(overlay) == 0 {
		return false, nil
	}
	packages, err := madeOf()
	for file := range overlay {
		for dir := path.Dir(file); dir != "."; dir = path.Dir(dir) {
			if slices.Contains(packages[name], dir) {
				return true, err
			}
			if path.Ext(file) == ".go" {
				break
			}
		}
	}
	return false, err
}

// madeOf are the packages of this repository that each program is made of.
var madeOf = sync.OnceValues(func() (map[string][]string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return nil, err
	}
	packages := map[string][]string{}
	for _, name := range Processes {
		cmd := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, packageOf(name))
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("stack: go list: %w", err)
		}
		all := strings.Fields(string(out))
		module := strings.TrimSuffix(all[0], strings.TrimPrefix(packageOf(name), "."))
		for _, each := range all {
			if dir, ours := strings.CutPrefix(each, module+"/"); ours {
				packages[name] = append(packages[name], dir)
			}
		}
	}
	return packages, nil
})

// binaries is where the binaries of this tree with these edits are kept. A tenant with
// other edits than the last time builds in the same place, so that they do not pile up.
// It is ours until unlock.
func (s *Stack) binaries(root string, overlay map[string]string) (dir string, unlock func(), err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", nil, err
	}
	cache = filepath.Join(cache, "failwell-binaries")
	content := sha256.New()
	fmt.Fprintln(content, root)
	for _, file := range slices.Sorted(maps.Keys(overlay)) {
		fmt.Fprintf(content, "%s\n%s\n", s.tenant, file)
		if s.tenant == "" {
			fmt.Fprintln(content, overlay[file])
		}
	}
	dir = filepath.Join(cache, hex.EncodeToString(content.Sum(nil)[:8]))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", nil, err
	}
	lock, err := testenv.Lock(filepath.Join(dir, "lock"), true)
	if err != nil {
		return "", nil, err
	}
	now := time.Now()
	err = os.Chtimes(dir, now, now)
	old, _ := filepath.Glob(filepath.Join(cache, "*"))
	for _, each := range old {
		if is, err := os.Stat(each); err == nil && now.Sub(is.ModTime()) > keepBinaries {
			_ = os.RemoveAll(each)
		}
	}
	return dir, func() { _ = lock.Close() }, err
}
