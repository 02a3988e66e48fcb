package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"example.com/failwell/scripts/lab/mutants"
	"example.com/failwell/scripts/stack"
)

type recordCmd struct {
	Only   []string `help:"Only the bugs whose name contains one of these."`
	AtOnce int      `default:"5" help:"How many to run side by side; some tests only wait."`
}

// Run brings each bug of the track record back, and sees that its test fails.
func (c recordCmd) Run(ctx context.Context) error {
	bugs, err := mutants.ChosenBugs(c.Only)
	if err != nil {
		return err
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	var chosen []broken
	for _, b := range bugs {
		chosen = append(chosen, broken{b.ID, b.Package, b.Test, func() (map[string]string, error) { return b.Overlay(root) }})
	}
	return prove(ctx, root, c.AtOnce, chosen)
}

// broken is a mistake that can be put into the source, and the test that finds it.
type broken struct {
	name, pkg, test string
	overlay         func() (map[string]string, error)
}

// prove puts each mistake into the source, and sees that its test fails. The test must
// pass without it: one that fails anyhow finds nothing.
func prove(ctx context.Context, root string, atOnce int, chosen []broken) error {
	tests := map[string][]string{} // by package
	for _, b := range chosen {
		tests[b.pkg] = append(tests[b.pkg], b.test)
	}
	without := map[string][]byte{}
	for pkg, names := range tests {
		_, out, err := test(ctx, root, pkg, strings.Join(names, "|"), nil)
		if err != nil {
			return err
		}
		without[pkg] = out
	}
	const found = "red with it, green without ✓"
	marks := make([]string, len(chosen))
	var all errgroup.Group
	all.SetLimit(atOnce)
	for i, b := range chosen {
		all.Go(func() error {
			overlay, err := b.overlay()
			var verdict string
			var out []byte
			if err == nil {
				verdict, out, err = test(ctx, root, b.pkg, b.test, overlay)
			}
			switch green := verdictOn(b.test, without[b.pkg]); {
			case err != nil:
				marks[i] = err.Error()
			case verdict != failed:
				marks[i] = fmt.Sprintf("with it, it %s ✗\n%s", verdict, out)
			case green != passed:
				marks[i] = fmt.Sprintf("without it, it %s ✗\n%s", green, failures(without[b.pkg]))
			default:
				marks[i] = found
			}
			return nil
		})
	}
	_ = all.Wait() // what came of each is its mark
	wrong := 0
	for i, b := range chosen {
		fmt.Printf("%-38s %-78s %s\n", b.name, b.test, marks[i])
		if marks[i] != found {
			wrong++
		}
	}
	if len(chosen) == 0 || wrong > 0 {
		return fmt.Errorf("%d of %d mistakes would not be found again", wrong, len(chosen))
	}
	return nil
}

// What became of a test.
const (
	passed = "passed"
	failed = "failed"
	notRun = "did not run to its end" // not built, not there, skipped, or the process died
)

// test runs one test, or those of an expression, with some source replaced. It says what
// became of the one of this name, and what was written.
func test(ctx context.Context, root, pkg, name string, overlay map[string]string) (verdict string, out []byte, err error) {
	dir, err := os.MkdirTemp("", "failwell-record-")
	if err != nil {
		return "", nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a leftover in the temporary directory
	flags, err := stack.OverlayFlags(filepath.Clean(dir), root, overlay)
	if err != nil {
		return "", nil, err
	}
	// Each mistake is compiled and linked for itself: without what the verdict does not need.
	args := append(append([]string{"test", "-count=1", "-json", "-vet=off", "-ldflags=-s -w"}, flags...), "-run", "^("+name+")$", pkg)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	out, _ = cmd.CombinedOutput() // its status says less than its lines
	return verdictOn(name, out), out, nil
}

// verdictOn reads what `go test -json` says of exactly this test. Other tests, its
// own subtests and the package do not count.
func verdictOn(test string, out []byte) string {
	verdict := notRun
	for _, e := range events(out) {
		switch {
		case e.Test != test:
		case e.Action == "pass":
			verdict = passed
		case e.Action == "fail":
			verdict = failed
		}
	}
	return verdict
}

// event is a line of `go test -json`.
type event struct{ Action, Test, Output string }

// events reads them. A line that is none is the compiler's.
func events(out []byte) (all []event) {
	for line := range bytes.Lines(out) {
		var e event
		if json.Unmarshal(line, &e) != nil {
			e = event{Action: "build-output", Output: string(line)}
		}
		all = append(all, e)
	}
	return all
}
