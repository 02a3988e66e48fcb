package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/rabbit"
)

// batchSize is how many messages travel in one pipeline. A larger one is hardly
// faster and makes more duplicates when the process dies before the delete.
const batchSize = 500

// A confirmed message may stay in the table for deleteLag, so that those which come
// one by one are deleted together: a commit for each would cost as much as the
// transaction that wrote it. If the process dies, what it has not deleted is
// published again. At deleteAt of them nobody waits for company.
const (
	deleteLag = 100 * time.Millisecond
	deleteAt  = 200
)

// failurePause is waited after a failed batch, so that a broker that is away
// costs a few tries a second and not a core.
const failurePause = 250 * time.Millisecond

// Config configures a relay.
type Config struct {
	DB      *pgxpool.Pool
	Broker  *rabbit.Conn
	Logger  *slog.Logger
	Metrics prometheus.Registerer

	// Holder names this process in the leases. A process that restarts under
	// the same name goes on at once; another one waits for the lease to expire.
	// Two processes with one name publish everything twice.
	Holder string

	// Lease is how long a shard stays ours without a renewal: the time that
	// messages wait after the death of a replica until another takes over.
	Lease time.Duration

	// Poll is how often to look without having been woken. It bounds the delay
	// of a message whose writer died between its commit and the wake-up.
	Poll time.Duration
}

// Relay moves messages from the outbox to the broker.
type Relay struct {
	Config
	wake      [Shards]chan struct{}
	published prometheus.Counter
	failures  prometheus.Counter
}

// NewRelay returns a relay that is not running yet.
func NewRelay(cfg Config) *Relay {
	r := &Relay{
		Config:    cfg,
		published: prometheus.NewCounter(prometheus.CounterOpts{Name: "failwell_outbox_published_total", Help: "Messages that the broker confirmed."}),
		failures:  prometheus.NewCounter(prometheus.CounterOpts{Name: "failwell_outbox_failures_total", Help: "Batches that could not be published whole."}),
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(r.published, r.failures)
	}
	for shard := range r.wake {
		r.wake[shard] = make(chan struct{}, 1)
	}
	return r
}

// Wake tells the relay that a message of this subject was committed. It never
// blocks. A wake-up that is lost costs one Poll, never the message. There is no
// LISTEN/NOTIFY here: NOTIFY takes a lock across all commits of the database,
// and a transaction that used it cannot be prepared.
func (r *Relay) Wake(subject string) {
	select {
	case r.wake[shardOf(subject)] <- struct{}{}:
	default: // a wake-up is pending already
	}
}

// WakeAll is Wake for whoever does not know the subject.
func (r *Relay) WakeAll() {
	for _, wake := range r.wake {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// Run relays all shards until ctx ends.
//
// Pattern: transactional-outbox (the sending half)
func (r *Relay) Run(ctx context.Context) {
	var shards sync.WaitGroup
	for shard := range int16(Shards) {
		shards.Go(func() { r.relayShard(ctx, shard) })
	}
	shards.Wait()
}

// relayShard holds the lease of a shard and empties it, one batch after the other.
func (r *Relay) relayShard(ctx context.Context, shard int16) {
	publisher := r.Broker.Publisher()
	var leasedUntil time.Time
	sent := delivered{ids: []int64{}} // never nil: that is NULL, and no id differs from NULL
	for ctx.Err() == nil {
		// Renewed after a third of its life, on our clock from before we asked:
		// we believe in the lease for less time than the database does.
		if now := time.Now(); leasedUntil.Sub(now) < r.Lease*2/3 {
			held, err := r.acquire(ctx, shard)
			if err != nil || !held {
				r.pause(ctx, shard, err)
				continue
			}
			leasedUntil = now.Add(r.Lease)
		}

		// While the broker is away there is no use in reading what cannot be sent.
		if err := r.Broker.Ready(); err != nil && len(sent.ids) == 0 {
			r.failures.Inc()
			r.pause(ctx, shard, err)
			continue
		}
		batch, err := r.next(ctx, shard, &sent)
		if err != nil {
			r.pause(ctx, shard, err)
			continue
		}
		if len(batch) == 0 {
			r.sleep(ctx, shard, &sent)
			continue
		}
		confirmed, err := r.publish(ctx, publisher, batch)
		sent.add(confirmed)
		if err != nil {
			r.failures.Inc()
			r.pause(ctx, shard, err)
		}
	}
	r.deleteLast(ctx, shard, sent.ids)
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

type row struct {
	id      int64
	message rabbit.Message
}

// next reads on, and first deletes what the broker has confirmed when that is due,
// in one round trip.
//
// It reads from the start every time and never remembers a last id: ids become
// visible in the order of commits, not of numbers, so `id > last` would skip
// the rows of a slow transaction for ever. For the same reason it deletes
// exactly the ids that were confirmed. No transaction is open while the batch
// is published; the lease keeps others away from it, not a row lock.
func (r *Relay) next(ctx context.Context, shard int16, sent *delivered) ([]row, error) {
	var batch []row
	deleting := len(sent.ids) > 0 && sent.rest() <= 0
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
			shard, sent.ids, batchSize,
		).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var m row
				var messageID uuid.UUID
				var traceparent string
				if err := rows.Scan(&m.id, &messageID, &m.message.RoutingKey, &m.message.Body, &traceparent); err != nil {
					return err
				}
				m.message.ID = messageID.String()
				m.message.ContentType = "application/cloudevents+json"
				if traceparent != "" {
					m.message.Headers = amqp.Table{"traceparent": traceparent}
				}
				batch = append(batch, m)
			}
			return rows.Err()
		})
	})
	if err == nil && deleting {
		sent.ids = sent.ids[:0]
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

// publish returns the ids that the broker has for certain, also when it failed
// for others. If the process dies after the confirms, the batch is published
// again by whoever comes next.
func (r *Relay) publish(ctx context.Context, publisher *rabbit.Publisher, batch []row) ([]int64, error) {
	if err := fault.Point(ctx, fault.OutboxRelayBeforePublish); err != nil {
		return nil, err
	}
	messages := make([]rabbit.Message, len(batch))
	for i, m := range batch {
		messages[i] = m.message
	}
	confirmed, err := publisher.Publish(ctx, messages)
	var sent []int64
	for i, ok := range confirmed {
		if ok {
			sent = append(sent, batch[i].id)
		}
	}
	r.published.Add(float64(len(sent)))
	return sent, errors.Join(err, fault.Point(ctx, fault.OutboxRelayAfterPublish))
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

// sleep waits for a wake-up, the next poll, or until what was sent must be deleted.
func (r *Relay) sleep(ctx context.Context, shard int16, sent *delivered) {
	wait := r.Poll
	if len(sent.ids) > 0 {
		wait = min(wait, sent.rest())
	}
	select {
	case <-r.wake[shard]:
	case <-time.After(wait):
	case <-ctx.Done():
	}
}

// pause waits after a failure; err is nil when another process holds the lease.
func (r *Relay) pause(ctx context.Context, shard int16, err error) {
	if err != nil && ctx.Err() == nil {
		r.Logger.Warn("outbox: will try again", "shard", shard, "error", err)
	}
	select {
	case <-time.After(failurePause):
	case <-ctx.Done():
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
