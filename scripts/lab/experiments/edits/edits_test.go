package edits

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.com/failwell/scripts/stack"
)

const root = "../../../.."

// When the code moves on, it must be seen here, and not after minutes of experiments: an
// edit that fits may still call a function as it was.
func TestDiffs_FitTheSourceAndCompile(t *testing.T) {
	absolute, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	diffs, _ := filepath.Glob("*.diff")
	for _, name := range diffs {
		id := strings.TrimSuffix(name, ".diff")
		edits, err := Of(id)
		var overlay map[string]string
		if err == nil {
			overlay, err = Overlay(root, id, edits)
		}
		if err == nil {
			_, err = Diff(root, id)
		}
		if err != nil {
			t.Errorf("%v\nchange the services in the tree as the diff did, git diff -U1 > %s, and take the change back", err, name)
			continue
		}
		flags, err := stack.OverlayFlags(t.TempDir(), absolute, overlay)
		if err != nil {
			t.Fatal(err)
		}
		args := append(append([]string{"vet"}, flags...), "./services/orders") // one at least: an edit may be of SQL alone
		for file := range overlay {
			if filepath.Ext(file) == ".go" {
				args = append(args, "./"+filepath.Dir(file))
			}
		}
		vet := exec.CommandContext(t.Context(), "go", args...) //nolint:gosec // our own list
		vet.Dir = root
		if out, err := vet.CombinedOutput(); err != nil {
			t.Errorf("%s does not compile: %v\n%s", name, err, out)
		}
	}
}

func TestOverlay_RefusesWhatDoesNotFitAndWhatChangesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.go"), []byte("one\ntwo\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ diff, says string }{
		{"+++ b/a.go\n@@\n-three\n+four\n", "does not fit any more"},
		{"+++ b/a.go\n@@\n-two\n+four\n", "2 times"},
		{"+++ b/a.go\n@@\n-one\n+one \n", "changes nothing"},
		{"+++ b/a.go\n", "changes nothing"},
		{"@@\n-one\n", "stands in no hunk"},
		{"+++ b/a.go\n@@\n one\n-two\n+four\n", ""},
	} {
		hunks, err := parse(c.diff)
		if err == nil {
			var edits []Edit
			for _, h := range hunks {
				edits = append(edits, h.Edit)
			}
			var changed map[string]string
			if changed, err = Overlay(dir, "test", edits); err == nil && changed["a.go"] != "one\nfour\ntwo\n" {
				t.Errorf("%q makes %q", c.diff, changed["a.go"])
			}
		}
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%q: %v, want %q", c.diff, err, c.says)
		}
	}
}
