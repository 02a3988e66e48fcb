package sweep

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/pattern/storethenreference"
	"example.com/failwell/shared/platform/wait"
)

// heap is garbage for one rule of one collector.
type heap struct {
	service, rule string

	scatter string // leaves more of it than one batch takes
	left    string // counts what is left of it
	clean   string // removes what had to be there for it to be garbage, if anything
}

const pieces = 700 // a batch of a collector is 500

// heaps are all rules of all collectors, and something for each to find. What is of
// 1970 has outlived every period for which anything is kept.
var heaps = []heap{
	inboxOf(stack.Orders, "/payments"),
	{
		service: stack.Orders, rule: "idempotency-keys", scatter: expiredKeys, left: keysLeft,
	},
	{
		service: stack.Orders, rule: "delivered-callbacks",
		scatter: `INSERT INTO callbacks (id, merchant_id, subject, url, payload, state, attempts, created_at, delivered_at)
		          SELECT ` + idOf1970 + `, 'litter', 'litter', '', '', 'delivered', 1, '1970-01-01', '1970-01-01' FROM generate_series(1, $1) n`,
		left: `SELECT count(*) FROM callbacks WHERE merchant_id = 'litter'`,
	},
	inboxOf(stack.Ledger, "/orders"),
	inboxOf(stack.Payments, "/orders"),
	{
		service: stack.Payments, rule: "idempotency-keys", scatter: expiredKeys, left: keysLeft,
	},
	{
		service: stack.Payments, rule: "applied-events",
		scatter: `INSERT INTO received_events (event_id, stream, rank, happened_at, type, body, applied_at)
		          SELECT 'litter-' || n, 'litter', 1, '1970-01-01', 'litter', '', '1970-01-01' FROM generate_series(1, $1) n`,
		left: `SELECT count(*) FROM received_events WHERE stream = 'litter'`,
	},
	{
		service: stack.Payments, rule: "twophase-decisions",
		scatter: `INSERT INTO twophase_decisions (gid, decision, decided_at, finished_at)
		          SELECT 'litter.' || n, 'abort', '1970-01-01', '1970-01-01' FROM generate_series(1, $1) n`,
		left: `SELECT count(*) FROM twophase_decisions WHERE gid LIKE 'litter.%'`,
	},
	{
		// A guard is garbage when its payout is finished and old. These payouts were
		// refused before anything was booked: no other system knows of them.
		service: stack.Payments, rule: "guards",
		scatter: `WITH old AS (
		            INSERT INTO payouts (id, merchant_id, amount_minor, currency, recovery_point, outcome, failure, created_at, finished_at)
		            SELECT gen_random_uuid(), 'litter', 1, 'GBP', 'finished', 'failed', 'insufficient_balance', '1970-01-01', '1970-01-01' FROM generate_series(1, $1) n
		            RETURNING id)
		          INSERT INTO guards (name, entered_at) SELECT 'bank-transfer:pyo_' || id, '1970-01-01' FROM old`,
		left:  `SELECT count(*) FROM guards WHERE entered_at < '1971-01-01'`,
		clean: `DELETE FROM payouts WHERE merchant_id = 'litter'`,
	},
	{
		// What a run found is garbage once a later one has compared everything.
		service: stack.Payments, rule: "reconciliation-differences",
		scatter: `WITH run AS (
		            INSERT INTO reconciliations (id, status, requested_at, finished_at)
		            VALUES (gen_random_uuid(), 'finished', '1970-01-01', '1970-01-01'), (gen_random_uuid(), 'finished', '1970-01-02', '1970-01-02')
		            RETURNING id, requested_at)
		          INSERT INTO reconciliation_differences (run_id, source, kind, reference, subject, merchant_id, finding, verdict, note)
		          SELECT run.id, 'litter', 'litter', 'litter-' || n, run.id, 'litter', 'litter', 'resolved', '' FROM run, generate_series(1, $1) n
		           WHERE run.requested_at = '1970-01-01'`,
		left:  `SELECT count(*) FROM reconciliation_differences WHERE merchant_id = 'litter'`,
		clean: `DELETE FROM reconciliations WHERE requested_at < '1971-01-01'`,
	},
	{
		service: stack.Payments, rule: "reconciliations",
		scatter: `INSERT INTO reconciliations (id, status, requested_at, finished_at)
		          SELECT gen_random_uuid(), 'finished', day, day
		            FROM (SELECT '1970-01-01'::timestamptz FROM generate_series(1, $1) UNION ALL SELECT '1970-01-02') AS run (day)`,
		left:  `SELECT count(*) FROM reconciliations WHERE requested_at = '1970-01-01'`,
		clean: `DELETE FROM reconciliations WHERE requested_at < '1971-01-01'`,
	},
	{service: stack.Payments, rule: "receipts"}, // documents, not rows
}

// idOf1970 is the n-th UUIDv7 of a time that is long past.
const idOf1970 = `('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid`

func inboxOf(service, sender string) heap {
	return heap{
		service: service, rule: "inbox",
		scatter: `INSERT INTO inbox (source, message_id)
		          SELECT '` + sender + `', ` + idOf1970 + ` FROM generate_series(1, $1) n`,
		left: `SELECT count(*) FROM inbox WHERE message_id < '00000001-0000-0000-0000-000000000000'`,
	}
}

const (
	expiredKeys = `INSERT INTO idempotency_keys (merchant_id, operation, key, fingerprint, status, headers, body, expires_at)
	               SELECT 'litter', 'litter', 'litter-' || n, '', 422, '{}', '', '1970-01-01' FROM generate_series(1, $1) n`
	keysLeft = `SELECT count(*) FROM idempotency_keys WHERE merchant_id = 'litter'`
)

// litter leaves garbage for a collector to find, and waits until all of it is gone:
// also what was left when the collector was interrupted after its first batch.
func (r *run) litter(ctx context.Context) error {
	db := r.Truth.Of(r.Service)
	if err := everyRuleHasLitter(ctx, db, r.Service); err != nil {
		return err
	}
	h := heaps[slices.IndexFunc(heaps, func(h heap) bool { return h.service == r.Service && h.rule == r.Garbage })]
	if h.rule == "receipts" {
		return r.orphans(ctx)
	}
	if _, err := db.Exec(ctx, h.scatter, pieces); err != nil {
		return fmt.Errorf("litter: %w", err)
	}
	err := wait.Until(ctx, look, "all garbage to be collected", func() (bool, error) {
		left := 0
		err := db.QueryRow(ctx, h.left).Scan(&left)
		return left == 0, err
	})
	if err == nil && h.clean != "" {
		_, err = db.Exec(ctx, h.clean)
	}
	return err
}

// orphans are documents that no row refers to. They are collected once they are as
// old as RECEIPT_GRACE; the audit waits for that.
func (r *run) orphans(ctx context.Context) error {
	at := storethenreference.ClockReading{Read: time.Now()}
	if err := r.Truth.Payments.QueryRow(ctx, `SELECT now()`).Scan(&at.Database); err != nil {
		return err
	}
	store := storethenreference.New(storethenreference.Config{Bucket: r.Truth.Receipts, Dir: "receipts", Grace: time.Hour})
	for range pieces {
		if _, err := store.Put(ctx, at, "text/html", []byte("litter")); err != nil {
			return err
		}
	}
	return audit.WaitQuiet(ctx, r.Truth)
}

// everyRuleHasLitter sees that no rule was added to a collector behind our back. A
// collector has a lease for each rule that it has ever applied.
func everyRuleHasLitter(ctx context.Context, db *pgxpool.Pool, service string) error {
	rows, err := db.Query(ctx, `SELECT name FROM leases WHERE name LIKE 'garbage:%'`)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, name := range names {
		rule := strings.TrimPrefix(name, "garbage:")
		if !slices.ContainsFunc(heaps, func(h heap) bool { return h.service == service && h.rule == rule }) {
			return fmt.Errorf("%s collects %q, and the sweep has no litter for that: add it to heaps", service, rule)
		}
	}
	return err
}
