package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

// endToEnd measures orders from their acceptance to confirmed, the outside world
// on the same machine. The limit is computed from what an order costs and from how
// fast this machine does each part of that when it does nothing else.
func (b *bench) endToEnd(ctx context.Context) error {
	n := 2000
	if b.Quick {
		n = 500
	}
	const clients = 32
	if _, _, err := b.orders(ctx, n/5, clients); err != nil { // warm
		return err
	}
	var perOrder cost
	var limit float64
	contenders := []contender{
		{"", func() (sample, error) {
			s, spent, err := b.orders(ctx, n, clients)
			perOrder = spent
			return s, err
		}},
		{"the limit: its commits and messages at the machine's pace", func() (sample, error) {
			commits, err := b.commits(ctx)
			if err != nil {
				return sample{}, err
			}
			messages, err := b.messages(ctx)
			limit = 1 / (perOrder.commits/commits + perOrder.messages/messages)
			return sample{perSecond: limit}, err
		}},
	}
	medians, err := b.against("order, accepted to confirmed", "orders/s", 0.5, contenders...)
	if err != nil {
		return err
	}
	b.report.note("An order costs %.1f commits that write, %.1f transactions in all, %.1f messages and %.1f kB of WAL, the outside world's included.",
		perOrder.commits, perOrder.transactions, perOrder.messages, perOrder.wal/1000)
	if !b.Quick {
		_, err := b.against("order, accepted to confirmed", "orders/s", 1, contenders[0],
			contender{"River, a chain of three transactional jobs", func() (sample, error) { return b.peer(ctx, b.system.DatabaseURL("orders"), "river", n) }})
		if err != nil {
			return err
		}
	}
	half, err := b.atRate(ctx, medians[0].perSecond/2)
	if err != nil {
		return err
	}
	b.report.add(row{
		Line: "order, accepted to confirmed", Unit: fmt.Sprintf("at %.0f/s, half of the above", medians[0].perSecond/2),
		P50: half.p50, P99: half.p99, LimitP50: 60 * time.Millisecond,
	})
	return nil
}

// cost is what one order takes.
type cost struct{ commits, transactions, messages, wal float64 }

// orders places n orders from so many clients, and waits until all are confirmed.
func (b *bench) orders(ctx context.Context, n, clients int) (sample, cost, error) {
	bodies, err := b.baskets(ctx, n)
	if err != nil {
		return sample{}, cost{}, err
	}
	confirmed, err := b.confirmed(ctx)
	if err != nil {
		return sample{}, cost{}, err
	}
	before, err := b.spent(ctx)
	if err != nil {
		return sample{}, cost{}, err
	}
	begun := time.Now()
	var mu sync.Mutex
	var failed error
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			for body := range bodies {
				a, err := b.acme.Place(ctx, uuid.NewString(), body)
				if err == nil && a.Status != http.StatusAccepted {
					err = fmt.Errorf("status %d: %s", a.Status, a.Body)
				}
				if err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
				}
			}
		})
	}
	running.Wait()
	if failed != nil {
		return sample{}, cost{}, failed
	}
	if err := b.awaitConfirmed(ctx, confirmed+n); err != nil {
		return sample{}, cost{}, err
	}
	var last time.Time // by the clock of this machine, which the services share
	if err := b.truth.Orders.QueryRow(ctx, `SELECT max(finished_at) FROM orders`).Scan(&last); err != nil {
		return sample{}, cost{}, err
	}
	elapsed := last.Sub(begun)
	// Callbacks, settlement and receipts belong to the cost, not to the time.
	if err := audit.WaitQuiet(ctx, b.truth); err != nil {
		return sample{}, cost{}, err
	}
	after, err := b.spent(ctx)
	of := float64(n)
	return sample{perSecond: of / elapsed.Seconds()}, cost{
		commits: (after.commits - before.commits) / of, transactions: (after.transactions - before.transactions) / of,
		messages: (after.messages - before.messages) / of, wal: (after.wal - before.wal) / of,
	}, err
}

// baskets are made before the clock runs: the customer's browser gets the tokens.
func (b *bench) baskets(ctx context.Context, n int) (<-chan []byte, error) {
	bodies := make(chan []byte, n)
	var mu sync.Mutex
	var failed error
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for range n / 8 {
				token, err := b.acme.Token(ctx, shop.CardWorks)
				if err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					return
				}
				bodies <- b.basket(token)
			}
		})
	}
	running.Wait()
	for len(bodies) < n && failed == nil {
		var token string
		token, failed = b.acme.Token(ctx, shop.CardWorks)
		bodies <- b.basket(token)
	}
	close(bodies)
	return bodies, failed
}

func (b *bench) confirmed(ctx context.Context) (n int, err error) {
	err = b.truth.Orders.QueryRow(ctx, `SELECT count(*) FROM orders WHERE status = 'confirmed'`).Scan(&n)
	return n, err
}

// awaitConfirmed looks seldom: it counts all orders, on the cores that are measured.
func (b *bench) awaitConfirmed(ctx context.Context, want int) error {
	for {
		n, err := b.confirmed(ctx)
		if err != nil || n >= want {
			return err
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// spent reads PostgreSQL's counters and the relays'. Numbers of transactions are
// given only to those that write; PostgreSQL's own count of all comes a second late.
func (b *bench) spent(ctx context.Context) (cost, error) {
	var c cost
	if err := countersSettle(ctx); err != nil {
		return c, err
	}
	err := b.truth.Orders.QueryRow(ctx, `
		SELECT pg_current_xact_id()::text::float8,
		       (SELECT sum(xact_commit)::float8 FROM pg_stat_database),
		       pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8`).Scan(&c.commits, &c.transactions, &c.wal)
	for _, name := range stack.Services {
		published, e := b.counter(ctx, name, "failwell_outbox_published_total")
		c.messages, err = c.messages+published, errors.Join(err, e)
	}
	return c, err
}

// countersSettle waits until PostgreSQL's sessions have handed in what they have counted,
// which they do once a second.
func countersSettle(ctx context.Context) error {
	select {
	case <-time.After(1200 * time.Millisecond):
	case <-ctx.Done():
	}
	return ctx.Err()
}

// counter reads one of a service's counters.
func (b *bench) counter(ctx context.Context, service, name string) (float64, error) {
	a, err := b.acme.Get(ctx, b.system.URL[service]+"/metrics")
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(strings.NewReader(string(a.Body)))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("%s has no counter %s", service, name)
}

// commits is how many of the smallest durable transactions this machine makes a second.
func (b *bench) commits(ctx context.Context) (float64, error) {
	if _, err := b.truth.Orders.Exec(ctx, `CREATE TABLE IF NOT EXISTS least (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)`); err != nil {
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

// atRate places orders at a steady pace, and returns how long they took to be
// confirmed by the order's own two times.
func (b *bench) atRate(ctx context.Context, perSecond float64) (sample, error) {
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
	var from time.Time
	if err := b.truth.Orders.QueryRow(ctx, `SELECT now()`).Scan(&from); err != nil {
		return sample{}, err
	}
	tick := time.NewTicker(time.Duration(float64(time.Second) / perSecond))
	defer tick.Stop()
	var mu sync.Mutex
	var failed error
	var running sync.WaitGroup
	for body := range bodies {
		<-tick.C
		running.Go(func() {
			if _, err := b.acme.Place(ctx, uuid.NewString(), body); err != nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
		})
	}
	running.Wait()
	if failed != nil {
		return sample{}, failed
	}
	if err := b.awaitConfirmed(ctx, confirmed+n); err != nil {
		return sample{}, err
	}
	return quantiles(ctx, b.truth.Orders, from)
}

func quantiles(ctx context.Context, db *pgxpool.Pool, from time.Time) (s sample, err error) {
	err = db.QueryRow(ctx, `
		SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY finished_at - created_at),
		       percentile_disc(0.99) WITHIN GROUP (ORDER BY finished_at - created_at)
		  FROM orders
		 WHERE created_at > $1
		   AND finished_at IS NOT NULL`,
		from).Scan(&s.p50, &s.p99)
	return s, err
}
