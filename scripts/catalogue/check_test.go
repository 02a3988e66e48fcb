package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// copied is the repository as it is, in a directory that a test may spoil.
func copied(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for _, what := range []string{"services", "shared", "scripts", "docs", "README.md", "LICENSE", "Makefile", "docker-compose.yml", "go.mod"} {
		if out, err := exec.CommandContext(t.Context(), "cp", "-r", filepath.Join("..", "..", what), dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	t.Chdir(dir)
}

// gaps runs the check and returns what it prints.
func gaps(t *testing.T) (string, error) {
	t.Helper()
	printed := filepath.Join(t.TempDir(), "out")
	file, err := os.Create(printed)
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = file
	failed := checkCmd{}.Run()
	os.Stdout = stdout
	text, err := os.ReadFile(printed)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), failed
}

func edit(t *testing.T, file, old, replacement string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q", file, old)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), old, replacement)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheRepositoryHasNoGaps(t *testing.T) {
	copied(t)
	if printed, err := gaps(t); err != nil {
		t.Errorf("%v\n%s", err, printed)
	}
}

// Each way in which the catalogue can go stale is noticed, and named.
func TestEveryGapIsNoticed(t *testing.T) {
	for name, c := range map[string]struct{ file, old, replacement, says string }{
		"a line inside an excerpt is changed":   {"services/payments/refund.go", "r.Status = refundSucceeded", "r.Status = refundSucceeded // sic", "docs/patterns/recovery-point.md"},
		"an excerpt's code has moved":           {"shared/pattern/guard/at_most_once_guard.go", "package guard", "package guard\n", "docs/patterns/at-most-once-guard.md"},
		"a line inside a naive version changes": {"scripts/lab/experiments/api_design.go", `r.Log("POST /orders: %v", post(true))`, `r.Log("POST: %v", post(true))`, "docs/patterns/idempotency-key.md"},
		"the last marker of a pattern is gone":  {"shared/pattern/idempotency/lock.go", "// Pattern: idempotency-key-lock", "//", "idempotency-key-lock: no place of use"},
		"a marker of no pattern":                {"shared/pattern/idempotency/lock.go", "// Pattern: idempotency-key-lock", "// Pattern: idempotency-key-luck", "idempotency-key-luck is not a pattern"},
		"a part of a page is missing":           {"docs/patterns/saga.md", "## When not to use it", "## When", `no part "## When not to use it"`},
		"a dead link":                           {"docs/glossary.md", "# Glossary", "# Glossary\n\n[nowhere](nowhere.md)", "docs/glossary.md:3: dead link: nowhere.md"},
	} {
		t.Run(name, func(t *testing.T) {
			copied(t)
			edit(t, c.file, c.old, c.replacement)
			printed, err := gaps(t)
			if err == nil || !strings.Contains(printed, c.says) {
				t.Errorf("%v, and it does not name %q:\n%s", err, c.says, printed)
			}
		})
	}
}
