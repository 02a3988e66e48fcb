package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// nothingOf looks for a service that was left behind where processes are listed.
func nothingOf(t *testing.T, dir, service string) {
	t.Helper()
	name := regexp.MustCompile(`(?i)(?:^|[^a-z])` + service + `(?:[^a-z]|$)`)
	for _, file := range []string{"docker-compose.yml", "scripts/init.sql", "scripts/docker/compose.sh", "scripts/stack/stack.go", "scripts/stack/network.go", "scripts/run/main.go", "scripts/lab.env", "Makefile"} {
		text, err := os.ReadFile(filepath.Join(dir, file)) //nolint:gosec // of the fork
		if err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(string(text)) {
			whereTheNextOneIs := file == labEnv && (strings.HasPrefix(line, "# "+service) || strings.HasPrefix(line, strings.ToUpper(service)+"_URL="))
			if name.MatchString(line) && !whereTheNextOneIs {
				t.Errorf("%s: %s", file, line)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "services", service)); err == nil {
		t.Errorf("%s is still there", service)
	}
}

// Whatever is left behind, what stays builds, is vetted with its tests, and speaks of
// nothing that is not there.
func TestEveryServiceAndPatternCanBeLeftBehind(t *testing.T) {
	for _, c := range []struct {
		without []string
		then    func(t *testing.T, dir string)
	}{
		{[]string{"orders"}, nil},
		{[]string{"payments"}, nil},
		{[]string{"ledger"}, func(t *testing.T, dir string) { placeOrder(t, dir, up(t, dir)) }},
		{[]string{"orders", "payments"}, func(t *testing.T, dir string) { up(t, dir); must(t, dir, "go", "test", "./services/...") }},
		{[]string{"payments", "ledger"}, func(t *testing.T, dir string) { must(t, dir, "go", "test", "./services/...") }},
		{[]string{"callback"}, nil},
		{[]string{"garbage-collection"}, nil},
		{[]string{"reconciliation"}, nil},
		{[]string{"store-then-reference"}, nil},
		{slices.Sorted(maps.Keys(patterns)), func(t *testing.T, dir string) {
			must(t, dir, "go", "test", "./services/orders", "./services/payments", "./scripts/ops/...")
		}},
	} {
		t.Run(strings.Join(c.without, ","), func(t *testing.T) {
			dir := forked(t, c.without...)
			nothingOfOurs(t, dir)
			nothingDead(t, dir)
			for _, name := range c.without {
				if isOf(services, name) {
					nothingOf(t, dir, name)
				}
			}
			if c.then != nil {
				c.then(t, dir)
			}
		})
	}
}

// Each pattern has its page, and can be left behind or is refused.
func TestEveryPatternIsKnown(t *testing.T) {
	pages, err := filepath.Glob("../../docs/patterns/*.md")
	if err != nil || len(pages) != len(patterns)+len(decisions) {
		t.Errorf("%d pages, %d and %d patterns, %v", len(pages), len(patterns), len(decisions), err)
	}
	for _, page := range pages {
		id := strings.TrimSuffix(filepath.Base(page), ".md")
		if _, needed := decisions[id]; needed == isOf(patterns, id) {
			t.Errorf("%s: can be left behind: %t, is refused: %t", id, isOf(patterns, id), needed)
		}
	}
}

// docs/fork.md shows what the command says.
func TestThePageShowsWhatIsSaid(t *testing.T) {
	t.Chdir("../..")
	files, err := tracked()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("docs/fork.md")
	if err != nil {
		t.Fatal(err)
	}
	without := withAll([]string{"payments"})
	kept, err := keep(files, without)
	if err != nil {
		t.Fatal(err)
	}
	says := open(kept, without)
	_, err = keep(files, withAll([]string{"at-most-once-guard"}))
	for _, line := range append(says, err.Error()) {
		if len(says) != 4 || !strings.Contains(string(page), line+"\n") {
			t.Errorf("it does not show: %s", line)
		}
	}
	for name := range parts {
		if !strings.Contains(string(page), "| `"+name+"` |") {
			t.Errorf("its tables have no row for %s", name)
		}
	}
}

// Whoever asks for what others stand on is told who, before anything is copied.
func TestWhatOthersStandOnIsRefused(t *testing.T) {
	t.Chdir("../..")
	files, err := tracked()
	if err != nil {
		t.Fatal(err)
	}
	for id := range decisions {
		_, err := keep(files, withAll([]string{id}))
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), ".go:") {
			t.Errorf("%s: %v", id, err)
		}
	}
	// The guard is of payments alone.
	if _, err := keep(files, withAll([]string{"payments", "at-most-once-guard"})); err != nil {
		t.Error(err)
	}
}
