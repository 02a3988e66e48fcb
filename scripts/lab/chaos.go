package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

type chaosCmd struct {
	Orders      int           `default:"200" help:"How many orders to place."`
	Concurrency int           `default:"20" help:"How many at a time."`
	Duration    time.Duration `default:"20s" help:"How long to kill; the orders are spread over it."`
	KillEvery   time.Duration `default:"300ms" help:"SIGKILL to a random service this often."`
	KeepServers bool          `help:"Do not restart the database and the broker in the middle."`
	Quiet       time.Duration `default:"2m" help:"How long to wait afterwards until nothing is going on."`
	Seed        uint64        `help:"Repeats the choice of victims, cards and baskets. Default: chosen and printed."`
}

// cards and how often they come. Most orders are meant to work, so that most
// kills hit work that must be finished, not walked back.
var cards = []string{
	shop.CardWorks, shop.CardWorks, shop.CardWorks, shop.CardWorks, shop.CardWorks,
	shop.CardDeclined, shop.CardNoFunds, shop.CardCaptureFails, shop.CardFailsOnce, shop.CardLosesAnswer,
}

// Run is the experiment: load and killing side by side, then quiet, then the audit.
func (c chaosCmd) Run(ctx context.Context) error {
	if c.Seed == 0 {
		c.Seed = rand.Uint64N(1 << 32)
	}
	fmt.Printf("seed %d; to repeat: go run ./scripts/lab chaos --orders %d --concurrency %d --duration %s --kill-every %s --seed %d\n",
		c.Seed, c.Orders, c.Concurrency, c.Duration, c.KillEvery, c.Seed)
	system, err := stack.Start(ctx, stack.Options{Out: os.Stdout, IgnoreGiven: true})
	if err != nil {
		return err
	}
	defer system.Close()
	truth, err := audit.Open(ctx, system.DatabaseURL, system.ReceiptsURL())
	if err != nil {
		return err
	}
	defer truth.Close()

	l := &load{shop: shop.New(system.Env()), count: map[string]int{}}
	k := &killer{system: system, rng: rand.New(rand.NewPCG(c.Seed, 1)), kills: map[string]int{}} //nolint:gosec // to be repeatable
	killing, stopKilling := context.WithTimeout(ctx, c.Duration)
	defer stopKilling()

	var both sync.WaitGroup
	both.Go(func() { k.killServices(killing, c.KillEvery) })
	if !c.KeepServers {
		both.Go(func() { k.restartServers(killing, c.Duration) })
	}
	start := time.Now()
	l.run(ctx, c)
	both.Wait()
	if k.err != nil {
		return k.err
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
	results = append(results, l.sameAnswer())

	fmt.Printf("\n%d orders in %.1f s: %v\n", c.Orders, calm.Sub(start).Seconds(), l.count)
	fmt.Printf("client: %d requests, %d of them tries again; %d answers recorded\n", l.requests, l.requests-2*c.Orders, l.answers)
	fmt.Printf("killed with SIGKILL: %v; restarted: %v\n", k.kills, k.restarts)
	fmt.Printf("quiet %.1f s after the last kill\n\n", toQuiet.Seconds())
	audit.Print(os.Stdout, results)
	if !audit.Held(results) {
		return errors.New("an invariant is violated")
	}
	return nil
}

// load places the orders. Every client insists until it has an answer, then asks
// once more, and compares.
type load struct {
	shop *shop.Shop

	mu                sync.Mutex
	count             map[string]int
	requests, answers int
	differing         []string
}

func (l *load) run(ctx context.Context, c chaosCmd) {
	rng := rand.New(rand.NewPCG(c.Seed, 2)) //nolint:gosec // to be repeatable
	places := make(chan struct{}, c.Concurrency)
	pace := time.NewTicker(max(c.Duration/time.Duration(c.Orders), time.Millisecond))
	defer pace.Stop()
	var all sync.WaitGroup
	for range c.Orders {
		card := cards[rng.IntN(len(cards))]
		items := []shop.Item{{SKU: "mug", Quantity: 1 + rng.IntN(3)}, {SKU: "shirt", Quantity: 1 + rng.IntN(2)}}
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			outcome := l.order(ctx, card, items)
			l.mu.Lock()
			l.count[outcome]++
			l.mu.Unlock()
		})
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
	}
	all.Wait()
}

func (l *load) order(ctx context.Context, card string, items []shop.Item) string {
	token := ""
	for token == "" && ctx.Err() == nil {
		t, err := l.shop.Token(ctx, card) // the browser tries again, too
		if err != nil {
			time.Sleep(50 * time.Millisecond)
		}
		token = t
	}
	key, body := uuid.NewString(), l.shop.Basket(token, items...)
	var first []byte
	heard := func(a shop.Answer) {
		if a.Status != http.StatusAccepted {
			return // an indefinite answer, to be asked again
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.answers++
		if first == nil {
			first = a.Body
		}
		if !bytes.Equal(first, a.Body) {
			l.differing = append(l.differing, fmt.Sprintf("key %s: %s and %s", key, first, a.Body))
		}
	}
	for range 2 {
		answer, tries, err := l.shop.Insist(ctx, key, body, heard)
		l.mu.Lock()
		l.requests += tries
		l.mu.Unlock()
		if err != nil {
			return "no answer"
		}
		if answer.Status != http.StatusAccepted {
			return fmt.Sprintf("status %d", answer.Status)
		}
	}
	var o shop.Order
	if err := json.Unmarshal(first, &o); err != nil {
		return "unreadable answer"
	}
	o, err := l.shop.Finished(ctx, o.ID)
	if err != nil {
		return "not finished"
	}
	return o.Status
}

func (l *load) sameAnswer() audit.Result {
	return audit.Result{ID: "same-answer", Says: "every answer to a key is byte-identical to the first", Checked: l.answers, Violations: l.differing}
}

// killer kills.
type killer struct {
	system   *stack.Stack
	rng      *rand.Rand
	kills    map[string]int
	restarts []string
	err      error
}

func (k *killer) killServices(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			victim := stack.Services[k.rng.IntN(len(stack.Services))]
			if k.system.Signal(victim, syscall.SIGKILL) {
				k.kills[victim]++
			}
		case <-ctx.Done():
			return
		}
	}
}

// restartServers restarts the database after a third of the time and the broker
// after two thirds, each by SIGKILL.
func (k *killer) restartServers(ctx context.Context, duration time.Duration) {
	servers := k.system.Servers
	for _, s := range []struct {
		name        string
		kill, start func(context.Context) error
	}{
		{"PostgreSQL", servers.KillPostgres, servers.StartPostgres},
		{"RabbitMQ", servers.KillRabbit, servers.StartRabbit},
	} {
		select {
		case <-time.After(duration / 3):
		case <-ctx.Done():
			return
		}
		start := time.Now()
		// Not ctx: when the time is up, a server that is down must still come back.
		restart := context.WithoutCancel(ctx)
		if err := errors.Join(s.kill(restart), s.start(restart)); err != nil {
			k.err = fmt.Errorf("restart %s: %w", s.name, err)
			return
		}
		k.restarts = append(k.restarts, fmt.Sprintf("%s (away %.1f s)", s.name, time.Since(start).Seconds()))
	}
}
