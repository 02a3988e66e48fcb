package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/failwell/scripts/lab/experiments"
)

const completersPage = `# Completer

<!-- verdict -->
Fault: the process dies.

` + "```" + `
WITHOUT
  started; given back at the processor
  ✗ 1 refund unfinished forever

WITH
  POST again: 202, Location: /v1/orders/ord_01a20e07-488e-7de5-93e0-d13043e1c1fe
  the completer took it over, 4.2 s after the restart
  ✓ 1 refund finished
` + "```" + `
<!-- end -->

## Try it

` + "```" + `
go run ./scripts/lab run completer
` + "```" + `
`

// completersRun is another run than the page shows: another id, other times.
func completersRun() experiments.Result {
	return experiments.Result{
		ID: "completer", Seed: pagesSeed, Fault: "the process dies", Code: "shared/completer.go", Edit: "go run ./scripts/lab without completer", Page: "docs/patterns/completer.md",
		Without: experiments.Verdict{Says: "1 refund unfinished forever"},
		With:    experiments.Verdict{Good: true, Says: "1 refund finished"},
		Left:    []experiments.Line{{AtMS: 14, Text: "started; given back at the processor"}},
		Right: []experiments.Line{
			{AtMS: 20, Text: "POST again: 202, Location: /v1/orders/ord_01a20fff-1111-7222-8333-444444444444"},
			{AtMS: 3007, Text: "the completer took it over, 11.0 s after the restart"},
		},
	}
}

func TestCompare_FindsWhereAPageDiffersFromTheRun(t *testing.T) {
	for _, c := range []struct {
		what, old, instead, says string // says nothing: the page is as it was run
	}{
		{"as it was run", "", "", ""},
		{"other times and ids", "4.2 s", "0.3 s", ""},
		{"a changed word without the pattern", "given back at", "given back by", `.md:8: want "  started; given back by the processor", got "  started; given back at the processor"`},
		{"a changed word with it", "took it over", "took it up", `.md:13: want "  the completer took it up, * after the restart", got "  the completer took it over, * after the restart"`},
		{"a changed status", "again: 202", "again: 201", `.md:12: want "  POST again: 201`},
		{"a changed verdict in the timeline", "  ✓ 1 refund", "  ✓ 2 refund", `.md:14: want "  ✓ 2 refund finished", got "  ✓ 1 refund finished"`},
		{"another fault", "the process dies.", "the process sleeps.", `.md:4: want "Fault: the process sleeps."`},
		{"a line too many", "  ✓ 1 refund finished\n```\n", "  ✓ 1 refund finished\n```\nand more\n", `.md:16: want "and more", got "<!-- end -->"`},
		{"a line too few", "  started; given back at the processor\n", "", `.md:8: want "  ✗ 1 refund unfinished forever", got "  started; given back`},
		{"a page that ends early", completersPage[strings.Index(completersPage, "  ✓ 1 refund"):], "", `.md:14: want "", got "  ✓ 1 refund finished"`},
		{"nothing of the timelines", "<!-- verdict -->", "", `.md: no <!-- verdict -->`},
	} {
		dir := t.TempDir()
		page := filepath.Join(dir, "completer.md")
		if err := os.WriteFile(page, []byte(strings.Replace(completersPage, c.old, c.instead, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		err := compare(dir, []experiments.Result{completersRun()})
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(page, ".md")+c.says)):
			t.Errorf("%s: got %v, want %s%s", c.what, err, strings.TrimSuffix(page, ".md"), c.says)
		}
	}
}

func TestCompare_AnExperimentWithoutAPageIsStale(t *testing.T) {
	if err := compare(t.TempDir(), []experiments.Result{completersRun()}); err == nil || !strings.Contains(err.Error(), "completer.md") {
		t.Errorf("got %v", err)
	}
}

func TestCompare_RefusesAnotherSeedThanThePages(t *testing.T) {
	err := runCmd{ID: "completer", Seed: pagesSeed + 1, Compare: t.TempDir()}.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "--seed 1") {
		t.Errorf("got %v", err)
	}
}
