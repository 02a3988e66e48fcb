package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/lab/experiments"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

type listCmd struct{}

// Run lists the experiments.
func (listCmd) Run() error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, e := range experiments.All {
		fmt.Fprintf(table, "%s\t%s\n", e.ID, e.Says)
	}
	return table.Flush()
}

type runCmd struct {
	ID   string `arg:"" help:"The pattern, or all."`
	Seed uint64 `default:"1" help:"Decides how much is bought and paid, which of several is hit, what keys and names are drawn, and the outside world's dice. The same seed is the same run."`
	JSON bool   `name:"json" help:"For machines."`

	Compare string `placeholder:"DIR" help:"Fail when the experiment's page in this directory shows other timelines, other verdicts or another fault. The pages show seed 1."`
}

// Run runs experiments and fails unless each ends as it should: badly without the
// pattern, well with it.
func (c runCmd) Run(ctx context.Context) error {
	if c.Compare != "" && c.Seed != pagesSeed {
		return fmt.Errorf("the pages show --seed %d, this would be another run", pagesSeed)
	}
	chosen := experiments.All
	if c.ID != "all" {
		e, err := experiments.Find(c.ID)
		if err != nil {
			return err
		}
		chosen = []experiments.Experiment{e}
	}
	var progress io.Writer = os.Stdout
	if c.JSON {
		progress = os.Stderr
	}
	system, err := stack.Start(ctx, stack.Options{Out: progress, IgnoreGiven: true, Env: map[string][]string{
		stack.Sandbox: {fmt.Sprintf("SANDBOX_SEED=%d", c.Seed)},
	}})
	if err != nil {
		return err
	}
	defer system.Close()
	truth, err := audit.Open(ctx, system.DatabaseURL, system.ReceiptsURL())
	if err != nil {
		return err
	}
	defer truth.Close()
	naive, err := experiments.OpenNaive(ctx, system.Servers.PostgresURL)
	if err != nil {
		return err
	}
	defer naive.Close()
	world := &experiments.World{System: system, Shop: shop.New(system.Env()), Truth: truth, Naive: naive, Seed: c.Seed}

	begun, unexpected := time.Now(), []string{}
	var results []experiments.Result
	for _, e := range chosen {
		result := e.Perform(ctx, world)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		results = append(results, result)
		if !result.Expected() {
			unexpected = append(unexpected, e.ID)
		}
		if !c.JSON {
			show(os.Stdout, result, len(chosen) == 1)
		}
	}
	if c.JSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(results); err != nil {
			return err
		}
	}
	var stale error
	if c.Compare != "" {
		stale = compare(c.Compare, results)
	}
	if len(unexpected) > 0 {
		return errors.Join(stale, fmt.Errorf("%d of %d experiments did not end as expected: %s; again: lab run <id> --seed %d",
			len(unexpected), len(chosen), strings.Join(unexpected, ", "), c.Seed))
	}
	if stale != nil {
		return stale
	}
	fmt.Fprintf(progress, "\n%d of %d experiments: bad without the pattern, good with it; seed %d, %.0f s\n", len(chosen), len(chosen), c.Seed, time.Since(begun).Seconds())
	return nil
}

// show prints one experiment; with its timelines when it is the only one.
func show(w io.Writer, r experiments.Result, whole bool) {
	if r.Error != "" {
		fmt.Fprintf(w, "%-26s ✗ it could not be run: %s\n", r.ID, r.Error)
		return
	}
	if !whole {
		fmt.Fprintf(w, "%-26s without: %s %s\n%-26s with:    %s %s\n", r.ID, r.Without.Mark(), r.Without.Says, "", r.With.Mark(), r.With.Says)
		return
	}
	fmt.Fprintf(w, "\n%s\n%s\nFault: %s.\n\n", r.ID, r.Says, r.Fault)
	const column = 66
	fmt.Fprintf(w, "%-*s  %s\n", column, "WITHOUT", "WITH")
	for i := range max(len(r.Left), len(r.Right)) {
		left, right := wrap(line(r.Left, i), column), wrap(line(r.Right, i), column)
		for j := range max(len(left), len(right)) {
			fmt.Fprintf(w, "%s  %s\n", pad(at(left, j), column), at(right, j))
		}
	}
	fmt.Fprintf(w, "\n%s\n", strings.Join(r.Ending(), "\n"))
}

func line(lines []experiments.Line, i int) string {
	if i >= len(lines) {
		return ""
	}
	return fmt.Sprintf("%6.2fs %s", float64(lines[i].AtMS)/1000, lines[i].Text)
}

// wrap breaks a line at spaces; what follows is indented under the text.
func wrap(text string, width int) []string {
	var lines []string
	current := ""
	for _, word := range strings.SplitAfter(text, " ") {
		if utf8.RuneCountInString(current+word) > width && strings.TrimSpace(current) != "" {
			lines, current = append(lines, current), "        "
		}
		current += word
	}
	return append(lines, current)
}

func at(lines []string, i int) string {
	if i >= len(lines) {
		return ""
	}
	return strings.TrimRight(lines[i], " ")
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}
