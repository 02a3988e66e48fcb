package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/wait"
	"example.com/failwell/shared/testenv"
)

// destroyer breaks things, each kind at its own pace.
type destroyer struct {
	system *stack.Stack
	shop   *shop.Shop
	cfg    chaosCmd

	rounds chan struct{} // one for each server that has been killed and restarted

	mu    sync.Mutex
	count map[string]int
	err   error
}

func newDestroyer(system *stack.Stack, s *shop.Shop, cfg chaosCmd) *destroyer {
	return &destroyer{system: system, shop: s, cfg: cfg, rounds: make(chan struct{}, 2), count: map[string]int{}}
}

// dice of each kind of blow are its own, so that one does not change another's.
func (d *destroyer) dice(stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(d.cfg.Seed, stream)) //nolint:gosec // to be repeatable
}

// run breaks things until ctx ends, and leaves everything fixed.
func (d *destroyer) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, blow := range []struct {
		every  time.Duration
		strike func(ctx context.Context, n int) // when it takes longer than every, the next one follows at once
	}{
		{d.cfg.KillEvery, d.kill(d.dice(11))},
		{d.cfg.PauseEvery, d.pause(d.dice(12))},
		{d.cfg.NetworkEvery, d.network(d.dice(13))},
		{forgetEvery, d.forget},
	} {
		if blow.every <= 0 {
			continue
		}
		all.Go(func() {
			tick := time.NewTicker(blow.every)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-tick.C:
					blow.strike(ctx, n)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	if d.cfg.ServersEvery > 0 {
		s := d.system.Servers
		all.Go(func() { d.server(ctx, "PostgreSQL", s.KillPostgres, s.StopPostgres, s.StartPostgres) })
		all.Go(func() { d.server(ctx, "RabbitMQ", s.KillRabbit, s.StopRabbit, s.StartRabbit) })
	}
	all.Wait()
}

func (d *destroyer) note(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count[what]++
}

func (d *destroyer) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = errors.Join(d.err, err)
}

// kill sends SIGKILL to a random service at a random moment.
func (d *destroyer) kill(dice *rand.Rand) func(context.Context, int) {
	return func(ctx context.Context, _ int) {
		victim := stack.Services[dice.IntN(len(stack.Services))]
		wait.For(ctx, time.Duration(dice.Int64N(int64(d.cfg.KillEvery))))
		if d.system.Signal(victim, syscall.SIGKILL) {
			d.note("killed " + victim)
		}
	}
}

// pause stops a service for up to five seconds: longer than its leases. It does
// not know, and goes on where it was.
func (d *destroyer) pause(dice *rand.Rand) func(context.Context, int) {
	return func(ctx context.Context, _ int) {
		victim, long := stack.Services[dice.IntN(len(stack.Services))], time.Duration(200+dice.IntN(4800))*time.Millisecond
		if d.system.Signal(victim, testenv.Pause) {
			d.note("paused " + victim)
			wait.For(ctx, long)
			d.system.Signal(victim, testenv.Resume)
		}
	}
}

// network cuts, delays or throttles a connection for a while.
func (d *destroyer) network(dice *rand.Rand) func(context.Context, int) {
	return func(ctx context.Context, _ int) {
		link := stack.Links[dice.IntN(len(stack.Links))]
		long := time.Duration(200+dice.IntN(1800)) * time.Millisecond
		var err error
		switch dice.IntN(3) {
		case 0:
			d.note("cut " + link)
			d.system.Network.Cut(link)
		case 1:
			d.note("delayed " + link)
			err = d.system.Network.Delay(link, 100+dice.IntN(1500))
		default:
			d.note("throttled " + link)
			err = d.system.Network.Throttle(link, 4+dice.IntN(60))
		}
		wait.For(ctx, long)
		if err := errors.Join(err, d.system.Network.Heal(context.WithoutCancel(ctx), link)); err != nil {
			d.fail(fmt.Errorf("network %s: %w", link, err))
		}
	}
}

// The processor keeps a key for longer than PROCESSOR_KEY_RETENTION, by more than a pause
// and a slow connection together take: it is honest, and forgets.
const (
	forgetEvery = 2 * time.Second
	keysKept    = "25s"
)

func (d *destroyer) forget(ctx context.Context, _ int) {
	if d.shop.ForgetKeys(ctx, keysKept) == nil {
		d.note("keys forgotten")
	}
}

// server kills a server, then restarts it cleanly, again and again, each time until it
// answers again. Then it is left alone for a while: RabbitMQ takes so long to come
// back that it would otherwise be away most of the time, and nothing be at work.
func (d *destroyer) server(ctx context.Context, name string, kill, stop, start func(context.Context) error) {
	for n := 0; ; n++ {
		if !wait.For(ctx, d.cfg.ServersEvery) {
			return
		}
		what, end := name+" killed", kill
		if n%2 == 1 {
			what, end = name+" restarted", stop
		}
		begun := time.Now()
		// Not ctx: when the time is up, a server that is down must still come back.
		whole := context.WithoutCancel(ctx)
		if err := errors.Join(end(whole), start(whole)); err != nil {
			d.fail(fmt.Errorf("%s: %w", what, err))
		} else {
			d.note(what)
			fmt.Printf("%s, back after %.1f s\n", what, time.Since(begun).Seconds())
		}
		if n == 1 {
			d.rounds <- struct{}{}
		}
	}
}

// waitFirstRound waits until both servers have been killed and restarted once.
func (d *destroyer) waitFirstRound(ctx context.Context) {
	if d.cfg.ServersEvery <= 0 {
		return
	}
	for range cap(d.rounds) {
		select {
		case <-d.rounds:
		case <-ctx.Done():
		}
	}
}

func (d *destroyer) summary() string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(d.count)) {
		parts = append(parts, fmt.Sprintf("%s %d×", what, d.count[what]))
	}
	return strings.Join(parts, ", ")
}

// misbehaviour is what the outside world does by itself, at a rate.
func misbehaviour(rate float64) string {
	if rate <= 0 {
		return `{"rules":[]}`
	}
	var rules []string
	for _, contract := range []string{"payment_methods", "charges.create", "charges.capture", "charges.void", "charges.refund", "bank.transfers", "merchant"} {
		for _, fault := range []string{"lose_answer", "fail_before"} {
			rules = append(rules, fmt.Sprintf(`{"contract":%q,"fault":%q,"rate":%g}`, contract, fault, rate))
		}
	}
	for _, fault := range []string{"duplicate", "reorder", "lose_answer", "refuse"} {
		rules = append(rules, fmt.Sprintf(`{"contract":"webhooks","fault":%q,"rate":%g}`, fault, rate))
	}
	for _, contract := range []string{"report", "bank.statement"} {
		for _, fault := range []string{"bad_line", "wrong_date"} {
			rules = append(rules, fmt.Sprintf(`{"contract":%q,"fault":%q,"rate":%g}`, contract, fault, rate))
		}
	}
	return `{"rules":[` + strings.Join(rules, ",") + `]}`
}
