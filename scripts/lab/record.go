package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"example.com/failwell/scripts/lab/mutants"
	"example.com/failwell/scripts/stack"
)

type recordCmd struct {
	Only []string `help:"Only the bugs whose name contains one of these."`
}

// Run brings each bug of the track record back, and sees that its test fails. The
// test must pass without the bug: one that fails anyhow finds nothing.
func (c recordCmd) Run(ctx context.Context) error {
	chosen, err := mutants.ChosenBugs(c.Only)
	if err != nil {
		return err
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	asleep := 0
	for _, b := range chosen {
		overlay, err := b.Overlay(root)
		if err != nil {
			return fmt.Errorf("%s: %w", b.ID, err)
		}
		mark := "found again ✓"
		if verdict, out, err := test(ctx, root, b.Package, b.Test, nil); err != nil {
			return fmt.Errorf("%s: %w", b.ID, err)
		} else if verdict != passed {
			mark = fmt.Sprintf("its test %s without the bug ✗\n%s", verdict, out)
		} else if verdict, out, err = test(ctx, root, b.Package, b.Test, overlay); err != nil {
			return fmt.Errorf("%s: %w", b.ID, err)
		} else if verdict != failed {
			mark = fmt.Sprintf("NOT found, its test %s ✗\n%s", verdict, out)
		}
		if mark != "found again ✓" {
			asleep++
		}
		fmt.Printf("%-32s %-78s %s\n", b.ID, b.Test, mark)
	}
	if asleep > 0 {
		return errors.New("a bug of the record would not be found again")
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
	args := append(append([]string{"test", "-count=1", "-json"}, flags...), "-run", "^("+name+")$", pkg)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	out, _ = cmd.CombinedOutput() // its status says less than its lines
	return verdictOn(name, out), out, nil
}

// verdictOn reads what `go test -json` says of exactly this test. Other tests, its
// own subtests and the package do not count.
func verdictOn(test string, out []byte) string {
	verdict := notRun
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, len(out)+1) // as long as they come
	for lines.Scan() {
		var event struct{ Action, Test string }
		if json.Unmarshal(lines.Bytes(), &event) != nil || event.Test != test {
			continue
		}
		switch event.Action {
		case "pass":
			verdict = passed
		case "fail":
			verdict = failed
		}
	}
	return verdict
}
