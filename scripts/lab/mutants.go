package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/lab/mutants"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

type mutantsCmd struct {
	Only    string        `help:"Only the mutants whose name contains this."`
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
// each is caught by the one that it was made for, and by no other.
func (c mutantsCmd) Run(ctx context.Context) error {
	var chosen []mutants.Mutant
	for _, m := range mutants.All {
		if strings.Contains(m.ID, c.Only) {
			chosen = append(chosen, m)
		}
	}
	outcomes := make([]caught, len(chosen))
	places := make(chan struct{}, c.Systems)
	var all sync.WaitGroup
	for i, m := range chosen {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			outcomes[i] = c.one(ctx, m)
		})
	}
	all.Wait()

	missed := 0
	fmt.Printf("%-22s %-26s %-24s %s\n", "mutant", "without", "must turn red", "turned red")
	for i, m := range chosen {
		o := outcomes[i]
		mark := "✓"
		if o.err != nil || !slices.Equal(o.red, []string{m.Invariant}) {
			mark = "✗"
			missed++
		}
		fmt.Printf("%-22s %-26s %-24s %s %s\n", m.ID, m.Pattern, m.Invariant, strings.Join(o.red, ", "), mark)
		switch {
		case o.err != nil:
			fmt.Printf("    %v\n", o.err)
		case o.says != "":
			fmt.Printf("    %s: %s\n", m.Says, o.says)
		}
	}
	fmt.Printf("\n%d mutants, %d caught by the invariant that they were made for\n", len(chosen), len(chosen)-missed)
	if missed > 0 {
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
	system, err := stack.Start(ctx, stack.Options{Out: io.Discard, IgnoreGiven: true, Overlay: overlay})
	if err != nil {
		return caught{err: err}
	}
	defer system.Close()
	truth, err := audit.Open(ctx, system.DatabaseURL, system.ReceiptsURL())
	if err != nil {
		return caught{err: err}
	}
	defer truth.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	own, err := m.Drive(ctx, &mutants.World{System: system, Shop: shop.New(system.Env()), Truth: truth})
	if err != nil {
		return caught{err: err}
	}
	quiet, stop := context.WithTimeout(ctx, c.Quiet)
	defer stop()
	_ = audit.WaitQuiet(quiet, truth) // a mutant may never be; the audit says what that means
	results, err := audit.Run(ctx, truth)
	if err != nil {
		return caught{err: err}
	}
	if own != nil {
		results = audit.Merge(results, *own)
	}
	var o caught
	for _, r := range results {
		if !r.Held() {
			o.red = append(o.red, r.ID)
			o.says = r.Violations[0]
		}
	}
	return o
}
