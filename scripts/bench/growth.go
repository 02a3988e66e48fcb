package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/scripts/stack"
)

// growth measures the hot paths with old rows in the tables, and in turn with them on a
// second system whose tables are empty. Nothing that is done at every request may become
// slower by what was done before.
func (b *bench) growth(ctx context.Context) error {
	b.round = min(b.round, 2*time.Second) // most of this part is the planting
	empty, err := b.second(ctx, stack.Options{})
	if err != nil {
		return err
	}
	defer empty.stop()
	var rows string
	compare := func(name, unit string, full, empty func() (sample, error)) error {
		_, err := b.against(name+", "+rows+" old rows in each table", unit,
			contender{"", 0, full}, contender{"the same with empty tables", 0.9, empty})
		return err
	}
	outbox, emptyOutbox, err := b.bothOutboxes(ctx, empty)
	if err != nil {
		return err
	}
	defer outbox.close()
	defer emptyOutbox.close()

	const clients = 8
	_, replay, err := b.replayer(ctx)
	_, emptyReplay, emptyErr := empty.replayer(ctx)
	if err := errors.Join(err, emptyErr); err != nil {
		return err
	}
	before := 0
	for _, n := range []int{b.Rows / 10, b.Rows} {
		if err := b.fill(ctx, before, n); err != nil {
			return err
		}
		before, rows = n, thousands(n)
		log, emptyLog := cost{}, cost{}
		err := errors.Join(
			compare("accept", "orders/s",
				func() (sample, error) { return b.logged(ctx, &log, clients) },
				func() (sample, error) { return empty.logged(ctx, &emptyLog, clients) }),
			compare("replay", "answers/s",
				func() (sample, error) { return b.drive(ctx, clients, replay) },
				func() (sample, error) { return empty.drive(ctx, clients, emptyReplay) }),
			compare("ledger entry", "entries/s",
				func() (sample, error) { return b.drive(ctx, clients, b.post) },
				func() (sample, error) { return empty.drive(ctx, clients, empty.post) }),
		)
		if err != nil {
			return err
		}
		log, emptyLog = cost{}.plus(log, 1/log["orders"]), cost{}.plus(emptyLog, 1/emptyLog["orders"])
		// A page that is changed for the first time after a checkpoint goes into the log whole.
		b.report.note("To accept an order with %s old rows in each table writes %.1f kB of WAL, with %.2f whole pages in it; with empty tables %.1f kB, with %.2f.",
			rows, log["wal"]/1000, log["pages"], emptyLog["wal"]/1000, emptyLog["pages"])
		// With the broker there the services would work on what was accepted.
		err = errors.Join(b.standStill(ctx, outbox), empty.standStill(ctx, emptyOutbox))
		if err == nil {
			const n = 10_000
			err = compare("relay", "messages/s",
				func() (sample, error) { return outbox.drain(ctx, n) },
				func() (sample, error) { return emptyOutbox.drain(ctx, n) })
		}
		if err := errors.Join(err, b.goOn(ctx), empty.goOn(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// logged accepts orders, and adds what that costs and how many they were.
func (b *bench) logged(ctx context.Context, log *cost, clients int) (sample, error) {
	before, err := b.spent(ctx)
	if err != nil {
		return sample{}, err
	}
	begun := time.Now()
	s, err := b.drive(ctx, clients, b.place)
	if err != nil {
		return sample{}, err
	}
	orders := s.perSecond * time.Since(begun).Seconds()
	after, err := b.spent(ctx)
	*log = log.plus(after, 1).plus(before, -1).plus(cost{"orders": orders}, 1)
	return s, err
}

// bothOutboxes makes an outbox on each system, and then takes the brokers away.
func (b *bench) bothOutboxes(ctx context.Context, empty *bench) (full, other *relayWorld, err error) {
	if full, err = b.newRelayWorld(ctx); err != nil {
		return nil, nil, err
	}
	if other, err = empty.newRelayWorld(ctx); err != nil {
		full.close()
		return nil, nil, err
	}
	return full, other, errors.Join(b.system.Servers.StopRabbit(ctx), empty.system.Servers.StopRabbit(ctx))
}

// standStill stops the services where they are, and brings their broker back.
func (b *bench) standStill(ctx context.Context, outbox *relayWorld) error {
	for _, name := range stack.Services {
		b.system.Signal(name, syscall.SIGSTOP)
	}
	if err := b.system.Servers.StartRabbit(ctx); err != nil {
		return err
	}
	return outbox.reconnect(ctx)
}

// goOn undoes standStill.
func (b *bench) goOn(ctx context.Context) error {
	err := b.system.Servers.StopRabbit(ctx)
	for _, name := range stack.Services {
		b.system.Signal(name, syscall.SIGCONT)
	}
	return err
}

// fill plants old rows up to so many: ids of the past, in the order of time like
// ours. Without the triggers that check what other services have sent, and with the
// indexes made afterwards; otherwise it would take an hour.
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
			  FROM generate_series($1::int + 1, $2::int) i`, `
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
		if _, err := admin.Exec(ctx, `SET session_replication_role = replica; SET maintenance_work_mem = '1GB'`); err != nil {
			return err
		}
		for _, statement := range statements {
			table := strings.Fields(statement)[2]
			_, err := admin.Exec(ctx, `UPDATE pg_index SET indisready = false WHERE indrelid = $1::text::regclass`, table)
			if err == nil {
				_, err = admin.Exec(ctx, statement, from, to)
			}
			if err == nil {
				_, err = admin.Exec(ctx, `REINDEX TABLE `+table) // and they are ready again
			}
			if err != nil {
				return fmt.Errorf("plant %s: %w", table, err)
			}
		}
		if _, err := admin.Exec(ctx, `VACUUM ANALYZE`); err != nil {
			return err
		}
	}
	_, err = admin.Exec(ctx, `CHECKPOINT`) // what was planted is written now, not beside the measurement
	return err
}
