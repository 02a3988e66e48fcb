package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/wait"
)

// cost is what was used of each thing: how many, or how many bytes, or how many
// milliseconds of a processor by each program.
type cost map[string]float64

func (c cost) plus(other cost, times float64) cost {
	sum := cost{}
	for _, each := range []struct {
		cost
		times float64
	}{{c, 1}, {other, times}} {
		for thing, n := range each.cost {
			sum[thing] += n * each.times
		}
	}
	return sum
}

func (c cost) String() string {
	of := func(thing string) float64 { return max(0, c[thing]) } // what was taken off is an average
	said := fmt.Sprintf("%.1f commits that write, %.1f transactions in all, %.1f messages and %.1f kB of WAL", of("commits"), of("transactions"), of("messages"), of("wal")/1000)
	if c["statements"] > 0 {
		said = fmt.Sprintf("%.1f statements, ", c["statements"]) + said
	}
	return said
}

// cost counts from outside what PostgreSQL is asked for: to accept an order, to repeat its
// request, and to complete one. No two orders come at the same time, so none shares a commit
// with another, and no noise of the machine can change the figures.
func (b *bench) cost(ctx context.Context) error {
	if err := b.countStatements(ctx); err != nil {
		return err
	}
	defer func() {
		_ = b.statements.Close(ctx)
		b.statements = nil
	}()
	if err := b.System.Servers.StopRabbit(ctx); err != nil {
		return err
	}
	_, repeat, err := b.replayer(ctx)
	if err != nil {
		return err
	}
	nothing := func() error { return nil }
	err = b.count(ctx, "to accept an order", 1000, b.place, nothing)
	if err == nil {
		err = b.count(ctx, "to repeat its request", 1000, repeat, nothing)
	}
	if err := errors.Join(err, b.System.Servers.StartRabbit(ctx), b.System.WaitReady(ctx), audit.WaitQuiet(ctx, b.Truth)); err != nil {
		return err
	}
	buy := func(ctx context.Context, _ int) error {
		time.Sleep(30 * time.Millisecond) // the one before is mostly confirmed by then
		token, err := b.Shop.Token(ctx, shop.CardWorks)
		if err != nil {
			return err
		}
		a, err := b.Shop.Place(ctx, uuid.NewString(), b.basket(token))
		return answered(a, err, http.StatusAccepted)
	}
	return b.count(ctx, "to complete an order, the outside world's part included,", 100, buy, func() error {
		time.Sleep(3 * time.Second) // receipts and settlement are polled for, and to look for them costs statements
		return audit.WaitQuiet(ctx, b.Truth)
	})
}

// count notes what one of n calls takes. What goes on anyway, polls above all, is counted
// afterwards and taken off. settle waits for what is left to do.
func (b *bench) count(ctx context.Context, what string, n int, call func(context.Context, int) error, settle func() error) error {
	var at [3]time.Time
	var spent [3]cost
	for i, phase := range []func() error{
		func() error { return nil },
		func() (err error) {
			for i := 0; i < n && err == nil; i++ {
				err = call(ctx, i)
			}
			return errors.Join(err, settle())
		},
		settle,
	} {
		err := errors.Join(phase(), countersSettle(ctx, ofIdleSessions))
		if err != nil {
			return err
		}
		if spent[i], err = b.spent(ctx); err != nil {
			return err
		}
		at[i] = time.Now()
	}
	busy, idle := at[1].Sub(at[0]).Seconds(), at[2].Sub(at[1]).Seconds()
	used := spent[1].plus(spent[0], -1).plus(spent[2].plus(spent[1], -1), -busy/idle)
	b.report.note("By itself, %s takes %s.", what, cost{}.plus(used, 1/float64(n)))
	return nil
}

// countStatements has PostgreSQL count statements, those of clients and not those that
// check foreign keys. It does so only here: it is no part of what is measured elsewhere.
func (b *bench) countStatements(ctx context.Context) error {
	admin, err := pgx.Connect(ctx, b.System.Servers.PostgresURL)
	if err != nil {
		return err
	}
	_, err = admin.Exec(ctx, `CREATE EXTENSION pg_stat_statements`)
	if err == nil {
		_, err = admin.Exec(ctx, `ALTER SYSTEM SET shared_preload_libraries = pg_stat_statements`)
	}
	err = errors.Join(err, admin.Close(ctx))
	if err == nil {
		err = errors.Join(b.System.Servers.StopPostgres(ctx), b.System.Servers.StartPostgres(ctx), b.System.WaitReady(ctx))
	}
	if err == nil {
		b.statements, err = pgx.Connect(ctx, b.System.Servers.PostgresURL)
	}
	return err
}

// spent reads PostgreSQL's counters, the relays' and those of the machine's processors.
// Numbers of transactions are given only to those that write; PostgreSQL's own count of
// all comes late, see countersSettle.
func (b *bench) spent(ctx context.Context) (cost, error) {
	if err := countersSettle(ctx, ofBusySessions); err != nil {
		return nil, err
	}
	var commits, transactions, wal, pages, messages, statements float64
	err := b.Truth.Orders.QueryRow(ctx, `
		SELECT pg_current_xact_id()::text::float8,
		       (SELECT sum(xact_commit)::float8 FROM pg_stat_database),
		       wal_bytes::float8,
		       wal_fpi::float8
		  FROM pg_stat_wal`).Scan(&commits, &transactions, &wal, &pages)
	for _, name := range stack.Services {
		published, e := b.counter(ctx, name, "failwell_outbox_published_total")
		messages, err = messages+published, errors.Join(err, e)
	}
	if b.statements != nil && err == nil {
		err = b.statements.QueryRow(ctx, `
			SELECT sum(calls)::float8
			  FROM pg_stat_statements
			  JOIN pg_database ON oid = dbid
			 WHERE datname <> 'postgres'`).Scan(&statements)
	}
	c := cost{"commits": commits, "transactions": transactions, "wal": wal, "pages": pages, "messages": messages, "statements": statements}
	return c.plus(processorTime(), 1), err
}

// PostgreSQL's sessions hand in what they have counted once a second while they are busy, and
// ten seconds after they have become idle.
const (
	ofBusySessions = 1200 * time.Millisecond
	ofIdleSessions = 10500 * time.Millisecond
)

// countersSettle waits until they have.
func countersSettle(ctx context.Context, after time.Duration) error {
	wait.For(ctx, after)
	return ctx.Err()
}

// counter reads one of a service's counters.
func (b *bench) counter(ctx context.Context, service, name string) (float64, error) {
	a, err := b.Shop.Get(ctx, b.System.URL[service]+"/metrics")
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
