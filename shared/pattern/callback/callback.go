package callback

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Schema creates the table of this package. Copy it into a migration.
//
//go:embed schema.sql
var Schema string

// Delivery is one piece of news for a merchant.
type Delivery struct {
	// ID identifies the news, not the try. A UUIDv7: see DeleteDelivered.
	ID uuid.UUID

	MerchantID string
	Subject    string // what it is about, for people and queries: ord_…
	URL        string // where the merchant wants it
	Payload    []byte // JSON, below 20 kB

	Traceparent string // of the work that it reports; "": none
}

// Enqueue queues the insert of d beside the writes that it reports.
//
// Pattern: callback
func Enqueue(b *pgx.Batch, d Delivery) {
	b.Queue(`
		INSERT INTO callbacks (id, merchant_id, subject, url, payload, traceparent)
		VALUES ($1, $2, $3, $4, $5, $6)`,
		d.ID, d.MerchantID, d.Subject, d.URL, d.Payload, d.Traceparent)
}

// claimed is a delivery that is ours to send until its lease ends.
type claimed struct {
	Delivery
	attempts int     // this one included
	secret   *string // the merchant's; nil when there is no such merchant
}

// claim queues the claim of at most limit deliveries that are due, and of one merchant
// at most perMerchant, together with those in progress. Their next attempt is pushed
// beyond the lease, so if we die, they are due again when it ends. Nothing stays
// locked or open while a merchant takes its time. SKIP LOCKED lets replicas claim
// side by side.
//
// It goes from merchant to merchant, one look into the index for each who has
// something to come, and takes the oldest of each who has places left. So it costs
// the same whether a merchant has three deliveries due or a million, and no merchant
// waits in a queue for those of another. In random order: when there are too
// few places for all, each merchant has its turn, not always the first of the index.
func (w *Worker) claim(b *pgx.Batch, limit int, inWork map[string]int, due *[]claimed) {
	b.Queue(`
		WITH RECURSIVE waiting (merchant_id) AS (
		       (SELECT merchant_id
		          FROM callbacks
		         WHERE state = 'pending'
		         ORDER BY merchant_id
		         LIMIT 1)
		       UNION ALL
		       SELECT (SELECT merchant_id
		                 FROM callbacks
		                WHERE state = 'pending'
		                  AND merchant_id > waiting.merchant_id
		                ORDER BY merchant_id
		                LIMIT 1)
		         FROM waiting
		        WHERE waiting.merchant_id IS NOT NULL)
		UPDATE callbacks
		   SET next_attempt_at = now() + $3::interval,
		       attempts        = attempts + 1
		 WHERE id = ANY(ARRAY(
		       SELECT due.id
		         FROM (SELECT merchant_id FROM waiting ORDER BY random()) waiting
		        CROSS JOIN LATERAL (
		              SELECT id
		                FROM callbacks
		               WHERE merchant_id = waiting.merchant_id
		                 AND state = 'pending'
		                 AND next_attempt_at <= now()
		               ORDER BY next_attempt_at
		               LIMIT $2 - coalesce(($4::jsonb ->> waiting.merchant_id)::int, 0)
		                 FOR UPDATE SKIP LOCKED) due
		        LIMIT $1))
		RETURNING id, merchant_id, subject, url, payload, traceparent, attempts,
		          (SELECT webhook_secret FROM merchants WHERE merchants.merchant_id = callbacks.merchant_id)`,
		limit, perMerchant, w.Lease, inWork,
	).Query(func(rows pgx.Rows) (err error) {
		*due, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (claimed, error) {
			var c claimed
			err := row.Scan(&c.ID, &c.MerchantID, &c.Subject, &c.URL, &c.Payload, &c.Traceparent, &c.attempts, &c.secret)
			return c, err
		})
		return err
	})
}

// recall makes due again what is further away than any honest try: the database's clock
// was ahead once, or a row was edited.
func (w *Worker) recall(ctx context.Context) error {
	_, err := w.DB.Exec(ctx, `
		UPDATE callbacks
		   SET next_attempt_at = now()
		 WHERE state = 'pending'
		   AND next_attempt_at > now() + $1::interval`,
		2*max(maxRetryAfter, slices.Max(w.Delays), w.Lease))
	return err
}

// attemptResult is a try and what became of it.
type attemptResult struct {
	id      uuid.UUID
	attempt int
	state   string        // delivered, parked, or pending: to be tried again
	next    time.Duration // until that
	cause   string        // of the failure
}

// outcome is what it is called in the log and the metrics.
func (r attemptResult) outcome() string {
	if r.state == "pending" {
		return "failed" // and will be tried again
	}
	return r.state
}

// record queues what became of a try. A failure counts on condition that the delivery is
// still ours: a try that was slower than its lease must undo neither the success of a
// later one nor its lease.
func (r attemptResult) record(b *pgx.Batch) {
	if r.state == "delivered" {
		b.Queue(`
			UPDATE callbacks
			   SET state        = 'delivered',
			       delivered_at = now(),
			       last_error   = ''
			 WHERE id = $1`,
			r.id)
		return
	}
	b.Queue(`
		UPDATE callbacks
		   SET state           = $3,
		       next_attempt_at = now() + $4::interval,
		       last_error      = $5
		 WHERE id       = $1
		   AND state    = 'pending'
		   AND attempts = $2`,
		r.id, r.attempt, r.state, r.next, r.cause)
}

// DeleteDelivered is the statement that forgets what was delivered longer than $1
// ago, at most $2 at a time. Ids are UUIDv7 and begin with the time at which they
// were made, and nothing is delivered before that: so the primary key leads to what
// is old, and the index that finds it by delivered_at, one more write for each
// callback, is not needed.
const DeleteDelivered = `
	DELETE FROM callbacks
	 WHERE ctid = ANY(ARRAY(
	       SELECT ctid
	         FROM callbacks
	        WHERE id < (lpad(to_hex((extract(epoch FROM now() - $1::interval) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
	          AND state = 'delivered'
	          AND delivered_at <= now() - $1::interval
	        ORDER BY id
	        LIMIT $2
	          FOR UPDATE SKIP LOCKED))`

// Replay makes a parked delivery due again, with its schedule from the start
// and its webhook-id unchanged.
func Replay(ctx context.Context, db *pgxpool.Pool, id uuid.UUID) error {
	tag, err := db.Exec(ctx, `
		UPDATE callbacks
		   SET state           = 'pending',
		       attempts        = 0,
		       next_attempt_at = now()
		 WHERE id = $1
		   AND state = 'parked'`,
		id)
	if err == nil && tag.RowsAffected() == 0 {
		err = fmt.Errorf("callback: %s is not parked", id)
	}
	return err
}
