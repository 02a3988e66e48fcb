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
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

type chaosCmd struct {
	Duration     time.Duration `default:"20s" help:"How long to place orders and break things."`
	Orders       int           `help:"Place at least so many, also when the time is up."`
	Rate         float64       `default:"10" help:"Orders a second. Some are refunded, and some of the money is paid out."`
	Concurrency  int           `default:"20" help:"How many clients at most at a time."`
	KillEvery    time.Duration `default:"300ms" help:"SIGKILL to a random service this often; 0: never."`
	PauseEvery   time.Duration `default:"3s" help:"Pause a random service (SIGSTOP, then SIGCONT) this often; 0: never."`
	NetworkEvery time.Duration `default:"2s" help:"Cut, delay or throttle a random connection this often; 0: never."`
	ServersEvery time.Duration `default:"7s" help:"Kill or restart PostgreSQL, then RabbitMQ, in turn, this often; 0: never."`
	Misbehave    float64       `default:"0.05" help:"The outside world fails before its work, or loses its answer, at this rate each; and it doubles and reorders its webhooks."`
	Quiet        time.Duration `default:"3m" help:"How long to wait afterwards until nothing is going on."`
	Seed         uint64        `help:"Repeats the choice of victims, moments, cards and baskets. Default: chosen and printed."`
}

// Run is load and destruction side by side, then quiet, then the audit.
func (c chaosCmd) Run(ctx context.Context) error {
	if c.Seed == 0 {
		c.Seed = rand.Uint64N(1 << 32)
	}
	fmt.Printf("seed %d; to repeat: go run ./scripts/lab chaos --duration %s --orders %d --rate %g --concurrency %d --kill-every %s --pause-every %s --network-every %s --servers-every %s --misbehave %g --seed %d\n",
		c.Seed, c.Duration, c.Orders, c.Rate, c.Concurrency, c.KillEvery, c.PauseEvery, c.NetworkEvery, c.ServersEvery, c.Misbehave, c.Seed)
	system, err := stack.Start(ctx, stack.Options{Out: os.Stdout, IgnoreGiven: true, Network: true})
	if err != nil {
		return err
	}
	defer system.Close()
	truth, err := audit.Open(ctx, system.DatabaseURL, system.ReceiptsURL())
	if err != nil {
		return err
	}
	defer truth.Close()

	acme := shop.New(system.Env())
	if err := acme.Misbehave(ctx, misbehaviour(c.Misbehave)); err != nil {
		return err
	}
	l := newLoad(acme, c)
	d := newDestroyer(system, c)
	breaking, stop := context.WithTimeout(ctx, c.Duration)
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { d.run(breaking) })
	start := time.Now()
	l.run(ctx, breaking)
	both.Wait()
	if d.err != nil {
		return d.err
	}

	if err := acme.Misbehave(ctx, `{"rules":[]}`); err != nil {
		return err
	}
	calm := time.Now()
	quiet, cancel := context.WithTimeout(ctx, c.Quiet)
	defer cancel()
	if err := audit.WaitQuiet(quiet, truth); err != nil {
		fmt.Println(err) // the audit says what that means
	}
	toQuiet := time.Since(calm)
	results, err := audit.Run(ctx, truth)
	if err != nil {
		return err
	}
	results = audit.Merge(results, l.sameAnswer())

	fmt.Printf("\n%d orders in %.0f s: %v; %d refunds and %d payouts asked for\n", l.orders, calm.Sub(start).Seconds(), l.count, l.refunds, l.payouts)
	fmt.Printf("client: %d requests, %d of them tries again; %d answers compared\n", l.requests, l.requests-l.first, l.answers)
	fmt.Printf("done to it: %s\n", d.summary())
	fmt.Printf("quiet %.1f s after the last blow\n\n", toQuiet.Seconds())
	audit.Print(os.Stdout, results)
	if !audit.Held(results) {
		return errors.New("an invariant is violated")
	}
	return nil
}
