package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"example.com/failwell/scripts/lab/exercises"
	"example.com/failwell/scripts/stack"
)

type exerciseCmd struct {
	N string `arg:"" help:"The exercise, by its number: 1, 3, 3b."`
}

// Run makes a copy of the tree with the bug in it, and says what to do.
func (c exerciseCmd) Run() error {
	e, root, err := c.find()
	if err != nil {
		return err
	}
	lesson, err := e.Lesson(root)
	if err != nil {
		return err
	}
	files, err := e.Begin(root)
	if err != nil {
		return err
	}
	dir, err := filepath.Rel(root, e.Dir(root))
	if err != nil {
		return err
	}
	fmt.Printf("Exercise %s: %s\n\n%s\n\nA copy of the tree, with the bug in it, is in %s. Read and repair there:\n", e.N, e.Title, e.Task, dir)
	for _, file := range files {
		fmt.Printf("  %s\n", filepath.Join(dir, file))
	}
	fmt.Printf("\nWhen you think that it is right:\n  make check N=%s\nIt is red until then. Hints are in %s.\n", e.N, lesson)
	return nil
}

func (c exerciseCmd) find() (e exercises.Exercise, root string, err error) {
	if e, err = exercises.Find(c.N); err == nil {
		root, err = stack.ModuleRoot()
	}
	return e, root, err
}

type checkCmd struct{ exerciseCmd }

// Run tests the copy of an exercise: the test that its bug breaks, and then the others of
// that package, which a wrong way out would break.
func (c checkCmd) Run(ctx context.Context) error {
	e, root, err := c.find()
	if err != nil {
		return err
	}
	solution, err := e.Solution(root)
	if err != nil {
		return err
	}
	fmt.Printf("Exercise %s: %s of %s, with your copy of %s …\n", e.N, e.Test, e.Package, cmp.Or(strings.Join(slices.Sorted(maps.Keys(solution)), ", "), "nothing: it is the tree"))
	verdict, out, err := test(ctx, root, e.Package, e.Test, solution)
	if err != nil {
		return err
	}
	if verdict != passed {
		fmt.Print(inCopy(e.Dir(root), solution, failures(out)))
		return fmt.Errorf("exercise %s is red ✗ %s %s", e.N, e.Test, verdict)
	}
	fmt.Printf("%s passes. Now the other tests of %s …\n", e.Test, e.Package)
	_, out, err = test(ctx, root, e.Package, ".*", solution)
	if err != nil {
		return err
	}
	if broken := failures(out); broken != "" {
		fmt.Print(broken)
		return fmt.Errorf("exercise %s is red ✗ %s passes, and something else is broken now", e.N, e.Test)
	}
	fmt.Printf("Exercise %s is green ✓\n", e.N)
	return nil
}

type exercisesCmd struct {
	Only   []string `help:"Only the exercises of these numbers."`
	AtOnce int      `default:"3" help:"How many to run side by side; some tests only wait."`
}

// Run sees that the test of each exercise fails with its bug, and passes without it: then
// a check is red when a learner begins, and can become green.
func (c exercisesCmd) Run(ctx context.Context) error {
	root, err := stack.ModuleRoot()
	if err != nil {
		return err
	}
	var chosen []broken
	for _, e := range exercises.All {
		if len(c.Only) == 0 || slices.Contains(c.Only, e.N) {
			chosen = append(chosen, broken{e.N, e.Package, e.Test, func() (map[string]string, error) { return e.Overlay(root) }})
		}
	}
	return prove(ctx, root, c.AtOnce, chosen)
}

// inCopy names the learner's files where the compiler names those of the overlay.
func inCopy(dir string, solution map[string]string, says string) string {
	for file := range solution {
		built := regexp.MustCompile(`[^\s:]*/failwell-record-\d+/` + regexp.QuoteMeta(strings.ReplaceAll(file, "/", "_")))
		says = built.ReplaceAllLiteralString(says, filepath.Join(dir, file))
	}
	return says
}

// maxFailureLines is how many lines a check prints of what fails.
const maxFailureLines = 30

// failures are what `go test -json` says of the tests that fail, or of a build that does.
func failures(out []byte) string {
	said := map[string]string{}
	var all strings.Builder
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, len(out)+1)
	for lines.Scan() {
		var event struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &event) != nil {
			all.WriteString(lines.Text() + "\n") // of the compiler
			continue
		}
		if !strings.HasPrefix(event.Output, "=== ") { // that it runs, pauses and goes on
			said[event.Test] += event.Output
		}
		if event.Action == "build-output" || event.Action == "fail" {
			all.WriteString(said[event.Test])
			said[event.Test] = ""
		}
	}
	text := strings.SplitAfter(all.String(), "\n")
	if len(text) > maxFailureLines {
		text = append(text[:maxFailureLines], fmt.Sprintf("… and %d lines more\n", len(text)-maxFailureLines))
	}
	return strings.Join(text, "")
}
