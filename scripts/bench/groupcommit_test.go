package main

import (
	"os/exec"
	"testing"

	"example.com/failwell/scripts/stack"
)

// Without the overlay the comparison would be one of group commit with itself.
func TestPlainWriters_BuildServicesThatWriteDirectly(t *testing.T) {
	root, err := stack.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := plainWriters(root)
	if err != nil {
		t.Fatal(err)
	}
	flags, err := stack.OverlayFlags(t.TempDir(), root, overlay)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stack.Services {
		build := exec.CommandContext(t.Context(), "go", append(append([]string{"vet"}, flags...), "./services/"+name)...)
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
