package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/lab/world"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/wait"
)

type chaosCmd struct {
	Duration     time.Duration `default:"20s" help:"How long to place orders and break things; longer, if database and broker have not both been killed and restarted by then."`
	Orders       int           `help:"Place at least so many, also when the time is up."`
	Rate         float64       `default:"10" help:"Orders a second, however long each of them takes. Some are refunded, and some of the money is paid out."`
	Concurrency  int           `default:"1000" help:"How many clients at most at a time. With too few, the rate is not reached while something is down."`
	KillEvery    time.Duration `default:"300ms" help:"SIGKILL to a random service this often; 0: never."`
	PauseEvery   time.Duration `default:"3s" help:"Pause a random service (SIGSTOP, then SIGCONT) this often; 0: never."`
	NetworkEvery time.Duration `default:"2s" help:"Cut, delay or throttle a random connection this often; 0: never."`
	ServersEvery time.Duration `default:"5s" help:"Kill PostgreSQL and RabbitMQ, and restart them cleanly, in turn, each so long after it came back from the last time; 0: never."`
	Misbehave    float64       `default:"0.05" help:"The outside world fails before its work, or loses its answer, at this rate each; and it doubles and reorders its webhooks."`
	Quiet        time.Duration `default:"3m" help:"How long to wait afterwards until every client is served, and then until nothing is going on."`
	Seed         uint64        `help:"Repeats the choice of victims, moments, cards and baskets, and of the outside world's misbehaviour. Default: chosen and printed."`
}

// Run is load and destruction side by side, then quiet, then the audit.
func (c chaosCmd) Run(ctx context.Context) error {
	if c.Seed == 0 {
		c.Seed = rand.Uint64N(1 << 32)
	}
	fmt.Printf("seed %d; to repeat: %s\n", c.Seed, c.again())
	if err := c.run(ctx); err != nil {
		return fmt.Errorf("%w\nseed %d; again: %s", err, c.Seed, c.again())
	}
	return nil
}

// again is the command that repeats this run, whatever the defaults are by then.
func (c chaosCmd) again() string {
	return fmt.Sprintf("go run ./scripts/lab chaos --duration %s --orders %d --rate %g --concurrency %d --kill-every %s --pause-every %s --network-every %s --servers-every %s --misbehave %g --quiet %s --seed %d",
		c.Duration, c.Orders, c.Rate, c.Concurrency, c.KillEvery, c.PauseEvery, c.NetworkEvery, c.ServersEvery, c.Misbehave, c.Quiet, c.Seed)
}

func (c chaosCmd) run(ctx context.Context) error {
	w, err := world.Start(ctx, stack.Options{
		Out: os.Stdout, IgnoreGiven: true, Network: true,
		Env: map[string][]string{
			stack.Sandbox:  {fmt.Sprintf("SANDBOX_SEED=%d", c.Seed)},
			stack.Payments: {"PROCESSOR_KEY_RETENTION=10s", "RECONCILE_EVERY=2s"},
		},
	})
	if err != nil {
		return err
	}
	defer w.Close()
	acme := w.Shop
	if err := acme.Misbehave(ctx, misbehaviour(c.Misbehave)); err != nil {
		return err
	}

	l, d := newLoad(acme, c), newDestroyer(w.System, acme, c)
	breaking, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		wait.For(ctx, c.Duration)
		d.waitFirstRound(ctx)
		stop()
	}()
	var destruction sync.WaitGroup
	destruction.Go(func() { d.run(breaking) })
	l.place(ctx, breaking)
	defer l.give()
	destruction.Wait()
	if d.err != nil {
		return d.err
	}
	if err := acme.Misbehave(ctx, `{"rules":[]}`); err != nil {
		return err
	}

	calm := time.Now()
	l.serveTheRest(c.Quiet)
	quiet, cancel := context.WithTimeout(ctx, c.Quiet)
	defer cancel()
	notQuiet := audit.WaitQuiet(quiet, w.Truth)
	toQuiet := time.Since(calm)
	if notQuiet == nil {
		l.askAllAgain(ctx)
	}
	l.print()
	fmt.Printf("done to it: %s\n", d.summary())
	if notQuiet != nil {
		fmt.Printf("NOT quiet after %.1f s: %v\n\n", toQuiet.Seconds(), notQuiet)
	} else {
		fmt.Printf("quiet %.1f s after the last blow\n\n", toQuiet.Seconds())
	}
	results, err := audit.Run(ctx, w.Truth)
	if err != nil {
		return errors.Join(err, notQuiet, l.unserved())
	}
	results = audit.Merge(results, l.sameAnswer())
	audit.Print(os.Stdout, results)
	if !audit.Held(results) {
		err = errors.New("an invariant is violated")
	}
	return errors.Join(err, notQuiet, l.unserved())
}
