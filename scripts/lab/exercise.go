package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"example.com/failwell/scripts/lab/exercises"
	"example.com/failwell/scripts/stack"
)

type exerciseCmd struct {
	N string `arg:"" help:"The exercise, by its number: 1, 3, 3b."`
}

// Run makes a copy of the tree with the bug in it, and says what to do. Where there is a
// copy already, it says so and leaves it as it is.
func (c exerciseCmd) Run() error {
	e, root, err := c.find()
	if err != nil {
		return err
	}
	lesson, err := e.Lesson(root)
	if err != nil {
		return err
	}
	buggy, err := e.Overlay(root)
	if err != nil {
		return err
	}
	dir, err := filepath.Rel(root, e.Dir(root))
	if err != nil {
		return err
	}
	where := fmt.Sprintf("A copy of the tree, with the bug in it, is in %s. Read and repair there:", dir)
	if e.Begun(root) {
		where = fmt.Sprintf("Your copy is in %s, as you left it; to begin again, delete it: rm -r %s. Read and repair there:", dir, dir)
	} else if _, err := e.Begin(root); err != nil {
		return err
	}
	fmt.Printf("Exercise %s: %s\n\n%s\n\n%s\n", e.N, e.Title, e.Task, where)
	for _, file := range slices.Sorted(maps.Keys(buggy)) {
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
	begun := time.Now()
	with := "your copy, which equals the tree"
	if len(solution) > 0 {
		with = "your copy of " + strings.Join(slices.Sorted(maps.Keys(solution)), ", ")
	}
	fmt.Printf("Exercise %s: %s of %s, with %s …\n", e.N, e.Test, e.Package, with)
	verdict, out, err := test(ctx, root, e.Package, e.Test, solution)
	if err != nil {
		return err
	}
	if verdict != passed {
		fmt.Print(inCopy(e.Dir(root), solution, failures(out)))
		return red(e, fmt.Sprintf("%s %s", e.Test, verdict), begun)
	}
	fmt.Printf("%s passes. Now the other tests of %s …\n", e.Test, e.Package)
	_, out, err = test(ctx, root, e.Package, ".*", solution)
	if err != nil {
		return err
	}
	if broken := failures(out); broken != "" {
		fmt.Print(broken)
		return red(e, e.Test+" passes, and something else is broken now", begun)
	}
	fmt.Printf("Exercise %s is green ✓ (%.0f s)\n", e.N, time.Since(begun).Seconds())
	return nil
}

// red is the verdict. go and make each report it as an error of their own below, which must
// not look like a check that could not be made.
func red(e exercises.Exercise, why string, begun time.Time) error {
	return fmt.Errorf("exercise %s is red ✗ %s (%.0f s). This is the verdict; \"Error 1\" of make says no more than that", e.N, why, time.Since(begun).Seconds())
}

type exercisesCmd struct {
	Only   []string `help:"Only the exercises of these numbers."`
	AtOnce int      `default:"3" help:"How many to run side by side; some tests only wait."`
}

// Run sees that the test of each exercise fails with its bug, and passes without it: then
// a check is red when a learner begins, and can become green. With a wrong repair that we
// know of, a check must be red as well.
func (c exercisesCmd) Run(ctx context.Context) error {
	root, err := stack.ModuleRoot()
	if err != nil {
		return err
	}
	var chosen []broken
	for _, e := range exercises.All {
		if len(c.Only) > 0 && !slices.Contains(c.Only, e.N) {
			continue
		}
		chosen = append(chosen, broken{e.N, e.Package, e.Test, func() (map[string]string, error) { return e.Overlay(root) }})
		for _, w := range e.Wrong {
			chosen = append(chosen, broken{e.N + " " + w.Name, e.Package, w.Test, func() (map[string]string, error) { return e.Misled(root, w) }})
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
	for _, e := range events(out) {
		if !strings.HasPrefix(e.Output, "=== ") { // that it runs, pauses and goes on
			said[e.Test] += e.Output
		}
		if e.Action == "build-output" || e.Action == "fail" {
			all.WriteString(said[e.Test])
			said[e.Test] = ""
		}
	}
	text := strings.SplitAfter(all.String(), "\n")
	if len(text) > maxFailureLines {
		text = append(text[:maxFailureLines], fmt.Sprintf("… and %d lines more\n", len(text)-maxFailureLines))
	}
	return strings.Join(text, "")
}
