package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	inStep = regexp.MustCompile(`(?m)^\*\*(\d+)\.\*\*`)
	fenced = regexp.MustCompile("(?s)```(\\w*)\n(.*?)```")
	quoted = regexp.MustCompile("`([^`\n]+)`")
	alias  = regexp.MustCompile(`\*([a-z]+)\b`)
)

// steps of docs/fork.md, from 1.
func steps(t *testing.T, page string) map[string]string {
	t.Helper()
	text, _, _ := strings.Cut(page, "\n## What comes next")
	all := map[string]string{}
	places := inStep.FindAllStringSubmatchIndex(text, -1)
	for i, p := range places {
		end := len(text)
		if i+1 < len(places) {
			end = places[i+1][0]
		}
		all[text[p[2]:p[3]]] = text[p[1]:end]
	}
	if len(all) != 10 {
		t.Fatalf("%d steps", len(all))
	}
	return all
}

// block is what a step shows, and the file that it names last before.
func block(t *testing.T, step string) (file, text string) {
	t.Helper()
	m := fenced.FindStringSubmatchIndex(step)
	if m == nil {
		t.Fatalf("no block in %q", step)
	}
	for _, name := range quoted.FindAllStringSubmatch(step[:m[0]], -1) {
		if filepath.Ext(name[1]) != "" {
			file = name[1]
		}
	}
	return file, step[m[4]:m[5]]
}

func write(t *testing.T, dir, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil { //nolint:gosec // source code
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil { //nolint:gosec // source code
		t.Fatal(err)
	}
}

// replace changes a file, which must have what is to be changed.
func replace(t *testing.T, dir, file, old, replacement string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), old) != 1 {
		t.Fatalf("%s has %q %d times", file, old, strings.Count(string(text), old))
	}
	write(t, dir, file, strings.Replace(string(text), old, replacement, 1))
}

// addService takes the ten steps of docs/fork.md as they are written there.
func addService(t *testing.T, dir string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(dir, "docs", "fork.md"))
	if err != nil {
		t.Fatal(err)
	}
	step := steps(t, string(page))
	for _, n := range []string{"1", "2", "3", "4"} {
		file, text := block(t, step[n])
		if !strings.HasPrefix(file, "services/loyalty/") {
			t.Fatalf("step %s writes %q", n, file)
		}
		write(t, dir, file, text)
	}

	// 5: the test passes; with the mistakes that it names it fails as it says.
	must(t, dir, "go", "test", "./services/loyalty")
	const main = "services/loyalty/main.go"
	said := quoted.FindAllStringSubmatch(step["5"], -1) // the command, ok, then each mistake and what it stands in for
	replace(t, dir, main, said[3][1], said[2][1])
	replace(t, dir, main, said[5][1], said[4][1])
	if out, err := in(t, dir, "go", "test", "./services/loyalty"); err == nil || !strings.Contains(out, "36 points") || !strings.Contains(step["5"], "36 points") {
		t.Errorf("with both mistakes: %v\n%s", err, out)
	}
	replace(t, dir, main, said[2][1], said[3][1])
	replace(t, dir, main, said[4][1], said[5][1])

	file, text := block(t, step["6"])
	init, err := os.ReadFile(filepath.Join(dir, file)) //nolint:gosec // scripts/init.sql
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, file, string(init)+text)

	file, text = block(t, step["7"])
	write(t, dir, file, text)
	replace(t, dir, "scripts/stack/options.go", "Payments, Orders}", `Payments, "loyalty", Orders}`)
	replace(t, dir, "scripts/stack/options.go", "Payments, Ledger}", `Payments, Ledger, "loyalty"}`)
	replace(t, dir, "scripts/stack/points.go", "sendNothing = []string{}", `sendNothing = []string{"loyalty"}`)

	file, text = block(t, step["8"])
	compose, err := os.ReadFile(filepath.Join(dir, file)) //nolint:gosec // docker-compose.yml
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range alias.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(string(compose), "&"+name[1]) {
			t.Errorf("%s has no &%s", file, name[1])
		}
	}
	replace(t, dir, file, "\n  ledger:\n", "\n"+text+"\n  ledger:\n")

	t.Run("points", func(t *testing.T) { points(t, dir, step["9"]) })

	must(t, dir, "go", "run", "./scripts/catalogue", "generate")
	must(t, dir, "go", "run", "./scripts/catalogue", "check")
	for _, page := range []string{"docs/architecture.md", "docs/patterns/change-record.md"} {
		if text, err := os.ReadFile(filepath.Join(dir, page)); err != nil || !strings.Contains(string(text), "services/loyalty/") { //nolint:gosec // of the fork
			t.Errorf("%s says nothing of it, %v", page, err)
		}
	}
	must(t, dir, "go", "vet", "./...")
	if said := must(t, dir, "go", "run", "./scripts/lab", "sweep", "--only", "loyalty", "--faults", "crash", "--systems", "1"); !strings.Contains(said, "2 combinations, 2 held") {
		t.Errorf("the sweep says: %s", said)
	}
}

// up starts everything, and returns what it prints when it is up.
func up(t *testing.T, dir string) string {
	t.Helper()
	must(t, dir, "go", "build", "-o", "bin/run", "./scripts/run")
	var printed output
	system := exec.CommandContext(t.Context(), filepath.Join(dir, "bin", "run")) //nolint:gosec // just built
	system.Dir, system.Stdout, system.Stderr = dir, &printed, &printed
	if err := system.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = system.Process.Signal(os.Interrupt)
		_ = system.Wait()
	})
	for deadline := time.Now().Add(3 * time.Minute); !strings.Contains(printed.String(), "Ctrl-C stops everything."); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it is not up:\n%s", printed.String())
		}
	}
	return printed.String()
}

// placeOrder does what is printed.
func placeOrder(t *testing.T, dir, printed string) {
	t.Helper()
	_, after, _ := strings.Cut(printed, "in this directory):\n")
	order, _, _ := strings.Cut(after, "Send the last command again")
	if out := must(t, dir, "bash", "-c", order); !strings.Contains(out, "202 Accepted") {
		t.Fatalf("the order: %s", out)
	}
}

// points places the order that it prints, and asks for the points.
func points(t *testing.T, dir, step string) {
	placeOrder(t, dir, up(t, dir))
	_, ask := block(t, step)
	want := ""
	for _, q := range quoted.FindAllStringSubmatch(step, -1) {
		if strings.HasPrefix(q[1], "{") {
			want = q[1]
		}
	}
	got := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && want != ""; time.Sleep(200 * time.Millisecond) {
		if got = strings.TrimSpace(must(t, dir, "bash", "-c", strings.ReplaceAll(ask, "curl ", "curl -sS "))); got == want {
			return
		}
	}
	t.Errorf("%s, the page says %s", got, fmt.Sprintf("%q", want))
}
