package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/failwell/scripts/bench/figures"
)

// copied is the repository as it is, in a directory that a test may spoil.
func copied(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for _, what := range []string{"services", "shared", "scripts", "docs", ".github", "README.md", "AGENTS.md", "LICENSE", "Makefile", "docker-compose.yml", "go.mod", "go.sum"} {
		if out, err := exec.CommandContext(t.Context(), "cp", "-r", filepath.Join("..", "..", what), dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	t.Chdir(dir)

	// What the repository's own commands print is the same in every copy.
	run := shell
	t.Cleanup(func() { shell = run })
	shell = func(dir, command string) (string, error) {
		if !strings.HasPrefix(command, "go run ") {
			return run(dir, command)
		}
		if said, ok := printedHere[command]; ok {
			return said, nil
		}
		said, err := run(repository, command)
		if err == nil {
			printedHere[command] = said
		}
		return said, err
	}
}

var (
	repository, _ = filepath.Abs(filepath.Join("..", ".."))
	printedHere   = map[string]string{}
)

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

// edit changes a file until the test is over.
func edit(t *testing.T, file, old, replacement string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q", file, old)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), old, replacement)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCheck_TheRepositoryHasNoGaps(t *testing.T) {
	copied(t)
	if printed, err := gaps(t); err != nil {
		t.Errorf("%v\n%s", err, printed)
	}
}

// Each way in which the catalogue can go stale is noticed, and named.
func TestCheck_NoticesEveryGap(t *testing.T) {
	copied(t)
	for name, c := range map[string]struct{ file, old, replacement, says string }{
		"a line inside an excerpt is changed":  {"services/payments/refund.go", "r.Decision = refundSucceeded", "r.Decision = refundSucceeded // sic", "docs/patterns/recovery-point.md"},
		"an excerpt's code has moved":          {"shared/pattern/atmostonce/at_most_once_guard.go", "package atmostonce", "package atmostonce\n", "docs/patterns/at-most-once-guard.md"},
		"what an edit takes away changes":      {"services/orders/saga.go", "Compensation: \"void\"}", "Compensation: \"undo\"}", "saga does not fit any more"},
		"the last marker of a pattern is gone": {"services/payments/authorise.go", "// Pattern: single-use-token-recovery", "//", "single-use-token-recovery: no place of use"},
		"a marker of no pattern":               {"shared/pattern/idempotency/lock.go", "// Pattern: idempotency-key-lock", "// Pattern: idempotency-key-luck", "idempotency-key-luck is not a pattern"},
		"a part of a page is missing":          {"docs/patterns/saga.md", "## When not to use it", "## When", `no part "## When not to use it"`},
		"a dead link":                          {"docs/glossary.md", "# Glossary", "# Glossary\n\n[nowhere](nowhere.md)", "docs/glossary.md:3: dead link: nowhere.md"},
		"a link to no heading":                 {"docs/glossary.md", "# Glossary", "# Glossary\n\n[no](choosing.md#no) [yes](#glossary)", "docs/glossary.md:3: dead link: choosing.md#no: no heading #no"},
		"an excerpt could begin in two places": {"docs/patterns/reconciliation.md", `execute(" "^}"`, `execute" "^}"`, "excerpt of shared/pattern/reconciliation/reconciliation.go: \"func (r *Reconciler) execute\" stands in lines"},
		"a part of a page is empty":            {"docs/patterns/saga.md", "## When not to use it", "## When not to use it\n\n## When", `docs/patterns/saga.md: part "## When not to use it" is empty`},
		"a page shows none of our code":        {"docs/patterns/reject-duplicate.md", "<!-- excerpt s", "<!-- s", "docs/patterns/reject-duplicate.md: lacks <!-- excerpt services/ or <!-- excerpt shared/"},
		"a diagram with a wrong line":          {"docs/patterns/saga.md", "sequenceDiagram", "sequenceDiagram\n    frobnicate", "diagram: unknown statement: frobnicate"},
		"a figure that was not measured":       {"docs/glossary.md", "# Glossary", "# Glossary\n\n<!-- measured teleportation -->\n<!-- end -->", `no line of docs/performance.json begins with "teleportation"`},
		"a command that prints something else": {"docs/glossary.md", "# Glossary", "# Glossary\n\n<!-- run echo two -->\n```console\n$ echo two\none\n```\n<!-- end -->", "docs/glossary.md:6: not as the code is now"},
		"an output that no command checks":     {"docs/glossary.md", "# Glossary", "# Glossary\n\n```console\n$ echo two\ntwo\n```", "docs/glossary.md:3: no command runs this again"},
		"a metric that no service exports":     {"docs/runbook.md", "failwell_events_overdue", "failwell_events_late", "no such metric: failwell_events_late"},
		"a label that no metric has":           {"docs/runbook.md", `{outcome="failed"}`, `{outcome="fallen"}`, `failwell_completer_total has no outcome="fallen"`},
		"a target that make does not know":     {"docs/performance.md", "make bench BENCH=quick", "make haste", "no such target: make haste"},
		"a test that does not exist":           {"docs/patterns/reject-duplicate.md", "-run Identical", "-run Nonsense", `no test of ./scripts/e2e is matched by "Nonsense"`},
		"a fault point that does not exist":    {"docs/patterns/idempotency-key.md", "orders.accept.after-commit", "orders.accept.after-lunch", "no such fault point: orders.accept.after-lunch"},
		"a command that a tool does not know":  {"docs/patterns/reliable-retries.md", "scripts/ops dlq list", "scripts/ops dlq lost", `ops dlq has no command "lost"`},
		"a flag that the lab does not know":    {"docs/patterns/change-record.md", "chaos --seed", "chaos --sead", "lab chaos has no flag --sead"},
		"an example that is not run":           {"shared/pattern/saga/example_test.go", "// Output:", "// Prints:", "Example_without has no // Output:, so that it is not run"},
		"a failure that no example shows":      {"shared/pattern/saga/example_test.go", "func Example_without(", "func Example_otherwise(", "saga: no Example_without"},
		"a pattern without an example":         {"shared/pattern/saga/example_test.go", "func Example()", "func Example_without()", "saga: no Example: no example_test.go has one"},
		"an example of no pattern":             {"shared/pattern/saga/example_test.go", "// Pattern: saga", "// Pattern: sago", "Pattern: sago is not a pattern"},
		"an example that names no pattern":     {"shared/pattern/saga/example_test.go", "// Pattern: saga", "//", "Example_without names no pattern"},
		"a page without its example":           {"docs/patterns/saga.md", "<!-- example -->", "<!-- eggs -->", "docs/patterns/saga.md: lacks <!-- example -->"},
		"an example's line is changed":         {"shared/pattern/saga/example_test.go", "// ② the pivot", "// ② the hinge", "docs/patterns/saga.md"},
		"an import that is not listed":         {"shared/pattern/atmostonce/at_most_once_guard.go", "\"context\"", "\"context\"\n\n\t_ \"github.com/google/uuid\"", "shared/pattern/atmostonce/doc.go: must say under Built on"},
		"an inbox that is not emptied":         {"services/orders/garbage.go", `"/payments", "/ledger"`, `"/payments"`, `services/orders/garbage.go: DeleteOld lacks "/ledger", who sends orders.saga-reply`},
		"a word to avoid in a page":            {"docs/glossary.md", "# Glossary", "# Glossary\n\nNo" + "body knows. `no" + "body` is a name.", `docs/glossary.md:3: "No` + `body" is a word that we avoid`},
		"a word to avoid in a comment":         {"services/payments/refund.go", "package main", "package main // who" + "ever reads", `services/payments/refund.go:`},
		"a word to avoid in a message":         {"services/orders/order.go", "package main", "package main\n\nconst said = \"men" + "ded by now\"", `services/orders/order.go:3: "men` + `ded" is a word that we avoid`},
		"a recording of another run":           {"docs/site/runs/saga.js", "sale booked; the capture is refused", "sale booked", "docs/site/runs/saga.js: without it another run than docs/patterns/experiments.json has"},
		"a question that was asked otherwise":  {"docs/site/experiments.js", "How does the order end?", "How?", "docs/site/experiments.js: not as the code is now"},
		"a tool that does not exist":           {"docs/glossary.md", "# Glossary", "# Glossary\n\n`go run ./scripts/tools`", "no command ./scripts/tools"},
	} {
		t.Run(name, func(t *testing.T) {
			edit(t, c.file, c.old, c.replacement)
			printed, err := gaps(t)
			if err == nil || !strings.Contains(printed, c.says) {
				t.Errorf("%v, and it does not name %q:\n%s", err, c.says, printed)
			}
		})
	}
}

// A page of something that is no pattern has no experiment.
func TestCheck_NoticesAPageWithoutAnExperiment(t *testing.T) {
	copied(t)
	if err := os.WriteFile("docs/patterns/hope.md", []byte("# Hope\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if printed, err := gaps(t); err == nil || !strings.Contains(printed, "docs/patterns/hope.md: a page of no pattern") || !strings.Contains(printed, "docs/patterns/hope.md: no way leads here") {
		t.Errorf("%v\n%s", err, printed)
	}
}

func TestExcerpt_EndsWhereItIsTold(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.go"), []byte("zero\n\tone\n\t\ttwo\n\tthree\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		`a.go "one" "three"`:              "[a.go:2](a.go#L2)||```go|one|    two|three|```",
		`a.go after "one" "three"`:        "[a.go:3](a.go#L3)||```go|    two|three|```",
		`a.go "one" before "three"`:       "[a.go:2](a.go#L2)||```go|one|    two|```",
		`a.go after "one" before "three"`: "[a.go:3](a.go#L3)||```go|two|```",
		`a.go "zero" ""`:                  "[a.go:1](a.go#L1)||```go|zero|```",
		`a.go after "two" before "three"`: `a.go: nothing between "two" and "three"`,
		`a.go "o" "three"`:                `excerpt of a.go: "o" stands in lines 1 and 2 and 3; make it unique`,
		`a.go "four" ""`:                  `excerpt of a.go: no line contains "four"`,
		`a.go "one" "five"`:               `a.go: no line matches "five" after line 2`,
	} {
		block, err := source{root: root}.excerpt("", args)
		got := strings.Join(block, "|")
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
	}
}

// Ids and times differ from run to run; what stands there then stays.
func TestRunAgain_KeepsOutputThatDiffersInIDsAndTimesOnly(t *testing.T) {
	t.Parallel()
	old := []string{"```console", "$ cat a", "ord_01a20db6-4574-7a59-8b2f-ac5ea4c0d52d at 13:19:38.888 took 4.2 ms", "```"}
	for text, stays := range map[string]bool{
		"ord_01a20db6-46c1-70b0-a069-066089e2b0a9 at 14:00:00.001 took 12 s\n":   true,
		"pay_01a20db6-46c1-70b0-a069-066089e2b0a9 at 14:00:00.001 took 4.2 ms\n": false,
		"": false,
	} {
		root := t.TempDir()
		if err := os.WriteFile(filepath.Join(root, "a"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		block, err := source{root: root}.runAgain("cat a", old)
		if err != nil || slices.Equal(block, old) != stays {
			t.Errorf("%q: %q, %v", text, block, err)
		}
	}
	if _, err := (source{root: t.TempDir()}).runAgain("exit 3", nil); err == nil {
		t.Error("a command that fails was taken")
	}
}

func TestMeasurement_IsOnePlainSentence(t *testing.T) {
	t.Parallel()
	for want, m := range map[string]figures.Row{
		"Accept: 2,070 orders/s, p50 3.6 ms, p99 8.6 ms; 0.50 times (0.46 to 0.53) the 4,165 of pgbench.": {
			Line: "accept", Unit: "orders/s", Ours: 2070, P50: 3600 * time.Microsecond, P99: 8600 * time.Microsecond,
			Beside: "pgbench", Theirs: 4165, Min: 0.46, Median: 0.5, Max: 0.53,
		},
		"Memory: 56.50 MB, at 200 orders/s.":                                  {Line: "memory", Unit: "MB", Ours: 56.5, Beside: "at 200 orders/s"},
		"Idle: one at a time, p50 1.0 ms.":                                    {Line: "idle", Unit: "one at a time", P50: time.Millisecond},
		"Growth: 1 MB; 0.90 times (0.90 to 0.90) the same with empty tables.": {Line: "growth", Unit: "MB", Ours: 1, Beside: "the same with empty tables", Min: 0.9, Median: 0.9, Max: 0.9},
	} {
		if got := sentence(m); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

// Whatever Mermaid would refuse to draw, as far as our pages use it.
func TestDiagram_ReportsWhatMermaidWouldRefuse(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"sequenceDiagram\n participant A as Somebody else\n participant B\n A->>+B: asks (once)\n Note over A,B: they wait\n alt yes\n B-->>-A: 202\n else no\n B--xA: lost\n end": "",
		"sequenceDiagram\n participant A\n A->>B: asks":                "B is no participant",
		"sequenceDiagram\n participant A\n A->>A: asks; waits":         "semicolon",
		"sequenceDiagram\n participant A\n A->>A":                      "unknown statement",
		"sequenceDiagram\n participant A\n loop forever\n A->>A: asks": "1 blocks without end",
		"sequenceDiagram\n participant A\n end":                        "end of nothing",
		"sequenceDiagram\n participant A\n loop x\n else y\n end":      `"else" outside of "alt"`,
		"sequenceDiagram\n participant A\n Note above A: x":            "unknown statement",
		"sequence\n A->>B: x":                                          "neither sequenceDiagram nor flowchart",
		"":                                                             "neither",
		"flowchart LR\n A[One] -- \"two (2)\" --> B{Three?}\n B -- no --> C[(four)]\n B -->|yes| D(five)\n A <-- x --> D\n A --- B\n C & D -.-> E([six])\n subgraph g [all]\n A\n end\n click A \"choosing.md\"": "",
		"flowchart XY\n A --> B":              "neither",
		"flowchart LR\n A -> B":               "unknown statement",
		"flowchart LR\n A[one (1)] --> B":     "unknown statement",
		"flowchart LR\n A[one --> B":          "unknown statement",
		"flowchart LR\n A -->":                "unknown statement",
		"flowchart LR\n subgraph g\n A --> B": "1 blocks without end",
		"flowchart LR\n A --> end":            "no node may be called end",
		"flowchart LR\n click A choosing.md":  "unknown statement",
	} {
		all := slices.DeleteFunc(diagram(strings.Split(text, "\n")), func(s string) bool { return s == "" })
		if got := strings.Join(all, ", "); says == "" && got != "" || !strings.Contains(got, says) {
			t.Errorf("%q: %q, want %q", text, got, says)
		}
	}
}
