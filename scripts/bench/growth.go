package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"example.com/failwell/scripts/bench/figures"
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
	defer empty.Close()
	if err := b.plantAll(ctx, b.Rows); err != nil {
		return err
	}
	compare := func(name, unit string, measure func(*bench) (sample, error)) error {
		_, err := b.against(fmt.Sprintf("%s, %s old rows in each table", name, figures.Thousands(b.Rows)), unit,
			contender{"", 0, func() (sample, error) { return measure(b) }},
			contender{"the same with empty tables", 0.9, func() (sample, error) { return measure(empty) }})
		return err
	}

	// The relay first, while the services have nothing to do. Then the brokers go, so that
	// they do not work on what is accepted.
	outboxes, repeats, logs := map[*bench]*relayWorld{}, map[*bench]func(context.Context, int) error{}, map[*bench]cost{}
	for _, each := range []*bench{b, empty} {
		if outboxes[each], err = each.newRelayWorld(ctx); err != nil {
			return err
		}
		defer outboxes[each].close()
	}
	err = compare("relay", "messages/s", func(each *bench) (sample, error) { return outboxes[each].drain(ctx, 10_000) })
	if err != nil {
		return err
	}
	for _, each := range []*bench{b, empty} {
		stopped := each.System.Servers.StopRabbit(ctx)
		_, repeats[each], err = each.replayer(ctx)
		if err := errors.Join(stopped, err); err != nil {
			return err
		}
	}
	const clients = 8
	err = errors.Join(
		compare("accept", "orders/s", func(each *bench) (sample, error) {
			s, log, err := each.logged(ctx, clients)
			logs[each] = logs[each].plus(log, 1)
			return s, err
		}),
		compare("replay", "answers/s", func(each *bench) (sample, error) { return each.drive(ctx, clients, repeats[each]) }),
		compare("ledger entry", "entries/s", func(each *bench) (sample, error) { return each.drive(ctx, clients, each.post) }))
	if err != nil {
		return err
	}
	// A page that is changed for the first time after a checkpoint goes into the log whole.
	old, none := logs[b], logs[empty]
	b.report.note("To accept an order with %s old rows in each table writes %.1f kB of WAL, with %.2f whole pages in it; with empty tables %.1f kB, with %.2f.",
		figures.Thousands(b.Rows), old["wal"]/old["orders"]/1000, old["pages"]/old["orders"], none["wal"]/none["orders"]/1000, none["pages"]/none["orders"])
	return nil
}

// logged accepts orders, and counts what that costs and how many they were.
func (b *bench) logged(ctx context.Context, clients int) (sample, cost, error) {
	before, err := b.spent(ctx)
	if err != nil {
		return sample{}, nil, err
	}
	begun := time.Now()
	s, err := b.drive(ctx, clients, b.place)
	if err != nil {
		return sample{}, nil, err
	}
	orders := s.perSecond * time.Since(begun).Seconds()
	after, err := b.spent(ctx)
	return s, after.plus(before, -1).plus(cost{"orders": orders}, 1), err
}

// plantAll plants so many old rows in each table: ids of the past, in the order of time like
// ours. Without the triggers that check what other services have sent, and with the
// indexes made afterwards; otherwise it would take an hour.
func (b *bench) plantAll(ctx context.Context, rows int) error {
	const id = `(lpad(to_hex((extract(epoch FROM timestamptz '2026-01-01') * 1000)::bigint + i), 12, '0') || '7' || substr(md5(i::text), 1, 19))::uuid`
	var filling errgroup.Group
	for database, statements := range map[string][]string{
		"orders": {`
			INSERT INTO orders (id, merchant_id, customer_id, status, payment_id, payment_token, total_minor, currency, created_at, finished_at)
			SELECT ` + id + `, 'mer_acme', 'cus_1', 'confirmed', ` + id + `, 'tok', 1250, 'GBP', now() - interval '300 days', now() - interval '300 days'
			  FROM generate_series(1, $1::int) i`, `
			INSERT INTO sagas (id, phase, step)
			SELECT ` + id + `, 'completed', ''
			  FROM generate_series(1, $1::int) i`, `
			INSERT INTO idempotency_keys (merchant_id, operation, key, fingerprint, status, headers, body, expires_at)
			SELECT 'mer_acme', 'POST /v1/orders', md5(i::text), '\x00', 202, '{}', convert_to(repeat('x', 400), 'UTF8'), now() + interval '20 hours'
			  FROM generate_series(1, $1::int) i`, `
			INSERT INTO inbox (source, message_id)
			SELECT '/payments', ` + id + `
			  FROM generate_series(1, $1::int) i`},
		"ledger": {`
			INSERT INTO entries (id, kind, source, reference, merchant_id)
			SELECT ` + id + `, 'old', 'ord_' || ` + id + `, 'pay_' || ` + id + `, 'mer_old'
			  FROM generate_series(1, $1::int) i`, `
			INSERT INTO postings (entry_id, line_no, account_id, amount_minor)
			SELECT ` + id + `, side, CASE side WHEN 1 THEN 'merchant_pending:mer_1:GBP' ELSE 'merchant_available:mer_1:GBP' END, CASE side WHEN 1 THEN -1 ELSE 1 END
			  FROM generate_series(1, $1::int) i, generate_series(1, 2) side`, `
			INSERT INTO inbox (source, message_id)
			SELECT '/orders', ` + id + `
			  FROM generate_series(1, $1::int) i`},
	} {
		filling.Go(func() error { return b.plant(ctx, database, statements, rows) })
	}
	return filling.Wait()
}

// plant fills the tables of one database, as the server's administrator.
func (b *bench) plant(ctx context.Context, database string, statements []string, rows int) error {
	admin, err := pgx.Connect(ctx, strings.TrimSuffix(b.System.Servers.PostgresURL, "/postgres")+"/"+database)
	if err != nil {
		return err
	}
	defer admin.Close(ctx) //nolint:errcheck // nothing is at stake
	if _, err := admin.Exec(ctx, `SET session_replication_role = replica; SET maintenance_work_mem = '1GB'`); err != nil {
		return err
	}
	for _, statement := range statements {
		table := strings.Fields(statement)[2]
		_, err := admin.Exec(ctx, `UPDATE pg_index SET indisready = false WHERE indrelid = $1::text::regclass`, table)
		if err == nil {
			_, err = admin.Exec(ctx, statement, rows)
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
	_, err = admin.Exec(ctx, `CHECKPOINT`) // what was planted is written now, not beside the measurement
	return err
}
