package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
)

// accept measures POST /v1/orders alone: what is accepted stays in the outbox, as
// when the broker is away. Beside it the same writes as one statement without any
// HTTP. The load is made on the same cores.
func (b *bench) accept(ctx context.Context) error {
	if err := b.System.Servers.StopRabbit(ctx); err != nil {
		return err
	}
	script, err := b.acceptScript(ctx)
	if err != nil {
		return err
	}
	// One client has no target: it waits for round trips, not for the machine.
	targets := map[int]float64{8: 0.35, 32: 0.7}
	for _, clients := range []int{1, 8, 32} {
		_, err := b.against(fmt.Sprintf("accept, %d clients", clients), "orders/s",
			contender{"", 0, func() (sample, error) { return b.drive(ctx, clients, b.place) }},
			contender{"pgbench, the same writes as one statement", targets[clients], func() (sample, error) {
				rate, err := b.pgbench(ctx, "orders", script, clients)
				return sample{perSecond: rate}, err
			}})
		if err != nil {
			return err
		}
	}
	return nil
}

// place sends an order of one thing, of one of many kinds.
func (b *bench) place(ctx context.Context, _ int) error {
	a, err := b.Shop.Place(ctx, uuid.NewString(), b.basket("tok_bench"))
	return answered(a, err, http.StatusAccepted)
}

// answered is an error unless the answer has the status that was expected.
func answered(a shop.Answer, err error, want int) error {
	if err == nil && a.Status != want {
		err = fmt.Errorf("status %d: %s", a.Status, a.Body)
	}
	return err
}

func (b *bench) basket(token string) []byte {
	return b.Shop.Basket(token, shop.Item{SKU: fmt.Sprintf("sku-%d", rand.IntN(products)), Quantity: 1})
}

// acceptScript writes what accepting an order writes, as one statement, with
// bodies of the size that ours have. Ids ascend in time like ours: random ones
// would be an unfair handicap to its indexes.
func (b *bench) acceptScript(ctx context.Context) (string, error) {
	if err := b.place(ctx, 0); err != nil {
		return "", err
	}
	var response, message string
	err := b.Truth.Orders.QueryRow(ctx, `
		SELECT encode(k.body, 'hex'), encode(o.body, 'hex')
		  FROM idempotency_keys k, outbox o
		 LIMIT 1`).Scan(&response, &message)
	id := `(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || substr(md5(random()::text), 1, 19))::uuid`
	return fmt.Sprintf(`\set n random(0, %d)
WITH id AS MATERIALIZED (SELECT %s AS order_id, %s AS message_id, gen_random_uuid()::text AS key),
k AS (INSERT INTO idempotency_keys (merchant_id, operation, key, fingerprint, status, headers, body, expires_at)
      SELECT 'mer_acme', 'POST /v1/orders', key, sha256(key::bytea), 202, '{"Location": "/v1/orders/ord_00000000-0000-0000-0000-000000000000", "Content-Type": "application/json"}', '\x%s', now() + interval '24 hours' FROM id),
o AS (INSERT INTO orders (id, merchant_id, customer_id, payment_id, payment_token, total_minor, currency, callback_url, created_at)
      SELECT order_id, 'mer_acme', 'cus_1', message_id, 'tok_bench', 1250, 'GBP', 'http://127.0.0.1:8080/merchant/webhooks/mer_acme', now() FROM id),
l AS (INSERT INTO order_lines (order_id, line_no, sku, quantity, unit_price_minor) SELECT order_id, 1, 'sku-' || (:n)::int, 1, 1250 FROM id),
s AS (INSERT INTO sagas (id, phase, step, resend_at) SELECT order_id, 'forward', 'authorise', now() + interval '1 hour' FROM id),
m AS (INSERT INTO outbox (writer, message_id, type, body, traceparent) SELECT 'orders-1', message_id, 'payments.authorise', '\x%s', '00-00000000000000000000000000000000-0000000000000000-01' FROM id)
UPDATE products SET available = available - 1, reserved = reserved + 1 WHERE merchant_id = 'mer_acme' AND sku = 'sku-' || (:n)::int;
`, products-1, id, strings.Replace(id, "clock_timestamp()", "clock_timestamp() ", 1), response, message), err
}

// replay measures a retry of an order that was accepted, beside a read of it.
func (b *bench) replay(ctx context.Context) error {
	if err := b.System.Servers.StopRabbit(ctx); err != nil {
		return err
	}
	location, repeat, err := b.replayer(ctx)
	if err != nil {
		return err
	}
	const clients = 8
	_, err = b.against("replay of a recorded answer, 8 clients", "answers/s",
		contender{"", 0, func() (sample, error) { return b.drive(ctx, clients, repeat) }},
		contender{"GET of the same order", 0.7, func() (sample, error) {
			return b.drive(ctx, clients, func(ctx context.Context, _ int) error {
				a, err := b.Shop.Get(ctx, b.Shop.Orders+location)
				return answered(a, err, http.StatusOK)
			})
		}})
	return err
}

// replayer places an order, and returns where it is and a call that repeats its request.
func (b *bench) replayer(ctx context.Context) (location string, repeat func(context.Context, int) error, err error) {
	key, body := uuid.NewString(), b.basket("tok_bench")
	first, err := b.Shop.Place(ctx, key, body)
	return first.Header.Get("Location"), func(ctx context.Context, _ int) error {
		a, err := b.Shop.Place(ctx, key, body)
		if err == nil && string(a.Body) != string(first.Body) {
			err = fmt.Errorf("another answer: %s", a.Body)
		}
		return err
	}, answered(first, err, http.StatusAccepted)
}
