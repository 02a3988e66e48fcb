package main

import (
	"context"
	"encoding/json"
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
	Resume  string         `type:"path" help:"A file that keeps what was done, so that a sweep that was stopped goes on."`
	Report  string         `type:"path" help:"Write the table as Markdown to this file."`
}

// swept is the outcome of a combination.
type swept struct {
	sweep.Combination
	Error string        `json:"error,omitempty"`
	Took  time.Duration `json:"took"`
}

// Run sweeps, and fails when anything did not hold or a point was not passed.
func (c sweepCmd) Run(ctx context.Context) error {
	done, err := c.load()
	if err != nil {
		return err
	}
	var all, todo []sweep.Combination
	for _, combination := range sweep.All(c.Faults...) {
		if !strings.Contains(combination.String(), c.Only) {
			continue
		}
		all = append(all, combination)
		if _, known := done[combination]; !known {
			todo = append(todo, combination)
		}
	}
	begun := time.Now()
	if err := c.work(ctx, todo, done); err != nil {
		return err
	}
	failed := 0
	for _, combination := range all {
		if s := done[combination]; s.Error != "" {
			failed++
			fmt.Printf("\n%s\n%s\nagain: go run ./scripts/lab sweep --only %s\n", combination, s.Error, combination)
		}
	}
	fmt.Printf("\n%d fault points, %d combinations, %d held, %d did not; %.0f s\n", len(fault.Points), len(all), len(all)-failed, failed, time.Since(begun).Seconds())
	if c.Report != "" {
		if err := os.WriteFile(c.Report, []byte(report(all, done)), 0o644); err != nil { //nolint:gosec // documentation
			return err
		}
	}
	if failed > 0 {
		return errors.New("the sweep found what does not hold")
	}
	return nil
}

// work hands the combinations to some systems, side by side.
func (c sweepCmd) work(ctx context.Context, todo []sweep.Combination, done map[sweep.Combination]swept) error {
	queue := make(chan sweep.Combination, len(todo))
	for _, combination := range todo {
		queue <- combination
	}
	close(queue)
	var mu sync.Mutex
	var first error
	var systems sync.WaitGroup
	for range min(c.Systems, len(todo)) {
		systems.Go(func() {
			err := c.oneSystem(ctx, queue, func(s swept) error {
				mu.Lock()
				defer mu.Unlock()
				done[s.Combination] = s
				mark := "held"
				if s.Error != "" {
					mark = "VIOLATED"
				}
				fmt.Printf("%3d/%d  %-8s %s  %.1f s\n", len(done), len(todo), mark, s.Combination, s.Took.Seconds())
				return c.save(done)
			})
			mu.Lock()
			defer mu.Unlock()
			if first == nil {
				first = err
			}
		})
	}
	systems.Wait()
	return first
}

// oneSystem starts a system and sweeps with it. After a violation it takes a new
// one: the old one's books are wrong for good.
func (c sweepCmd) oneSystem(ctx context.Context, queue <-chan sweep.Combination, tell func(swept) error) error {
	for {
		again, err := func() (bool, error) {
			system, err := stack.Start(ctx, stack.Options{Out: io.Discard, IgnoreGiven: true})
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
				if s.Error != "" {
					return true, nil
				}
			}
			return false, nil
		}()
		if err != nil || !again {
			return err
		}
	}
}

func (c sweepCmd) load() (map[sweep.Combination]swept, error) {
	done := map[sweep.Combination]swept{}
	if c.Resume == "" {
		return done, nil
	}
	text, err := os.ReadFile(c.Resume)
	if errors.Is(err, os.ErrNotExist) {
		return done, nil
	}
	if err != nil {
		return nil, err
	}
	var list []swept
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Resume, err)
	}
	for _, s := range list {
		done[s.Combination] = s
	}
	return done, nil
}

func (c sweepCmd) save(done map[sweep.Combination]swept) error {
	if c.Resume == "" {
		return nil
	}
	list := make([]swept, 0, len(done))
	for _, s := range done {
		list = append(list, s)
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return os.WriteFile(c.Resume, text, 0o600)
}

// report is the table for the documentation: a line for each point.
func report(all []sweep.Combination, done map[sweep.Combination]swept) string {
	held, runs := map[string]int{}, map[string]int{}
	for _, combination := range all {
		runs[combination.Point]++
		if done[combination].Error == "" {
			held[combination.Point]++
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# The crash sweep\n\nGenerated by `go run ./scripts/lab sweep --report docs/sweep.md`. At each fault point the process that passes it is killed (SIGKILL), fails,\n"+
		"or takes longer than anybody waits; once with a client that insists with its key, once with a client that is gone. Afterwards the\nsystem must become quiet by itself and every invariant must hold.\n\n"+
		"%d points, %d combinations.\n\n| fault point | what has happened when it strikes | held |\n|---|---|---|\n", len(fault.Points), len(all))
	for _, p := range fault.Points {
		fmt.Fprintf(&b, "| `%s` | %s | %d of %d |\n", p.Name, p.Says, held[p.Name], runs[p.Name])
	}
	return b.String()
}
