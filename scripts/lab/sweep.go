package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/lab/sweep"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

type sweepCmd struct {
	Only    string         `help:"Only combinations whose name contains this: payments.refund, /crash/, client-gone."`
	Faults  []fault.Action `default:"crash,error,delay" enum:"crash,error,delay" help:"Which faults."`
	Systems int            `default:"3" help:"How many systems to sweep side by side."`
	Resume  string         `type:"path" help:"A file that keeps what held, so that a sweep that was stopped goes on. Another source begins anew."`
	Report  string         `type:"path" help:"Write the table as Markdown to this file. Only of a whole sweep."`
}

// swept is the outcome of a combination.
type swept struct {
	sweep.Combination
	Error string        `json:"error,omitempty"`
	Took  time.Duration `json:"took"`
}

// Run sweeps, and fails when anything did not hold or a point was not passed.
func (c sweepCmd) Run(ctx context.Context) error {
	var all []sweep.Combination
	for _, combination := range sweep.All(c.Faults...) {
		if strings.Contains(combination.String(), c.Only) {
			all = append(all, combination)
		}
	}
	if len(all) == 0 {
		return fmt.Errorf("no combination's name contains %q: nothing was swept", c.Only)
	}
	if c.Report != "" && len(all) < len(sweep.All(fault.Crash, fault.Error, fault.Delay)) {
		return errors.New("--report is for a whole sweep: a part of it would overwrite the table of all")
	}
	s, err := newSweeping(all, c.Resume)
	if err != nil {
		return err
	}
	if err := c.work(ctx, s); err != nil {
		return err
	}
	failed := s.failed()
	for _, f := range failed {
		fmt.Printf("\n%s\n%s\nagain: go run ./scripts/lab sweep --only %s\n", f.Combination, f.Error, f.Combination)
	}
	points := map[string]bool{}
	for _, combination := range all {
		points[combination.Point] = true
	}
	fmt.Printf("\n%d of %d fault points, %d combinations, %d held, %d did not; %.0f s\n",
		len(points), len(fault.Points), len(all), len(all)-len(failed), len(failed), time.Since(s.begun).Seconds())
	if c.Report != "" {
		if err := os.WriteFile(c.Report, []byte(report(all, s.done)), 0o644); err != nil { //nolint:gosec // documentation
			return err
		}
	}
	if len(failed) > 0 {
		return errors.New("the sweep found what does not hold")
	}
	return nil
}

// work hands the combinations to some systems, side by side.
func (c sweepCmd) work(ctx context.Context, s *sweeping) error {
	todo := s.todo()
	queue := make(chan sweep.Combination, len(todo))
	for _, combination := range todo {
		queue <- combination
	}
	close(queue)
	errs := make([]error, min(max(1, c.Systems), len(todo)))
	var systems sync.WaitGroup
	for i := range errs {
		systems.Go(func() { errs[i] = oneSystem(ctx, queue, s.tell) })
	}
	systems.Wait()
	return errors.Join(errs...)
}

// oneSystem starts a system and sweeps with it. After a violation it takes a new
// one: the old one's books are wrong for good.
func oneSystem(ctx context.Context, queue <-chan sweep.Combination, tell func(swept) error) error {
	for {
		again, err := untilViolated(ctx, queue, tell)
		if err != nil || !again {
			return err
		}
	}
}

// untilViolated sweeps with one system. It returns true when that is spoilt.
func untilViolated(ctx context.Context, queue <-chan sweep.Combination, tell func(swept) error) (bool, error) {
	system, err := stack.Start(ctx, stack.Options{Out: io.Discard, IgnoreGiven: true, Env: sweep.Impatient})
	if err != nil {
		return false, err
	}
	defer system.Close()
	truth, err := audit.Open(ctx, system.DatabaseURL, system.ReceiptsURL())
	if err != nil {
		return false, err
	}
	defer truth.Close()
	world := &sweep.World{System: system, Shop: shop.New(system.Env()), Truth: truth}
	for combination := range queue {
		begun := time.Now()
		err := world.One(ctx, combination)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		s := swept{Combination: combination, Took: time.Since(begun)}
		if err != nil {
			s.Error = err.Error()
		}
		if err := tell(s); err != nil {
			return false, err
		}
		violated := (*sweep.Violated)(nil)
		if err != nil && (!errors.Is(err, sweep.ErrOtherAnswer) || errors.As(err, &violated)) {
			return true, nil
		}
	}
	return false, nil
}
