package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"example.com/failwell/scripts/lab/mutants"
	"example.com/failwell/scripts/stack"
)

type recordCmd struct {
	Only string `help:"Only the bugs whose name contains this."`
}

// Run brings each bug of the track record back, and sees that its test fails.
func (c recordCmd) Run(ctx context.Context) error {
	asleep := 0
	for _, b := range mutants.Bugs {
		if !strings.Contains(b.ID, c.Only) {
			continue
		}
		out, err := test(ctx, b)
		mark := "found again ✓"
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", b.ID, err)
		case !strings.Contains(out, "--- FAIL: "+b.Test):
			mark = "NOT found ✗\n" + out
			asleep++
		}
		fmt.Printf("%-32s %-66s %s\n", b.ID, b.Test, mark)
	}
	if asleep > 0 {
		return errors.New("a bug of the record would not be found again")
	}
	return nil
}

// test runs a bug's test with the bug in place.
func test(ctx context.Context, b mutants.Bug) (string, error) {
	root, err := os.Getwd()
	if err != nil {
		return "", err
	}
	overlay, err := b.Overlay(root)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "failwell-record-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a leftover in the temporary directory
	flags, err := stack.OverlayFlags(filepath.Clean(dir), root, overlay)
	if err != nil {
		return "", err
	}
	args := append(append([]string{"test", "-count=1"}, flags...), "-run", "^"+b.Test+"$", b.Package)
	out, _ := exec.CommandContext(ctx, "go", args...).CombinedOutput() // it is meant to fail
	return string(out), nil
}
