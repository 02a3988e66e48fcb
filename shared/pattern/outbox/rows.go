package outbox

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/rabbit"
)

// row is a message in the table, as it is published.
type row struct {
	id      int64
	message rabbit.Message
}

func newRow(id int64, messageID uuid.UUID, kind string, body []byte, traceparent string) row {
	m := rabbit.Message{ID: messageID.String(), RoutingKey: kind, Body: body, ContentType: "application/cloudevents+json"}
	if traceparent != "" {
		m.Headers = amqp.Table{"traceparent": traceparent}
	}
	return row{id: id, message: m}
}

func (m Sealed) asRow() row { return newRow(*m.row, m.id, m.kind, m.body, m.traceparent) }

func ids(rows []row) []int64 {
	ids := make([]int64, len(rows)) // never nil: that is NULL, and no id differs from NULL
	for i, m := range rows {
		ids[i] = m.id
	}
	return ids
}

// delivered are the rows that the broker has confirmed and the table still holds.
type delivered struct {
	ids   []int64
	since time.Time // when the oldest of them was confirmed
}

func (d *delivered) add(ids []int64) {
	if len(d.ids) == 0 {
		d.since = time.Now()
	}
	d.ids = append(d.ids, ids...)
}

// rest is how long they may stay; zero or less: they are to be deleted now.
func (d *delivered) rest() time.Duration {
	if len(d.ids) >= deleteAt {
		return 0
	}
	return deleteLag - time.Since(d.since)
}

// without leaves out what is delivered: a message may be handed over a moment after
// it was found in the table.
func (d *delivered) without(rows []row) []row {
	return slices.DeleteFunc(rows, func(m row) bool { return slices.Contains(d.ids, m.id) })
}

// unroutable are rows that no queue was bound for, and when to try them again. Read
// with every batch, a few hundred of them would leave no room for others.
type unroutable struct {
	until map[int64]time.Time
}

func (u *unroutable) add(rows []row, now time.Time) {
	if u.until == nil {
		u.until = map[int64]time.Time{}
	}
	until := now.Add(asidePause + time.Duration(len(u.until)+len(rows))*asideEach)
	for _, m := range rows {
		u.until[m.id] = until
	}
}

// ids are those that are still to be left alone.
func (u *unroutable) ids(now time.Time) []int64 {
	var ids []int64
	for id, until := range u.until {
		if now.After(until) {
			delete(u.until, id)
			continue
		}
		ids = append(ids, id)
	}
	return ids
}

// acquire takes or renews the lease of a shard. One conditional statement: two
// replicas that ask at the same moment cannot both succeed.
func (r *Relay) acquire(ctx context.Context, shard int16) (bool, error) {
	tag, err := r.DB.Exec(ctx, `
		INSERT INTO outbox_leases (shard, holder, expires_at)
		VALUES ($1, $2, now() + $3::interval)
		ON CONFLICT (shard) DO UPDATE
		   SET holder     = EXCLUDED.holder,
		       expires_at = EXCLUDED.expires_at
		 WHERE outbox_leases.holder = EXCLUDED.holder
		    OR outbox_leases.expires_at < now()`,
		shard, r.Holder, r.Lease)
	return tag.RowsAffected() == 1, err
}

// giveBack ends our lease, so that another replica need not wait until it expires.
// It only saves time, so it gets little of it.
func (r *Relay) giveBack(ctx context.Context, shard int16) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, err := r.DB.Exec(ctx, `
		UPDATE outbox_leases
		   SET expires_at = now() - interval '1 millisecond'
		 WHERE shard  = $1
		   AND holder = $2`,
		shard, r.Holder)
	if err != nil {
		r.Logger.Warn("outbox: lease not given back, it will expire", "shard", shard, "error", err)
	}
}

// next reads on, leaving out the rows of others, and first deletes what the broker
// has confirmed when that is due, in one round trip.
//
// It reads from the start every time and never remembers a last id: ids become
// visible in the order of commits, not of numbers, so `id > last` would skip
// the rows of a slow transaction for ever. For the same reason it deletes
// exactly the ids that were confirmed. No transaction is open while the batch
// is published; the lease keeps others away from it, not a row lock.
func (r *Relay) next(ctx context.Context, shard int16, sent *delivered, others []int64) ([]row, error) {
	var batch []row
	deleting := len(sent.ids) > 0 && sent.rest() <= 0
	skip := others
	if !deleting {
		skip = append(skip, sent.ids...)
	}
	err := postgres.Write(ctx, r.DB, func(b *pgx.Batch) {
		batch = batch[:0]
		if deleting {
			queueDelete(b, shard, sent.ids)
		}
		b.Queue(`
			SELECT id, message_id, type, body, traceparent
			  FROM outbox
			 WHERE shard = $1
			   AND id <> ALL($2)
			 ORDER BY id
			 LIMIT $3`,
			shard, skip, batchSize,
		).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var id int64
				var messageID uuid.UUID
				var kind, traceparent string
				var body []byte
				if err := rows.Scan(&id, &messageID, &kind, &body, &traceparent); err != nil {
					return err
				}
				batch = append(batch, newRow(id, messageID, kind, body, traceparent))
			}
			return rows.Err()
		})
	})
	if err == nil && deleting {
		sent.ids = nil
	}
	return batch, err
}

func queueDelete(b *pgx.Batch, shard int16, sent []int64) {
	b.Queue(`
		DELETE FROM outbox
		 WHERE shard = $1
		   AND id = ANY($2)`,
		shard, sent)
}

// deleteLast forgets what was confirmed just before the stop. It only saves the
// receivers some duplicates, so it gets little time and its failure is no loss.
func (r *Relay) deleteLast(ctx context.Context, shard int16, sent []int64) {
	if len(sent) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := postgres.Write(ctx, r.DB, func(b *pgx.Batch) { queueDelete(b, shard, sent) })
	if err != nil {
		r.Logger.Warn("outbox: published messages left behind, they will be published again", "shard", shard, "error", err)
	}
}

// Pending counts the messages that wait and tells the age of the oldest.
func Pending(ctx context.Context, db *pgxpool.Pool) (count int, oldest time.Duration, err error) {
	err = db.QueryRow(ctx, `
		SELECT count(*), COALESCE(now() - min(created_at), '0'::interval)
		  FROM outbox`).Scan(&count, &oldest)
	if err != nil {
		err = fmt.Errorf("outbox: pending: %w", err)
	}
	return count, oldest, err
}
