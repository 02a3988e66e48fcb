package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"example.com/failwell/scripts/bench/figures"
	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/wait"
)

// withPeerSandbox is a system with a second door to the outside world, for the peers: what
// comes in there is not announced to payments, which knows nothing of it.
var withPeerSandbox = stack.Options{
	Replicas: map[string]int{stack.Sandbox: 2},
	Env:      map[string][]string{peerSandbox: {"WEBHOOK_TARGET="}},
}

// endToEnd measures orders from their acceptance to confirmed, the outside world
// on the same machine, beside what a user would pick instead, and beside a limit: it is
// computed from what an order costs and from how fast this machine does each part of that
// when it does nothing else.
func (b *bench) endToEnd(ctx context.Context) error {
	n := 1500
	if b.Quick {
		n = 500
	}
	if _, _, err := b.orders(ctx, n/5); err != nil { // warm
		return err
	}
	total, done := cost{}, 0.0
	contenders := []contender{{"", 0, func() (sample, error) {
		s, spent, err := b.orders(ctx, n)
		total, done = total.plus(spent, 1), done+float64(n)
		return s, err
	}}}
	if !b.Quick {
		peer := func(name string) func() (sample, error) {
			return func() (sample, error) { return b.peer(ctx, b.System.DatabaseURL("orders"), name, n/2) }
		}
		contenders = append(contenders,
			contender{"River, a chain of three transactional jobs", 0.8, peer("river")},
			contender{"DBOS, a durable workflow of the same three calls, from a queue", 1, peer("dbos")},
			contender{"DBOS, the same workflow without the queue", 0, peer("dbos-direct")})
	}
	contenders = append(contenders, contender{"the limit: its commits and messages at the machine's pace", 0.5, func() (sample, error) {
		commits, err := b.commits(ctx)
		if err != nil {
			return sample{}, err
		}
		messages, err := b.messages(ctx)
		return sample{perSecond: done / (total["commits"]/commits + total["messages"]/messages)}, err
	}})
	medians, err := b.against("order, accepted to confirmed", "orders/s", contenders...)
	if err != nil {
		return err
	}
	perOrder := cost{}.plus(total, 1/done)
	b.report.note("An order under full load costs %s, the outside world's included.", perOrder)
	b.addProcessorTime(perOrder)
	for _, at := range []struct {
		rate      string
		perSecond float64
		limit     time.Duration
	}{
		{"100 orders/s", 100, 30 * time.Millisecond},
		{"half of the full load", medians[0].perSecond / 2, 60 * time.Millisecond},
	} {
		s, err := b.atRate(ctx, at.perSecond, b.Shop)
		if err != nil {
			return err
		}
		b.report.add(figures.Row{
			Line: "order, accepted to confirmed at " + at.rate, Unit: fmt.Sprintf("at %.0f/s", at.perSecond), P50: s.p50, P99: s.p99, LimitP50: at.limit,
		})
	}
	return nil
}

// orders places n orders from 32 clients, and waits until all are confirmed. What they cost
// is that of all of them.
func (b *bench) orders(ctx context.Context, n int) (sample, cost, error) {
	bodies, err := b.baskets(ctx, n)
	if err != nil {
		return sample{}, nil, err
	}
	confirmed, err := b.confirmed(ctx)
	if err != nil {
		return sample{}, nil, err
	}
	before, err := b.spent(ctx)
	if err != nil {
		return sample{}, nil, err
	}
	begun := time.Now()
	var running errgroup.Group
	for range 32 {
		running.Go(func() error {
			for body := range bodies {
				a, err := b.Shop.Place(ctx, uuid.NewString(), body)
				if err := answered(a, err, http.StatusAccepted); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := running.Wait(); err != nil {
		return sample{}, nil, err
	}
	if err := b.awaitConfirmed(ctx, confirmed+n); err != nil {
		return sample{}, nil, err
	}
	var last time.Time // by the clock of this machine, which the services share
	if err := b.Truth.Orders.QueryRow(ctx, `SELECT max(finished_at) FROM orders`).Scan(&last); err != nil {
		return sample{}, nil, err
	}
	elapsed := last.Sub(begun)
	// Callbacks, settlement and receipts belong to the cost, not to the time.
	if err := audit.WaitQuiet(ctx, b.Truth); err != nil {
		return sample{}, nil, err
	}
	after, err := b.spent(ctx)
	return sample{perSecond: float64(n) / elapsed.Seconds()}, after.plus(before, -1), err
}

// baskets are made before the clock runs: the customer's browser gets the tokens.
func (b *bench) baskets(ctx context.Context, n int) (<-chan []byte, error) {
	bodies := make(chan []byte, n)
	var running errgroup.Group
	running.SetLimit(8)
	for range n {
		running.Go(func() error {
			token, err := b.Shop.Token(ctx, shop.CardWorks)
			bodies <- b.basket(token)
			return err
		})
	}
	err := running.Wait()
	close(bodies)
	return bodies, err
}

func (b *bench) confirmed(ctx context.Context) (n int, err error) {
	err = b.Truth.Orders.QueryRow(ctx, `SELECT count(*) FROM orders WHERE status = 'confirmed'`).Scan(&n)
	return n, err
}

// awaitConfirmed looks seldom: it counts all orders, on the cores that are measured.
func (b *bench) awaitConfirmed(ctx context.Context, want int) error {
	return wait.Until(ctx, 250*time.Millisecond, "all orders to be confirmed", func() (bool, error) {
		n, err := b.confirmed(ctx)
		return n >= want, err
	})
}

// commits is how many of the smallest durable transactions this machine makes a second.
func (b *bench) commits(ctx context.Context) (float64, error) {
	if _, err := b.Truth.Orders.Exec(ctx, `CREATE TABLE IF NOT EXISTS least (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)`); err != nil {
		return 0, err
	}
	return b.pgbench(ctx, "orders", "INSERT INTO least (body) VALUES ('x');\n", 32)
}

// messages is how many confirmed messages a second go through the broker.
func (b *bench) messages(ctx context.Context) (float64, error) {
	w, err := b.newRelayWorld(ctx)
	if err != nil {
		return 0, err
	}
	defer w.close()
	s, err := w.publish(ctx, 20_000)
	return s.perSecond, err
}

// atRate places orders at a steady pace, at each of the shops in turn, and returns how long
// they took to be confirmed by the order's own two times.
func (b *bench) atRate(ctx context.Context, perSecond float64, shops ...*shop.Shop) (sample, error) {
	seconds := 10.0
	if b.Quick {
		seconds = 4
	}
	n := int(perSecond * seconds)
	bodies, err := b.baskets(ctx, n)
	if err != nil {
		return sample{}, err
	}
	confirmed, err := b.confirmed(ctx)
	if err != nil {
		return sample{}, err
	}
	from, err := b.now(ctx)
	if err != nil {
		return sample{}, err
	}
	begun, i := time.Now(), 0
	var running errgroup.Group
	for body := range bodies {
		// By the clock and not by a ticker, which leaves out what it cannot keep up with.
		time.Sleep(time.Until(begun.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))))
		at := shops[i%len(shops)]
		running.Go(func() error {
			a, err := at.Place(ctx, uuid.NewString(), body)
			return answered(a, err, http.StatusAccepted)
		})
		i++
	}
	if err := running.Wait(); err != nil {
		return sample{}, err
	}
	if err := b.awaitConfirmed(ctx, confirmed+n); err != nil {
		return sample{}, err
	}
	return b.sinceAccepted(ctx, from)
}

// now is the database's time, which orders have theirs from.
func (b *bench) now(ctx context.Context) (at time.Time, err error) {
	err = b.Truth.Orders.QueryRow(ctx, `SELECT now()`).Scan(&at)
	return at, err
}

// sinceAccepted is how long the orders that were accepted from then on took to be confirmed.
func (b *bench) sinceAccepted(ctx context.Context, from time.Time) (s sample, err error) {
	err = b.Truth.Orders.QueryRow(ctx, `
		SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY finished_at - created_at),
		       percentile_disc(0.99) WITHIN GROUP (ORDER BY finished_at - created_at)
		  FROM orders
		 WHERE created_at > $1
		   AND finished_at IS NOT NULL`,
		from).Scan(&s.p50, &s.p99)
	return s, err
}
