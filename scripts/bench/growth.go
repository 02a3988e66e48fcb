package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// growth measures the hot paths with empty tables, and again with years of old rows
// in them. Nothing that is done at every request may become slower by what was
// done before.
func (b *bench) growth(ctx context.Context) error {
	if err := b.system.Servers.StopRabbit(ctx); err != nil {
		return err
	}
	const clients = 8
	lines := []struct {
		name string
		run  func(ctx context.Context, client int) error
	}{
		{"accept", b.place},
		{"replay", b.replayer(ctx)},
		{"ledger entry", func(ctx context.Context, client int) error { return b.post(ctx, client) }},
	}
	measured := map[string][2]sample{}
	for i := range 2 {
		if i == 1 {
			if err := b.fill(ctx); err != nil {
				return err
			}
		}
		for _, line := range lines {
			var samples []sample
			for range b.rounds {
				s, err := b.drive(ctx, clients, line.run)
				if err != nil {
					return fmt.Errorf("%s: %w", line.name, err)
				}
				samples = append(samples, s)
			}
			pair := measured[line.name]
			pair[i] = median(samples)
			measured[line.name] = pair
		}
	}
	for _, line := range lines {
		empty, full := measured[line.name][0], measured[line.name][1]
		ratio := full.perSecond / empty.perSecond
		b.report.add(row{
			Line: line.name + fmt.Sprintf(", %s old rows in each table", thousands(b.Rows)), Unit: "per second", Ours: full.perSecond, P50: full.p50, P99: full.p99,
			Beside: "the same with empty tables", Theirs: empty.perSecond, Min: ratio, Median: ratio, Max: ratio, Target: 0.9,
		})
	}
	return nil
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

// fill plants old rows: ids of the past, in the order of time like ours.
func (b *bench) fill(ctx context.Context) error {
	const id = `(lpad(to_hex((extract(epoch FROM timestamptz '2026-01-01') * 1000)::bigint + i), 12, '0') || '7' || substr(md5(i::text), 1, 19))::uuid`
	for _, plant := range []struct {
		db        *pgxpool.Pool
		statement string
	}{
		{b.truth.Orders, `
			INSERT INTO orders (id, merchant_id, customer_id, status, payment_id, payment_token, total_minor, currency, created_at, finished_at)
			SELECT ` + id + `, 'mer_acme', 'cus_1', 'confirmed', ` + id + `, 'tok', 1250, 'GBP', now() - interval '300 days', now() - interval '300 days'
			  FROM generate_series(1, $1) i`},
		{b.truth.Orders, `
			INSERT INTO sagas (id, phase, step)
			SELECT ` + id + `, 'completed', 2
			  FROM generate_series(1, $1) i`},
		{b.truth.Orders, `
			INSERT INTO idempotency_keys (merchant_id, operation, key, fingerprint, status, headers, body, expires_at)
			SELECT 'mer_acme', 'POST /v1/orders', md5(i::text), '\x00', 202, '{}', convert_to(repeat('x', 400), 'UTF8'), now() + interval '20 hours'
			  FROM generate_series(1, $1) i`},
		{b.truth.Orders, `
			INSERT INTO inbox (source, message_id)
			SELECT '/payments', ` + id + `
			  FROM generate_series(1, $1) i`},
		{b.truth.Ledger, `
			INSERT INTO entries (id, kind, source, reference, merchant_id)
			SELECT ` + id + `, 'old', 'ord_' || i, 'pay_' || i, 'mer_old'
			  FROM generate_series(1, $1) i`},
		{b.truth.Ledger, `
			INSERT INTO postings (entry_id, line_no, account_id, amount_minor)
			SELECT ` + id + `, side, CASE side WHEN 1 THEN 'merchant_pending:mer_1:GBP' ELSE 'merchant_available:mer_1:GBP' END, CASE side WHEN 1 THEN -1 ELSE 1 END
			  FROM generate_series(1, $1) i, generate_series(1, 2) side`},
	} {
		if _, err := plant.db.Exec(ctx, plant.statement, b.Rows); err != nil {
			return fmt.Errorf("plant: %w", err)
		}
	}
	for _, db := range []*pgxpool.Pool{b.truth.Orders, b.truth.Ledger} {
		if _, err := db.Exec(ctx, `VACUUM ANALYZE`); err != nil {
			return err
		}
	}
	admin, err := pgx.Connect(ctx, b.system.Servers.PostgresURL)
	if err != nil {
		return err
	}
	defer admin.Close(ctx)                 //nolint:errcheck // nothing is at stake
	_, err = admin.Exec(ctx, `CHECKPOINT`) // what was planted is written now, not beside the measurement
	return err
}
