package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"example.com/failwell/scripts/lab/experiments"
	"example.com/failwell/scripts/lab/experiments/edits"
	"example.com/failwell/scripts/lab/world"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/testenv"
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

type withoutCmd struct {
	ID string `arg:"" help:"The pattern."`
}

// Run prints the edit that takes a pattern away.
func (c withoutCmd) Run() error {
	if _, err := experiments.Find(c.ID); err != nil {
		return err
	}
	root, err := stack.ModuleRoot()
	if err != nil {
		return err
	}
	diff, err := edits.Diff(root, c.ID)
	if err == nil {
		_, err = fmt.Print(diff)
	}
	return err
}

type runCmd struct {
	ID      string `arg:"" help:"The pattern, or all."`
	Seed    uint64 `default:"1" help:"Decides how much is bought and paid, which of several is hit, and the outside world's dice. The same seed is the same run; the pages show 1."`
	JSON    bool   `name:"json" help:"For machines."`
	Ask     bool   `help:"Ask what will happen before it does."`
	Systems int    `default:"3" help:"How many edited systems to run side by side."`

	Record  string `placeholder:"DIR" help:"Keep what happened between the processes in both systems, for the page in the browser (docs/site/runs). One edited system at a time."`
	Compare string `placeholder:"DIR" help:"Fail when the experiments.json in this directory, which its pages are drawn from, has other timelines, other verdicts or another fault. The pages show seed 1."`

	recorder *recorder // nil: not asked for
}

// Run runs experiments and fails unless each ends as it should: badly without the
// pattern, well with it.
func (c runCmd) Run(ctx context.Context) error {
	if c.Record != "" {
		c.Systems, c.recorder = 1, newRecorder(c.Record)
	}
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
	var expected []string
	if c.Ask {
		if len(chosen) > 1 || len(chosen[0].Ask) == 0 {
			return errors.New("--ask is for one experiment that has questions")
		}
		expected = ask(os.Stdin, progress, chosen[0])
	}
	begun, unexpected := time.Now(), []string{}
	var results []experiments.Result
	var unwritten error
	err := c.perform(ctx, progress, chosen, func(e experiments.Experiment, result experiments.Result) {
		results = append(results, result)
		if c.recorder != nil && result.Expected() {
			unwritten = errors.Join(unwritten, c.recorder.write(e.ID))
		}
		if !result.Expected() {
			unexpected = append(unexpected, e.ID)
		}
		if !c.JSON {
			show(os.Stdout, result, len(chosen) == 1)
		}
		if c.Ask {
			grade(progress, e, result, expected)
		}
	})
	if err = errors.Join(err, unwritten); err != nil {
		return err
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

// perform runs experiments and tells each result, in their order. The system as it is
// runs once, for one experiment after the other. Each edit needs a system of its own, of
// which a few run side by side. All share one PostgreSQL and one RabbitMQ.
func (c runCmd) perform(ctx context.Context, progress io.Writer, chosen []experiments.Experiment, tell func(experiments.Experiment, experiments.Result)) error {
	ctx, cancel := context.WithCancel(ctx)
	var servers *testenv.Env // of a recording each system has its own: the log of a server is that of all its databases
	if c.recorder == nil {
		var err error
		if servers, err = testenv.Start(ctx, testenv.Options{IgnoreGiven: true, Log: progress}); err != nil {
			cancel()
			return err
		}
	}
	var all sync.WaitGroup
	defer func() { // systems before servers
		cancel()
		all.Wait()
		if servers != nil {
			servers.Close()
		}
	}()
	without, with := make([]chan experiments.Half, len(chosen)), make([]chan experiments.Half, len(chosen))
	for i := range chosen {
		without[i], with[i] = make(chan experiments.Half, 1), make(chan experiments.Half, 1)
	}
	all.Go(func() {
		w, err := c.system(ctx, servers, "asitis", nil)
		if err == nil {
			defer w.Close()
		}
		for i, e := range chosen {
			with[i] <- c.half(ctx, e, w, false, err)
		}
	})
	all.Go(func() {
		var edited errgroup.Group
		edited.SetLimit(c.Systems)
		for i, e := range chosen {
			edited.Go(func() error {
				w, err := c.edited(ctx, servers, e.ID)
				if err == nil {
					defer w.Close()
				}
				without[i] <- c.half(ctx, e, w, true, err)
				return nil
			})
		}
		_ = edited.Wait() // each half has its error
	})
	for i, e := range chosen {
		result := e.Result(c.Seed, <-without[i], <-with[i])
		if ctx.Err() != nil {
			return ctx.Err()
		}
		tell(e, result)
	}
	return nil
}

// half runs an experiment in a system, if that could be started.
func (c runCmd) half(ctx context.Context, e experiments.Experiment, w *experiments.World, without bool, err error) experiments.Half {
	if err != nil {
		return experiments.Half{Err: err}
	}
	if c.recorder != nil {
		return c.recorder.perform(ctx, e, w, without)
	}
	return e.Perform(ctx, w, without)
}

// edited starts the system without a pattern.
func (c runCmd) edited(ctx context.Context, servers *testenv.Env, id string) (*experiments.World, error) {
	root, err := stack.ModuleRoot()
	if err != nil {
		return nil, err
	}
	edit, err := edits.Of(id)
	if err != nil {
		return nil, err
	}
	overlay, err := edits.Overlay(root, id, edit)
	if err != nil {
		return nil, err
	}
	return c.system(ctx, servers, strings.ReplaceAll(id, "-", ""), overlay)
}

// system starts a system beside the others.
func (c runCmd) system(ctx context.Context, servers *testenv.Env, tenant string, overlay map[string]string) (*experiments.World, error) {
	opts := stack.Options{Servers: servers, Tenant: tenant, Overlay: overlay, Env: map[string][]string{
		stack.Sandbox: {fmt.Sprintf("SANDBOX_SEED=%d", c.Seed)},
		// A lost command is sent again by the completer of the sagas. Here it must not
		// hide what the outbox is for.
		stack.Orders: {"SAGA_STEP_TIMEOUT=10m"},
	}}
	if c.recorder != nil {
		return c.recorder.system(ctx, opts, c.Seed)
	}
	w, err := world.Start(ctx, opts)
	return &experiments.World{World: w, Seed: c.Seed}, err
}

// ask shows the situation and asks the experiment's questions.
func ask(in io.Reader, out io.Writer, e experiments.Experiment) (expected []string) {
	fmt.Fprintf(out, "%s\n%s\nFault: %s.\n\nWhat will happen?\n", e.ID, e.Says, e.Fault)
	lines := bufio.NewScanner(in)
	for n, q := range e.Ask {
		fmt.Fprintf(out, "\n%d. %s: %s\n", n+1, q.System(), q.Text)
		for i, choice := range q.Choices {
			fmt.Fprintf(out, "   %c) %s\n", 'a'+i, choice)
		}
		fmt.Fprint(out, "   > ")
		choice := ""
		if lines.Scan() {
			if i := int(strings.ToLower(strings.TrimSpace(lines.Text()) + " ")[0]) - 'a'; i >= 0 && i < len(q.Choices) {
				choice = q.Choices[i]
			}
		}
		expected = append(expected, choice)
	}
	return expected
}

// grade holds what was expected against what was measured.
func grade(out io.Writer, e experiments.Experiment, result experiments.Result, expected []string) {
	for n, q := range e.Ask {
		was, mark := q.Answer(result), "✗"
		if was == expected[n] {
			mark = "✓"
		}
		fmt.Fprintf(out, "\n%d. %s: %s\n   It was %s; you said %s %s\n   %s\n", n+1, q.System(), q.Text, was, cmp.Or(expected[n], "nothing"), mark, q.Why)
	}
}

// show prints one experiment; with its timelines when it is the only one.
func show(w io.Writer, r experiments.Result, whole bool) {
	if r.Error != "" {
		fmt.Fprintf(w, "%-26s ✗ it shows nothing: %s\n", r.ID, r.Error)
		if r.With.Says != "" { // a pattern that is gone from the services has no line that its edit could take away
			fmt.Fprintf(w, "%-26s with:    %s %s\n", "", r.With.Mark(), r.With.Says)
		}
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
