package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/failwell/scripts/lab/experiments"
)

// kept is what the page is drawn from, and ranNow another run: another id, other times.
func kept() experiments.Result {
	return experiments.Result{
		ID: "completer", Fault: "the process dies",
		Without: experiments.Verdict{Says: "1 refund unfinished forever"},
		With:    experiments.Verdict{Good: true, Says: "1 refund finished"},
		Left:    []experiments.Line{{AtMS: 14, Text: "started; given back at the processor"}},
		Right: []experiments.Line{
			{AtMS: 20, Text: "POST again: 202, Location: /v1/orders/ord_01a20e07-488e-7de5-93e0-d13043e1c1fe"},
			{AtMS: 3007, Text: "the completer took it over, 4.2 s after the restart"},
		},
	}
}

func ranNow() experiments.Result {
	r := kept()
	r.Left[0].AtMS = 3
	r.Right[0].Text = "POST again: 202, Location: /v1/orders/ord_01a20fff-1111-7222-8333-444444444444"
	r.Right[1].Text = "the completer took it over, 11.0 s after the restart"
	return r
}

func TestCompare_FindsWhereARunDiffersFromThePage(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*experiments.Result)
		says   string // nothing: it is as it is shown
	}{
		{"other times and ids", func(*experiments.Result) {}, ""},
		{"a changed word without the pattern", func(r *experiments.Result) { r.Left[0].Text = "started; given back" }, `want "  started; given back at the processor", got "  started; given back"`},
		{"a changed word with it", func(r *experiments.Result) { r.Right[1].Text = "the completer took it up, 4.2 s after the restart" }, `got "  the completer took it up, * after the restart"`},
		{"a changed status", func(r *experiments.Result) { r.Right[0].Text = "POST again: 201" }, `got "  POST again: 201"`},
		{"a changed verdict", func(r *experiments.Result) { r.With.Says = "2 refunds finished" }, `want "  ✓ 1 refund finished", got "  ✓ 2 refunds finished"`},
		{"another fault", func(r *experiments.Result) { r.Fault = "the process sleeps" }, `got "Fault: the process sleeps."`},
		{"a line too many", func(r *experiments.Result) { r.Right = append(r.Right, experiments.Line{Text: "and more"}) }, `got "  and more"`},
		{"a line too few", func(r *experiments.Result) { r.Left = nil }, `want "  started; given back at the processor", got "  ✗ 1 refund`},
		{"one that is not shown", func(r *experiments.Result) { r.ID = "saga" }, `saga: want "Fault: ."`},
	} {
		dir := t.TempDir()
		text, err := json.Marshal([]experiments.Result{kept()})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "experiments.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		r := ranNow()
		c.change(&r)
		err = compare(dir, []experiments.Result{r})
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: got %v, want %s", c.what, err, c.says)
		}
	}
}

func TestCompare_NeedsWhatThePagesAreDrawnFrom(t *testing.T) {
	if err := compare(t.TempDir(), []experiments.Result{ranNow()}); err == nil || !strings.Contains(err.Error(), "experiments.json") {
		t.Errorf("got %v", err)
	}
}

func TestCompare_RefusesAnotherSeedThanThePages(t *testing.T) {
	err := runCmd{ID: "completer", Seed: pagesSeed + 1, Compare: t.TempDir()}.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "--seed 1") {
		t.Errorf("got %v", err)
	}
}
