package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/scripts/stack"
)

// growth measures the hot paths with empty tables, and again with years of old rows
// in them. Nothing that is done at every request may become slower by what was
// done before.
func (b *bench) growth(ctx context.Context) error {
	outbox, err := b.newRelayWorld(ctx)
	if err != nil {
		return err
	}
	defer outbox.close()
	if err := b.system.Servers.StopRabbit(ctx); err != nil {
		return err
	}
	const clients = 8
	replay := b.replayer(ctx)
	lines := []struct {
		name, unit string
		run        func() (sample, error)
	}{
		{"accept", "orders/s", func() (sample, error) {
			return b.often(func() (sample, error) { return b.drive(ctx, clients, b.place) })
		}},
		{"replay", "answers/s", func() (sample, error) {
			return b.often(func() (sample, error) { return b.drive(ctx, clients, replay) })
		}},
		{"ledger entry", "entries/s", func() (sample, error) {
			return b.often(func() (sample, error) { return b.drive(ctx, clients, b.post) })
		}},
		{"relay", "messages/s", func() (sample, error) { return b.relayAlone(ctx, outbox) }},
	}
	var empty []sample
	before := 0
	for _, rows := range []int{0, b.Rows / 10, b.Rows} {
		if err := b.fill(ctx, before, rows); err != nil {
			return err
		}
		before = rows
		for i, line := range lines {
			full, err := line.run()
			if err != nil {
				return fmt.Errorf("%s: %w", line.name, err)
			}
			if rows == 0 {
				empty = append(empty, full)
				continue
			}
			ratio := full.perSecond / empty[i].perSecond
			b.report.add(row{
				Line: line.name + fmt.Sprintf(", %s old rows in each table", thousands(rows)), Unit: line.unit, Ours: full.perSecond, P50: full.p50, P99: full.p99,
				Beside: "the same with empty tables", Theirs: empty[i].perSecond, Min: ratio, Median: ratio, Max: ratio, Target: 0.9,
			})
		}
	}
	return nil
}

// often is the median of some rounds.
func (b *bench) often(run func() (sample, error)) (sample, error) {
	var samples []sample
	for range b.rounds {
		s, err := run()
		if err != nil {
			return sample{}, err
		}
		samples = append(samples, s)
	}
	return median(samples), nil
}

// relayAlone empties an outbox while the services stand still: with the broker there
// they would work on what was accepted before. Otherwise it is away.
func (b *bench) relayAlone(ctx context.Context, outbox *relayWorld) (sample, error) {
	const n = 10_000
	for _, name := range stack.Services {
		b.system.Signal(name, syscall.SIGSTOP)
	}
	if err := b.system.Servers.StartRabbit(ctx); err != nil {
		return sample{}, err
	}
	err := outbox.reconnect(ctx)
	if err != nil {
		return sample{}, err
	}
	s, err := b.often(func() (sample, error) { return outbox.drain(ctx, n) })
	err = errors.Join(err, b.system.Servers.StopRabbit(ctx))
	for _, name := range stack.Services {
		b.system.Signal(name, syscall.SIGCONT)
	}
	return s, err
}

// replayer repeats one request, whose answer is recorded at the first call.
func (b *bench) replayer(ctx context.Context) func(context.Context, int) error {
	key, body := "replayed", b.basket("tok_bench")
	return func(context.Context, int) error {
		a, err := b.acme.Place(ctx, key, body)
		if err == nil && a.Status != 202 {
			err = fmt.Errorf("status %d: %s", a.Status, a.Body)
		}
		return err
	}
}

// fill plants old rows up to so many: ids of the past, in the order of time like
// ours. Each table is filled in the order of its index, and without the triggers
// that check what other services have sent; otherwise it would take an hour.
func (b *bench) fill(ctx context.Context, from, to int) error {
	const id = `(lpad(to_hex((extract(epoch FROM timestamptz '2026-01-01') * 1000)::bigint + i), 12, '0') || '7' || substr(md5(i::text), 1, 19))::uuid`
	var filling sync.WaitGroup
	failed := make(chan error, 2)
	for database, statements := range map[string][]string{
		"orders": {`
			INSERT INTO orders (id, merchant_id, customer_id, status, payment_id, payment_token, total_minor, currency, created_at, finished_at)
			SELECT ` + id + `, 'mer_acme', 'cus_1', 'confirmed', ` + id + `, 'tok', 1250, 'GBP', now() - interval '300 days', now() - interval '300 days'
			  FROM generate_series($1::int + 1, $2::int) i`, `
			INSERT INTO sagas (id, phase, step)
			SELECT ` + id + `, 'completed', 2
			  FROM generate_series($1::int + 1, $2::int) i`, `
			INSERT INTO idempotency_keys (merchant_id, operation, key, fingerprint, status, headers, body, expires_at)
			SELECT 'mer_acme', 'POST /v1/orders', md5(i::text), '\x00', 202, '{}', convert_to(repeat('x', 400), 'UTF8'), now() + interval '20 hours'
			  FROM generate_series($1::int + 1, $2::int) i
			 ORDER BY md5(i::text)`, `
			INSERT INTO inbox (source, message_id)
			SELECT '/payments', ` + id + `
			  FROM generate_series($1::int + 1, $2::int) i`},
		"ledger": {`
			INSERT INTO entries (id, kind, source, reference, merchant_id)
			SELECT ` + id + `, 'old', 'ord_' || ` + id + `, 'pay_' || ` + id + `, 'mer_old'
			  FROM generate_series($1::int + 1, $2::int) i`, `
			INSERT INTO postings (entry_id, line_no, account_id, amount_minor)
			SELECT ` + id + `, side, CASE side WHEN 1 THEN 'merchant_pending:mer_1:GBP' ELSE 'merchant_available:mer_1:GBP' END, CASE side WHEN 1 THEN -1 ELSE 1 END
			  FROM generate_series($1::int + 1, $2::int) i, generate_series(1, 2) side`, `
			INSERT INTO inbox (source, message_id)
			SELECT '/orders', ` + id + `
			  FROM generate_series($1::int + 1, $2::int) i`},
	} {
		filling.Go(func() { failed <- b.plant(ctx, database, statements, from, to) })
	}
	filling.Wait()
	return errors.Join(<-failed, <-failed)
}

// plant fills the tables of one database, as the server's administrator.
func (b *bench) plant(ctx context.Context, database string, statements []string, from, to int) error {
	admin, err := pgx.Connect(ctx, strings.TrimSuffix(b.system.Servers.PostgresURL, "/postgres")+"/"+database)
	if err != nil {
		return err
	}
	defer admin.Close(ctx) //nolint:errcheck // nothing is at stake
	if to > from {
		if _, err := admin.Exec(ctx, `SET session_replication_role = replica`); err != nil {
			return err
		}
		for _, statement := range statements {
			if _, err := admin.Exec(ctx, statement, from, to); err != nil {
				return fmt.Errorf("plant: %w", err)
			}
		}
		if _, err := admin.Exec(ctx, `VACUUM ANALYZE`); err != nil {
			return err
		}
	}
	_, err = admin.Exec(ctx, `CHECKPOINT`) // what was planted is written now, not beside the measurement
	return err
}
