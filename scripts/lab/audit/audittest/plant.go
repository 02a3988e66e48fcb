// Package audittest plants a system in which everything holds, as large as one
// likes, without any service: something for the audit to find nothing in.
package audittest

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/scripts/lab/audit"
)

// Kinds of ids: a letter in the middle of a UUID.
const (
	Order      = "a"
	Payment    = "b"
	Capture    = "c" // the processor's operation
	GivenBack  = "d" // the processor's operation
	Refund     = "e"
	Payout     = "f"
	sale       = "1" // entries, from here
	reversal   = "2"
	settlement = "3"
	refund     = "4"
	settled    = "5"
	payout     = "6"
	sent       = "7"
	other      = "8"
)

// ID is the nth id of a kind.
func ID(kind string, n int) string {
	return fmt.Sprintf("019af000-0000-7%s00-8000-%012x", kind, n)
}

// Receipt is the name of the document of the nth payment. A directory for each ten
// thousand: as many as there may be in an hour.
func Receipt(n int) string { return fmt.Sprintf("receipts/%06d/%09d", n/10_000, n) }

// Plant writes n orders of mer_acme. One in ten was cancelled after its sale was
// booked, one in ten was given back, one in ten was followed by a payout of 1.00;
// each was over 10.00 of which 0.25 is the fee, was called back and has its answer
// recorded. A database that is nil is left out. store writes the document of a
// receipt; nil: there are none.
func Plant(ctx context.Context, d *audit.Databases, n int, store func(name string) error) error {
	for _, part := range []struct {
		db         *pgxpool.Pool
		statements string
	}{{d.Orders, orders}, {d.Payments, payments}, {d.Sandbox, sandbox}, {d.Ledger, ledger}} {
		if part.db == nil {
			continue
		}
		for statement := range strings.SplitSeq(part.statements, ";\n") {
			if _, err := part.db.Exec(ctx, names.Replace(strings.ReplaceAll(statement, "{n}", fmt.Sprint(n)))); err != nil {
				return fmt.Errorf("%w\n%s", err, statement)
			}
		}
	}
	for i := 1; i <= n; i++ {
		if i%10 == 0 || store == nil {
			continue
		}
		if err := store(Receipt(i)); err != nil {
			return err
		}
	}
	return nil
}

// names stand for ids, as SQL of the column n, and for what is planted everywhere.
var names = strings.NewReplacer(
	"{order}", sqlID(Order), "{payment}", sqlID(Payment), "{capture}", sqlID(Capture), "{given_back}", sqlID(GivenBack),
	"{refund_id}", sqlID(Refund), "{payout_id}", sqlID(Payout), "{other}", sqlID(other),
	"{sale}", sqlID(sale), "{reversal}", sqlID(reversal), "{settlement}", sqlID(settlement), "{refund}", sqlID(refund),
	"{settled}", sqlID(settled), "{payout}", sqlID(payout), "{sent}", sqlID(sent),
	"{receipt}", `'receipts/' || lpad((n / 10000)::text, 6, '0') || '/' || lpad(n::text, 9, '0')`,
	"{at}", `now() - interval '2 hours'`)

func sqlID(kind string) string {
	return `('` + ID(kind, 0)[:24] + `' || lpad(to_hex(n), 12, '0'))::uuid`
}

const orders = `
INSERT INTO merchants (merchant_id, webhook_secret) VALUES ('mer_acme', 'whsec_') ON CONFLICT DO NOTHING;
INSERT INTO products (merchant_id, sku, name, price_minor, currency, available, sold, initial)
SELECT 'mer_acme', 'planted', 'Planted', 1000, 'GBP', {n} / 10, {n} - {n} / 10, {n};
INSERT INTO orders (id, merchant_id, customer_id, status, payment_id, payment_token, total_minor, currency, callback_url, created_at, receipt_id)
SELECT {order}, 'mer_acme', 'cus', CASE WHEN n % 10 = 0 THEN 'cancelled' ELSE 'confirmed' END, {payment}, 'tok', 1000, 'GBP', 'http://merchant', {at},
       CASE WHEN n % 10 = 0 THEN '' ELSE 'rcp_' || {payment} END
  FROM generate_series(1, {n}) n;
INSERT INTO order_lines SELECT {order}, 1, 'planted', 1, 1000 FROM generate_series(1, {n}) n;
INSERT INTO sagas (id, phase, step) SELECT {order}, CASE WHEN n % 10 = 0 THEN 'compensated' ELSE 'completed' END, '' FROM generate_series(1, {n}) n;
INSERT INTO idempotency_keys (merchant_id, operation, key, fingerprint, status, headers, body, expires_at)
SELECT 'mer_acme', 'POST /v1/orders', 'order-' || n, '\x00', 202, jsonb_build_object('Location', '/v1/orders/ord_' || {order}),
       convert_to('{"id":"ord_' || {order} || '","status":"pending","customer_id":"cus"}', 'UTF8'), now() + interval '1 day'
  FROM generate_series(1, {n}) n`

const payments = `
INSERT INTO payments (id, order_id, merchant_id, status, amount_minor, currency, charge_id, refunded_minor, settled_at, receipt_name)
SELECT {payment}, {order}, 'mer_acme', CASE WHEN n % 10 = 0 THEN 'voided' ELSE 'captured' END, 1000, 'GBP', 'ch_' || n,
       CASE WHEN n % 10 = 1 THEN 1000 ELSE 0 END, CASE WHEN n % 10 > 0 THEN {at} END, CASE WHEN n % 10 > 0 THEN {receipt} ELSE '' END
  FROM generate_series(1, {n}) n;
INSERT INTO refunds (id, payment_id, merchant_id, amount_minor, currency, recovery_point, decision, settled_at, settled_operation)
SELECT {refund_id}, {payment}, 'mer_acme', 1000, 'GBP', 'finished', 'succeeded', {at}, {given_back} FROM generate_series(1, {n}) n WHERE n % 10 = 1;
INSERT INTO payouts (id, merchant_id, amount_minor, currency, recovery_point, outcome, attempt)
SELECT {payout_id}, 'mer_acme', 100, 'GBP', 'finished', 'sent', 1 FROM generate_series(1, {n}) n WHERE n % 10 = 2;
INSERT INTO twophase_decisions (gid, decision, finished_at) SELECT 'pyo_' || {payout_id} || '.1', 'commit', now() FROM generate_series(1, {n}) n WHERE n % 10 = 2;
INSERT INTO idempotency_keys (merchant_id, operation, key, fingerprint, status, body, operation_id, expires_at)
SELECT 'mer_acme', w.operation, w.operation || n, '\x00', 201, convert_to('{"id":"' || w.prefix || w.id || '"}', 'UTF8'), w.id, now() + interval '1 day'
  FROM generate_series(1, {n}) n
  JOIN LATERAL (VALUES (1, 'POST /v1/refunds', 'rfd_', {refund_id}), (2, 'POST /v1/payouts', 'pyo_', {payout_id})) w (nth, operation, prefix, id) ON w.nth = n % 10`

const sandbox = `
INSERT INTO processor_tokens VALUES ('tok', '4242424242424242', now());
INSERT INTO processor_payment_methods (id, token, reference, card, created_at) VALUES ('pm', 'tok', 'planted', '4242424242424242', now());
INSERT INTO processor_charges (id, status, amount_minor, currency, captured_minor, refunded_minor, reference, merchant_id, payment_method, card, created_at)
SELECT 'ch_' || n, CASE WHEN n % 10 = 0 THEN 'voided' ELSE 'captured' END, 1000, 'GBP', CASE WHEN n % 10 = 0 THEN 0 ELSE 1000 END,
       CASE WHEN n % 10 = 1 THEN 1000 ELSE 0 END, 'pay_' || {payment}, 'mer_acme', 'pm', '4242424242424242', {at}
  FROM generate_series(1, {n}) n;
INSERT INTO processor_operations SELECT {other}, 'ch_' || n, 'authorise', 1000, 'GBP', {at} FROM generate_series(1, {n}) n;
INSERT INTO processor_operations SELECT {capture}, 'ch_' || n, CASE WHEN n % 10 = 0 THEN 'void' ELSE 'capture' END, 1000, 'GBP', {at} FROM generate_series(1, {n}) n;
INSERT INTO processor_operations SELECT {given_back}, 'ch_' || n, 'refund', 1000, 'GBP', {at} FROM generate_series(1, {n}) n WHERE n % 10 = 1;
INSERT INTO bank_transfers SELECT {other}, 'pyo_' || {payout_id}, 100, 'GBP', 'acct', {at} FROM generate_series(1, {n}) n WHERE n % 10 = 2;
INSERT INTO merchant_deliveries (id, webhook_id, merchant_id, order_id, signature_valid, body, received_at, answered)
SELECT {other}, 'msg_' || n, 'mer_acme', 'ord_' || {order}, true,
       convert_to('{"type":"order.' || CASE WHEN n % 10 = 0 THEN 'cancelled' ELSE 'confirmed' END || '","data":{"id":"ord_' || {order} || '"}}', 'UTF8'), {at}, 204
  FROM generate_series(1, {n}) n`

// Each kind of entry, then the balances.
var ledger = `
INSERT INTO accounts (id, kind, merchant_id, currency)
VALUES ('card_receivable:GBP', 'card_receivable', '', 'GBP'), ('platform_fee:GBP', 'platform_fee', '', 'GBP'), ('cash:GBP', 'cash', '', 'GBP'),
       ('processor_clearing:GBP', 'processor_clearing', '', 'GBP'), ('payouts_in_transit:mer_acme:GBP', 'payouts_in_transit', 'mer_acme', 'GBP'),
       ('merchant_pending:mer_acme:GBP', 'merchant_pending', 'mer_acme', 'GBP'), ('merchant_available:mer_acme:GBP', 'merchant_available', 'mer_acme', 'GBP')
    ON CONFLICT DO NOTHING` +
	book("sale", "{sale}", "'ord_' || {order}", "'pay_' || {payment}", "true",
		`(1, 'card_receivable:GBP', -1000), (2, 'merchant_pending:mer_acme:GBP', 975), (3, 'platform_fee:GBP', 25)`) +
	book("sale-reversal", "{reversal}", "'ord_' || {order}", "'pay_' || {payment}", "n % 10 = 0",
		`(1, 'card_receivable:GBP', 1000), (2, 'merchant_pending:mer_acme:GBP', -975), (3, 'platform_fee:GBP', -25)`) +
	book("settlement", "{settlement}", "'pay_' || {payment}", "'pay_' || {payment}", "n % 10 > 0",
		`(1, 'card_receivable:GBP', 1000), (2, 'processor_clearing:GBP', -1000), (3, 'merchant_pending:mer_acme:GBP', -975), (4, 'merchant_available:mer_acme:GBP', 975)`) +
	book("refund", "{refund}", "'rfd_' || {refund_id}", "'pay_' || {payment}", "n % 10 = 1",
		`(1, 'merchant_pending:mer_acme:GBP', -1000), (2, 'card_receivable:GBP', 1000)`) +
	book("refund-settlement", "{settled}", "'op_' || {given_back}", "'pay_' || {payment}", "n % 10 = 1",
		`(1, 'card_receivable:GBP', -1000), (2, 'processor_clearing:GBP', 1000)`) +
	book("payout", "{payout}", "'pyo_' || {payout_id}", "'pyo_' || {payout_id}", "n % 10 = 2",
		`(1, 'merchant_available:mer_acme:GBP', -100), (2, 'payouts_in_transit:mer_acme:GBP', 100)`) +
	book("payout-sent", "{sent}", "'pyo_' || {payout_id}", "'pyo_' || {payout_id}", "n % 10 = 2",
		`(1, 'payouts_in_transit:mer_acme:GBP', -100), (2, 'cash:GBP', 100)`) + `;
UPDATE accounts SET balance_minor = (SELECT COALESCE(sum(amount_minor), 0) FROM postings WHERE account_id = accounts.id)`

func book(kind, id, source, reference, which, lines string) string {
	return fmt.Sprintf(`;
INSERT INTO entries SELECT %[1]s, '%[2]s', %[3]s, %[4]s, 'mer_acme', {at} FROM generate_series(1, {n}) n WHERE %[5]s;
INSERT INTO postings SELECT %[1]s, line.no, line.account, line.amount FROM generate_series(1, {n}) n, (VALUES %[6]s) line (no, account, amount) WHERE %[5]s`,
		id, kind, source, reference, which, lines)
}
