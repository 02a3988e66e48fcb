package callback

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Delivery is one piece of news for a merchant.
type Delivery struct {
	// ID identifies the news, not the try. Make it with NewID.
	ID uuid.UUID

	MerchantID string
	Subject    string // what it is about, for people and queries: ord_…
	URL        string // where the merchant wants it
	Payload    []byte // JSON, below 20 kB
}

// NewID makes the identity of a delivery.
func NewID() (uuid.UUID, error) { return uuid.NewV7() }

// Enqueue queues the insert of d beside the writes that it reports.
//
// Pattern: callback
func Enqueue(b *pgx.Batch, d Delivery) {
	b.Queue(`
		INSERT INTO callbacks (id, merchant_id, subject, url, payload)
		VALUES ($1, $2, $3, $4, $5)`,
		d.ID, d.MerchantID, d.Subject, d.URL, d.Payload)
}

// claimed is a delivery that is ours to send until its lease ends.
type claimed struct {
	Delivery
	attempts int // this one included
}

// lookedAtOnce bounds how many due deliveries are looked at to find some of
// different merchants.
const lookedAtOnce = 1000

// claim takes up to limit deliveries that are due, at most perMerchant of one
// merchant and none of those in full, and pushes their next attempt beyond the
// lease. The statement is its own transaction: nothing stays locked or open while
// a merchant takes its time, and if we die, the delivery is due again when the
// lease ends. SKIP LOCKED lets replicas claim side by side.
func claim(ctx context.Context, db *pgxpool.Pool, limit, perMerchant int, full []string, lease time.Duration) ([]claimed, error) {
	rows, err := db.Query(ctx, `
		UPDATE callbacks
		   SET next_attempt_at = now() + $2::interval,
		       attempts        = attempts + 1
		 WHERE id IN (
		       SELECT c.id
		         FROM (SELECT id, row_number() OVER (PARTITION BY merchant_id ORDER BY next_attempt_at) AS place, next_attempt_at
		                 FROM (SELECT id, merchant_id, next_attempt_at
		                         FROM callbacks
		                        WHERE state = 'pending'
		                          AND next_attempt_at <= now()
		                          AND merchant_id <> ALL($4)
		                        ORDER BY next_attempt_at
		                        LIMIT $5) due) ranked
		         JOIN callbacks c ON c.id = ranked.id
		        WHERE ranked.place <= $3
		          AND c.state = 'pending'
		          AND c.next_attempt_at <= now() -- another replica may have claimed it since
		        ORDER BY ranked.next_attempt_at
		        LIMIT $1
		          FOR UPDATE OF c SKIP LOCKED)
		RETURNING id, merchant_id, subject, url, payload, attempts`,
		limit, lease, perMerchant, full, lookedAtOnce)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (claimed, error) {
		var c claimed
		err := row.Scan(&c.ID, &c.MerchantID, &c.Subject, &c.URL, &c.Payload, &c.attempts)
		return c, err
	})
}

func markDelivered(ctx context.Context, db *pgxpool.Pool, id uuid.UUID) error {
	_, err := db.Exec(ctx, `
		UPDATE callbacks
		   SET state        = 'delivered',
		       delivered_at = now(),
		       last_error   = ''
		 WHERE id = $1`,
		id)
	return err
}

func markFailed(ctx context.Context, db *pgxpool.Pool, id uuid.UUID, state string, next time.Duration, cause string) error {
	_, err := db.Exec(ctx, `
		UPDATE callbacks
		   SET state           = $2,
		       next_attempt_at = now() + $3::interval,
		       last_error      = $4
		 WHERE id = $1
		   AND state = 'pending'`, // a slow try of ours must not undo the success of a faster one
		id, state, next, cause)
	return err
}

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
