package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/lab/mutants"
	"example.com/failwell/scripts/lab/world"
	"example.com/failwell/scripts/stack"
)

type mutantsCmd struct {
	Only    []string      `help:"Only the mutants whose name contains one of these."`
	Systems int           `default:"3" help:"How many to run side by side."`
	Quiet   time.Duration `default:"12s" help:"How long a mutant may take to become quiet; some never do."`
}

// caught is what the audit said of a mutant.
type caught struct {
	red  []string // invariants
	says string   // the first violation
	err  error
}

// Run runs the mutants and prints which invariant caught each. It fails unless
// each is caught by the one that it was made for, and by no other, and unless
// nothing is red after the same drives of the system as it is.
func (c mutantsCmd) Run(ctx context.Context) error {
	chosen, err := mutants.Chosen(c.Only)
	if err != nil {
		return err
	}
	outcomes := make([]caught, len(chosen)+1) // the last is the control
	var all errgroup.Group
	all.SetLimit(c.Systems)
	var drives []mutants.Drive
	for _, m := range chosen {
		if !slices.ContainsFunc(drives, func(d mutants.Drive) bool { return d.ID == m.Drive.ID }) {
			drives = append(drives, m.Drive)
		}
	}
	all.Go(func() error { outcomes[len(chosen)] = control(ctx, drives); return nil })
	for i, m := range chosen {
		all.Go(func() error { outcomes[i] = c.one(ctx, m); return nil })
	}
	_ = all.Wait() // each outcome has its error

	missed := 0
	const line = "%-24s %-26s %-24s %s %s\n"
	fmt.Printf(line, "mutant", "without", "must turn red", "turned red", "")
	for i, m := range chosen {
		o := outcomes[i]
		mark := "✓"
		if o.err != nil || !slices.Equal(o.red, []string{m.Invariant}) {
			mark = "✗"
			missed++
		}
		fmt.Printf(line, m.ID, m.Pattern, m.Invariant, strings.Join(o.red, ", "), mark)
		switch {
		case o.err != nil:
			fmt.Printf("    %v\n", o.err)
		case o.says != "":
			fmt.Printf("    %s: %s\n", m.Says, o.says)
		}
	}
	control, mark := outcomes[len(chosen)], "✓"
	if control.err != nil || len(control.red) > 0 {
		mark = "✗"
	}
	fmt.Printf(line, "none, as a control", "", "nothing", strings.Join(control.red, ", "), mark)
	fmt.Printf("\n%d mutants, %d caught by the invariant that they were made for; %d drives without a mutant\n", len(chosen), len(chosen)-missed, len(drives))
	switch {
	case control.err != nil:
		return fmt.Errorf("control: %w", control.err)
	case len(control.red) > 0:
		return fmt.Errorf("the audit finds fault with the system as it is: %s", control.says)
	case missed > 0:
		return errors.New("the audit does not see what it should")
	}
	return nil
}

// one builds a mutant, drives it and audits it.
func (c mutantsCmd) one(ctx context.Context, m mutants.Mutant) caught {
	overlay, err := m.Overlay(".")
	if err != nil {
		return caught{err: err}
	}
	w, err := start(ctx, overlay)
	if err != nil {
		return caught{err: err}
	}
	defer w.Close()
	// A mutant may never be quiet; the audit says what that means.
	o, _ := drive(ctx, w, m.Drive, c.Quiet)
	return o
}

// toBeQuiet is what the system as it is may take: it always becomes quiet.
const toBeQuiet = time.Minute

// control drives the unedited system, one drive after the other. It must become
// quiet after each, and nothing may be red.
func control(ctx context.Context, drives []mutants.Drive) caught {
	w, err := start(ctx, nil)
	if err != nil {
		return caught{err: err}
	}
	defer w.Close()
	for _, d := range drives {
		o, restless := drive(ctx, w, d, toBeQuiet)
		if o.err == nil {
			o.err = restless
		}
		if o.err == nil {
			o.err = w.Shop.Misbehave(ctx, `{"rules":[]}`)
		}
		if o.err != nil {
			o.err = fmt.Errorf("%s: %w", d.ID, o.err)
		}
		if o.err != nil || len(o.red) > 0 {
			return o
		}
	}
	return caught{}
}

// start starts a system with some of its source replaced.
func start(ctx context.Context, overlay map[string]string) (*mutants.World, error) {
	w, err := world.Start(ctx, stack.Options{Out: io.Discard, IgnoreGiven: true, Overlay: overlay})
	return &mutants.World{World: w}, err
}

// drive drives a system, waits until it is quiet, and audits it. restless says that
// it never was.
func drive(ctx context.Context, w *mutants.World, d mutants.Drive, patience time.Duration) (o caught, restless error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute+patience)
	defer cancel()
	heard, err := d.Do(ctx, w)
	if err != nil {
		return caught{err: err}, nil
	}
	quiet, stop := context.WithTimeout(ctx, patience)
	defer stop()
	restless = audit.WaitQuiet(quiet, w.Truth)
	results, err := audit.Run(ctx, w.Truth)
	if err != nil {
		return caught{err: err}, restless
	}
	if len(heard) > 0 {
		own, err := audit.Heard(ctx, w.Truth, heard)
		if err != nil {
			return caught{err: err}, restless
		}
		results = audit.Merge(results, own)
	}
	for _, r := range results {
		if !r.Held() {
			o.red = append(o.red, r.ID)
			o.says = r.Violations[0]
		}
	}
	return o, restless
}
