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
	"example.com/failwell/scripts/lab/world"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

type sweepCmd struct {
	Only    string         `help:"Only combinations whose name contains this: payments.refund, /crash/, client-gone."`
	Faults  []fault.Action `default:"crash,error,delay" enum:"crash,error,delay" help:"Which faults."`
	Systems int            `default:"3" help:"How many systems to sweep side by side."`
	Report  string         `type:"path" help:"Write the table as Markdown to this file. Only of a whole sweep."`
}

// swept is the outcome of a combination.
type swept struct {
	sweep.Combination
	Error string
	Took  time.Duration
}

// sweeping is a sweep on its way: what is to be done, and what came of it.
type sweeping struct {
	all   []sweep.Combination
	begun time.Time

	mu   sync.Mutex
	done map[sweep.Combination]swept
}

func (s *sweeping) failed() []swept {
	var failed []swept
	for _, c := range s.all {
		if s.done[c].Error != "" {
			failed = append(failed, s.done[c])
		}
	}
	return failed
}

// tell takes note of an outcome, and shows it.
func (s *sweeping) tell(outcome swept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done[outcome.Combination] = outcome
	mark := "held"
	if outcome.Error != "" {
		mark = "VIOLATED"
	}
	left := len(s.all) - len(s.done)
	remaining := time.Since(s.begun) / time.Duration(len(s.done)) * time.Duration(left)
	fmt.Printf("%3d/%d  %-8s %-75s %4.1f s   %s left\n", len(s.done), len(s.all), mark, outcome.Combination, outcome.Took.Seconds(), remaining.Round(time.Second))
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
	s := &sweeping{all: all, begun: time.Now(), done: map[sweep.Combination]swept{}}
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
	queue := make(chan sweep.Combination, len(s.all))
	for _, combination := range s.all {
		queue <- combination
	}
	close(queue)
	errs := make([]error, min(max(1, c.Systems), len(s.all)))
	var systems sync.WaitGroup
	for i := range errs {
		systems.Go(func() { errs[i] = oneSystem(ctx, queue, s.tell) })
	}
	systems.Wait()
	return errors.Join(errs...)
}

// oneSystem starts a system and sweeps with it. After a violation it takes a new
// one: the old one's books are wrong for good.
func oneSystem(ctx context.Context, queue <-chan sweep.Combination, tell func(swept)) error {
	for {
		again, err := untilViolated(ctx, queue, tell)
		if err != nil || !again {
			return err
		}
	}
}

// untilViolated sweeps with one system. It returns true when that is spoilt.
func untilViolated(ctx context.Context, queue <-chan sweep.Combination, tell func(swept)) (bool, error) {
	started, err := world.Start(ctx, stack.Options{Out: io.Discard, IgnoreGiven: true, Env: sweep.Impatient})
	if err != nil {
		return false, err
	}
	defer started.Close()
	w := &sweep.World{World: started}
	for combination := range queue {
		begun := time.Now()
		err := w.One(ctx, combination)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		s := swept{Combination: combination, Took: time.Since(begun)}
		if err != nil {
			s.Error = err.Error()
		}
		tell(s)
		violated := (*audit.Violated)(nil)
		if err != nil && (!errors.Is(err, sweep.ErrOtherAnswer) || errors.As(err, &violated)) {
			return true, nil
		}
	}
	return false, nil
}
