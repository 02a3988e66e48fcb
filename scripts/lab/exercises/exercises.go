// Package exercises keeps the bugs that the learner of docs/course finds and repairs: a
// unified diff of the tree each, <number>.diff, and the test that is red with it. The tree
// as it is solves them all. Repairs that look right and are not lie in wrong, <number>-<name>.diff.
package exercises

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"example.com/failwell/scripts/lab/experiments/edits"
)

//go:embed *.diff wrong/*.diff
var diffs embed.FS

// Exercise is one bug.
type Exercise struct {
	N       string // of its lesson; a letter tells the second and later ones apart
	Title   string
	Task    string // what goes wrong, and what the learner has to do
	Package string
	Test    string // red with the bug
	Wrong   []Wrong
}

// Wrong is a repair that looks right and leaves the bug to another moment. A check is worth
// as much as what it refuses, so those that learners came upon are kept.
type Wrong struct {
	Name string
	Test string // of the same package, red with it
}

// Find returns an exercise.
func Find(n string) (Exercise, error) {
	var all []string
	for _, e := range All {
		if e.N == n {
			return e, nil
		}
		all = append(all, e.N)
	}
	return Exercise{}, fmt.Errorf("there is no exercise %q; there are: N=%s", n, strings.Join(all, ", "))
}

// Lesson is the page that the exercise belongs to.
func (e Exercise) Lesson(root string) (string, error) {
	pages, err := filepath.Glob(filepath.Join(root, "docs", "course", e.N[:1]+"-*.md"))
	if err != nil || len(pages) != 1 {
		return "", fmt.Errorf("docs/course has %d pages of lesson %s", len(pages), e.N[:1])
	}
	return "docs/course/" + filepath.Base(pages[0]), nil
}

// Overlay returns the files that have the bug, by their path in the tree.
func (e Exercise) Overlay(root string) (map[string]string, error) { return overlay(root, e.N+".diff") }

// Misled returns the files that have the wrong repair, by their path in the tree.
func (e Exercise) Misled(root string, by Wrong) (map[string]string, error) {
	return overlay(root, "wrong/"+e.N+"-"+by.Name+".diff")
}

func overlay(root, name string) (map[string]string, error) {
	diff, err := diffs.ReadFile(name)
	if err != nil {
		return nil, err
	}
	list, err := edits.Parse(string(diff))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return edits.Overlay(root, name, list)
}

// copied is what a copy has of the tree: all that is compiled.
var copied = []string{"go.mod", "go.sum", "services", "shared", "scripts"}

// Dir is where the copy of an exercise is.
func (e Exercise) Dir(root string) string { return filepath.Join(root, ".run", "exercise", e.N) }

// Begun tells whether the learner has a copy already.
func (e Exercise) Begun(root string) bool {
	_, err := os.Stat(e.Dir(root))
	return err == nil
}

// Begin copies the tree and puts the bug into the copy. It returns the files that have it.
func (e Exercise) Begin(root string) ([]string, error) {
	overlay, err := e.Overlay(root)
	if err != nil {
		return nil, err
	}
	dir := e.Dir(root)
	if e.Begun(root) {
		return nil, fmt.Errorf("your copy is there already: go on with `make check N=%s`. To begin again, delete it: rm -r %s", e.N, dir)
	}
	whole := dir + ".part" // an interrupted copy must not look like one to work in
	if err := os.RemoveAll(whole); err != nil {
		return nil, err
	}
	for _, each := range copied {
		err := eachFile(root, each, func(file string, text []byte) error { return write(filepath.Join(whole, file), text) })
		if err != nil {
			return nil, err
		}
	}
	var files []string
	for file, text := range overlay {
		if err := write(filepath.Join(whole, file), []byte(text)); err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	slices.Sort(files)
	return files, os.Rename(whole, dir)
}

func write(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// eachFile calls do with a file of the tree, or with all below a directory.
func eachFile(root, name string, do func(file string, text []byte) error) error {
	return filepath.WalkDir(filepath.Join(root, name), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		file, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path) //nolint:gosec // a file of the repository
		if err != nil {
			return err
		}
		return do(filepath.ToSlash(file), text)
	})
}

// Solution returns what the copy has other than the tree: what is built and tested in the
// tree's place, so that only these packages are compiled anew. Tests are not among it: those
// of the tree decide.
func (e Exercise) Solution(root string) (map[string]string, error) {
	dir := e.Dir(root)
	if !e.Begun(root) {
		return nil, fmt.Errorf("there is no copy to check yet: make exercise N=%s", e.N)
	}
	tree, changed := map[string]string{}, map[string]string{}
	for _, each := range []string{"services", "shared"} { // what a bug can be in
		err := eachFile(root, each, func(file string, text []byte) error { tree[file] = string(text); return nil })
		if err == nil {
			err = eachFile(dir, each, func(file string, text []byte) error {
				if was, is := tree[file]; (!is || was != string(text)) && !strings.HasSuffix(file, "_test.go") {
					changed[file] = string(text)
				}
				delete(tree, file)
				return nil
			})
		}
		if err != nil {
			return nil, err
		}
	}
	for file := range tree {
		if !strings.HasSuffix(file, "_test.go") {
			return nil, fmt.Errorf("%s is gone from your copy; put it back from the tree", file)
		}
	}
	return changed, nil
}
