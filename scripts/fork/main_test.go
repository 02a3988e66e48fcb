package main

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// theirs is a name that is not ours: this test is copied too, and passes in the copy.
func theirs() string {
	if ourName == "pay" {
		return "till"
	}
	return "pay"
}

// forked makes a fork and returns its directory.
func forked(t *testing.T, without ...string) string {
	t.Helper()
	t.Chdir("../..")
	cli.Module, cli.Name, cli.Without = "github.com/acme/"+theirs(), theirs(), without
	cli.Dir = filepath.Join(t.TempDir(), theirs())
	if err := run(); err != nil {
		t.Fatal(err)
	}
	return cli.Dir
}

// in runs a command in the fork. The servers that were given to this test, if any,
// are given to it under its own name for them.
func in(t *testing.T, dir, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, os.Environ()
	for _, server := range []string{"_POSTGRES_URL", "_AMQP_URL", "_RABBIT_API"} {
		if given := os.Getenv(strings.ToUpper(ourName) + server); given != "" {
			cmd.Env = append(cmd.Env, strings.ToUpper(theirs())+server+"="+given)
		}
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func must(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := in(t, dir, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// nothingOfOurs looks for our name, and for the lab's keys, in every file.
func nothingOfOurs(t *testing.T, dir string) {
	t.Helper()
	labEnv, err := os.ReadFile("scripts/lab.env")
	if err != nil {
		t.Fatal(err)
	}
	keys := secret.FindAll(labEnv, -1)
	if len(keys) != 7 {
		t.Errorf("scripts/lab.env has %d keys", len(keys))
	}
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if d.Name() == "forked-from.txt" {
			return nil // it says where the copy comes from
		}
		text, err := os.ReadFile(path) //nolint:gosec // a file of the fork
		if bytes.Contains(bytes.ToLower(text), []byte(ourName)) {
			t.Errorf("%s still speaks of %s", path, ourName)
		}
		for _, key := range keys {
			if bytes.Contains(text, key) {
				t.Errorf("%s has our key %s", path, key)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

var (
	target = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
	page   = regexp.MustCompile(`\bdocs/[\w/-]+\.md\b`)
)

// nothingDead looks for links, commands and targets that lead nowhere.
func nothingDead(t *testing.T, dir string) {
	t.Helper()
	makefile, err := os.ReadFile(filepath.Join(dir, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	targets := []string{}
	for _, m := range target.FindAllStringSubmatch(string(makefile), -1) {
		targets = append(targets, m[1])
	}
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path) //nolint:gosec // a file of the fork
		if err != nil {
			return err
		}
		toDo := d.Name() == "fork.md" || d.Name() == "fourth.sh" // they speak of what is to be deleted, or yet to be written
		for _, name := range append(page.FindAllString(string(text), -1), ourFile.FindAllString(string(text), -1)...) {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil && !toDo && !strings.HasSuffix(path, "_test.go") {
				t.Errorf("%s speaks of %s, which is not there", path, name)
			}
		}
		if filepath.Ext(path) != ".md" && path != filepath.Join(dir, ".ci/run") && d.Name() != "Makefile" {
			return nil
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[2])); err != nil && filepath.Ext(path) == ".md" && !strings.Contains(m[2], "://") {
				t.Errorf("%s: dead link %s", path, m[2])
			}
		}
		for _, m := range goRun.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(dir, m[1], "main.go")); err != nil {
				t.Errorf("%s: no command %s", path, m[1])
			}
		}
		for _, m := range append(makes.FindAllStringSubmatch(string(text), -1), makeTarget.FindAllStringSubmatch(string(text), -1)...) {
			if !slices.Contains(targets, m[1]) && !toDo {
				t.Errorf("%s: no target %s", path, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// workflowsHold runs what `make lint` runs over .github.
func workflowsHold(t *testing.T, dir string) {
	t.Helper()
	must(t, dir, "git", "init", "-q")
	lint := regexp.MustCompile(`ACTIONLINT := (\S+)`)
	makefile, err := os.ReadFile(filepath.Join(dir, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	must(t, dir, "go", "run", lint.FindStringSubmatch(string(makefile))[1])
}

// A fork of everything bears no name of ours, its pages are as its code is, its tests
// pass, and a fourth service can be added as docs/fork.md says.
func TestFork_OfEverythingWorks(t *testing.T) {
	dir := forked(t)
	nothingOfOurs(t, dir)
	if changes, err := os.ReadFile(filepath.Join(dir, changelog)); err != nil || !strings.HasPrefix(string(changes), "# Changes\n\n## v0.1.0\n\nThe first version.") {
		t.Errorf("its changelog: %s, %v", changes, err)
	}
	workflowsHold(t, dir)
	must(t, dir, "go", "run", "./scripts/catalogue", "check")
	must(t, dir, "go", "test", "./shared/platform/rabbit")
	addService(t, dir)
}

// A fork without the lab keeps what an operator needs and the tests of the whole.
func TestFork_WithoutTheLabWorks(t *testing.T) {
	dir := forked(t, "lab")
	nothingOfOurs(t, dir)
	nothingDead(t, dir)
	for _, file := range []string{"README.md", "docs/fork.md", "docs/runbook.md", "docs/architecture.md", "docs/decisions/README.md", "scripts/ops/main.go", "scripts/lab/audit/audit.go", ".ci/run", "scripts/observe/rules.yml", "scripts/observe/dashboards/money.json"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Error(err)
		}
	}
	must(t, dir, "go", "test", "./shared/pattern/changerecord", "./scripts/smoke", "./scripts/observe")
}

func TestFork_WithoutAllPartsWorks(t *testing.T) {
	dir := forked(t, slices.Collect(maps.Keys(parts))...)
	nothingOfOurs(t, dir)
	nothingDead(t, dir)
	workflowsHold(t, dir)
	entries, err := os.ReadDir(filepath.Join(dir, "scripts", "lab"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "audit" { // scripts/ops needs that
		t.Errorf("of the lab there are %v, %v", entries, err)
	}
	must(t, dir, "go", "test", "./scripts/ops/...", "./services/orders")
	placeOrder(t, dir, up(t, dir))
}

func TestFork_RefusesInOneLineWhatCannotBe(t *testing.T) {
	for _, c := range []struct {
		module, name string
		without      []string
		says         string
	}{
		{"", "", nil, "make fork MODULE=github.com/acme/pay NAME=pay"},
		{"github.com/acme/pay", "", nil, "make fork MODULE=github.com/acme/pay NAME=pay"},
		{"pay", "pay", nil, "MODULE=pay is not the path of a module"},
		{"github.com/acme pay", "pay", nil, "is not the path of a module"},
		{"https://github.com/acme/pay", "pay", nil, "is not the path of a module"},
		{"github.com/acme/pay/", "pay", nil, "is not the path of a module"},
		{"github.com/acme/pay", "Pay", nil, "NAME=Pay must be"},
		{"github.com/acme/pay", "my-pay", nil, "NAME=my-pay must be"},
		{"github.com/acme/pay", "1pay", nil, "NAME=1pay must be"},
		{"github.com/acme/pay", ourName, nil, "must differ from ours"},
		{"github.com/acme/pay", "pay", []string{"lab", "ledger"}, `"ledger" cannot be left out, only bench, containers, demo, e2e, lab;`},
	} {
		cli.Module, cli.Name, cli.Without, cli.Dir = c.module, c.name, c.without, filepath.Join(t.TempDir(), "pay")
		err := run()
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
