package outbox

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/required"
)

const (
	// Loops is how many batches a relay publishes at the same time: while one waits for
	// the disks of the broker, another is read.
	Loops = 4

	// batchSize bounds a batch. Longer pipelines are hardly faster, and make more
	// duplicates when the process dies before the delete.
	batchSize = 500

	// failurePause follows a failure, so that a broker that is away costs a few tries a
	// second and not a core.
	failurePause = 250 * time.Millisecond

	// deleteTimeout bounds the delete, which goes on for a moment after a stop.
	deleteTimeout = 2 * time.Second
)

// Config configures a relay.
type Config struct {
	DB        *pgxpool.Pool         // required
	Publisher Publisher             // required
	Logger    *slog.Logger          // required
	Metrics   prometheus.Registerer // nil: none

	// Poll is how often to look without having been woken: the longest delay of a message
	// whose writer died between its commit and the wake-up. Default: 1 s.
	Poll time.Duration

	// Takeover is how long a message waits for its writer before another process may
	// publish it. Default: 1 s.
	Takeover time.Duration
}

// Relay publishes what its process has written into the outbox.
type Relay struct {
	Config
	writer string
	claims *claims
	wake   chan struct{} // there may be rows of our own
	look   chan struct{} // it is time to look for rows that others have left

	published, failures, adopted prometheus.Counter
}

// NewRelay returns the relay of an outbox; it is not running yet. It panics when a
// field is missing.
func NewRelay(o Outbox, cfg Config) *Relay {
	required.Fields("outbox.Config", map[string]bool{
		"DB": cfg.DB != nil, "Publisher": cfg.Publisher != nil, "Logger": cfg.Logger != nil,
	})
	cfg.Poll, cfg.Takeover = cmp.Or(cfg.Poll, time.Second), cmp.Or(cfg.Takeover, time.Second)
	r := &Relay{
		Config: cfg, writer: o.writer, claims: newClaims(),
		wake: make(chan struct{}, 1), look: make(chan struct{}, 1),
		published: prometheus.NewCounter(prometheus.CounterOpts{Name: "failwell_outbox_published_total", Help: "Messages that the broker confirmed."}),
		failures:  prometheus.NewCounter(prometheus.CounterOpts{Name: "failwell_outbox_failures_total", Help: "Batches that could not be published whole."}),
		adopted:   prometheus.NewCounter(prometheus.CounterOpts{Name: "failwell_outbox_adopted_total", Help: "Messages taken over from a writer that did not publish them in time."}),
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(r.published, r.failures, r.adopted)
	}
	return r
}

// Wake tells the relay that this process has committed a message. Call it after the
// commit. It never blocks, and a wake-up that is lost costs one Poll, never the message.
// There is no LISTEN/NOTIFY here: transactions that used NOTIFY commit one after the
// other, and cannot be prepared.
func (r *Relay) Wake() { signal(r.wake) }

// signal never blocks: when a signal is pending already, one is enough.
func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// Run relays until ctx ends.
func (r *Relay) Run(ctx context.Context) {
	var loops sync.WaitGroup
	for range Loops {
		loops.Go(func() { r.relay(ctx) })
	}
	poll := time.NewTicker(r.Poll)
	defer poll.Stop()
	for ctx.Err() == nil {
		select {
		case <-poll.C:
			signal(r.look)
			signal(r.wake)
		case <-ctx.Done():
		}
	}
	loops.Wait()
}

func (r *Relay) relay(ctx context.Context) {
	for ctx.Err() == nil {
		more, err := r.publishBatch(ctx)
		if err == nil && !more {
			more, err = r.adopt(ctx) // only who has nothing of its own to do
		}
		switch {
		case err != nil:
			r.pause(ctx, err)
		case !more:
			select {
			case <-r.wake:
			case <-ctx.Done():
			}
		}
	}
}

// pause waits after a failure.
func (r *Relay) pause(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	r.failures.Inc()
	r.Logger.Warn("outbox: will try again", "error", err)
	select {
	case <-time.After(failurePause):
	case <-ctx.Done():
	}
}

// publishBatch publishes the oldest messages that this process has written. No
// transaction is open meanwhile. It returns true when there may be more.
//
//	Power fails before the publish: the rows are read again after the restart.
//	Power fails after it: the same, and the messages are published twice, under the same ids.
//
// Pattern: transactional-outbox (the sending half)
func (r *Relay) publishBatch(ctx context.Context) (more bool, err error) {
	if err := r.Publisher.Ready(); err != nil {
		return false, err // there is no use in reading what cannot be sent
	}

	// Read from the start each time, and never "after the last id": ids become visible in
	// the order of commits, so that would skip the rows of a slow transaction.
	batch, err := r.claims.take(func(claimed []int64) ([]Envelope, error) {
		rows, _ := r.DB.Query(ctx, `
			SELECT id, message_id, type, body, traceparent
			  FROM outbox
			 WHERE writer = $1
			   AND id <> ALL($2)
			 ORDER BY id
			 LIMIT $3`,
			r.writer, claimed, batchSize)
		return pgx.CollectRows(rows, scanEnvelope)
	})
	if err != nil || len(batch) == 0 {
		return false, err
	}
	defer r.claims.release(batch)
	if more = len(batch) == batchSize; more {
		r.Wake() // another loop
	}

	if err := fault.Point(ctx, fault.OutboxRelayBeforePublish); err != nil {
		return false, err
	}
	outcomes, publishErr := r.Publisher.Publish(ctx, batch)
	var confirmed, refused []int64
	for i, outcome := range outcomes {
		switch outcome {
		case Confirmed:
			confirmed = append(confirmed, batch[i].row)
		case Refused:
			refused = append(refused, batch[i].row)
		case Unconfirmed: // stays, and is read again
		}
	}
	r.published.Add(float64(len(confirmed)))
	r.claims.postpone(refused)
	if err := fault.Point(ctx, fault.OutboxRelayAfterPublish); err != nil {
		return false, err
	}

	// Exactly what was confirmed. A delete that is lost costs a duplicate, which the
	// receivers' inboxes take. So it need not wait for the disk; but it need not be lost
	// because ctx ends either.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	b := &pgx.Batch{}
	b.Queue(`SELECT set_config('synchronous_commit', 'off', true)`)
	b.Queue(`
		DELETE FROM outbox
		 WHERE writer = $1
		   AND id = ANY($2)`,
		r.writer, confirmed)
	if err := r.DB.SendBatch(ctx, b).Close(); err != nil {
		return false, err
	}

	if len(confirmed)+len(refused) < len(batch) {
		return false, publishErr
	}
	if len(refused) > 0 {
		r.failures.Inc()
		r.Logger.Warn("outbox: the broker refused messages, they are tried again later", "messages", len(refused), "error", publishErr)
	}
	return more, nil
}

func scanEnvelope(from pgx.CollectableRow) (e Envelope, err error) {
	err = from.Scan(&e.row, &e.ID, &e.Type, &e.Body, &e.Traceparent)
	return e, err
}

// adopt takes over messages that their writer has not published in time: it is dead, or
// cut off from its broker, or has more than it can send. It returns true when there are any.
//
// Two processes never take the same row: one skips what the other has locked, and what is
// not locked any more has a new writer. The only clock is the database's. When that was set
// back, the time of a row is ahead of it; far ahead counts as old, or the row would wait
// until the clock is there again.
func (r *Relay) adopt(ctx context.Context) (bool, error) {
	select {
	case <-r.look:
	default:
		return false, nil // looked less than a Poll ago
	}
	// From the end that the writer comes to last: when it is alive and slow, the work is
	// shared, and little is published twice.
	tag, err := r.DB.Exec(ctx, `
		WITH left_behind AS (
			SELECT writer, id
			  FROM outbox
			 WHERE writer <> $1
			   AND held_since NOT BETWEEN now() - $2::interval AND now() + $2::interval
			   AND id <> ALL($3)
			 ORDER BY writer DESC, id DESC
			 LIMIT $4
			   FOR UPDATE SKIP LOCKED)
		UPDATE outbox o
		   SET writer     = $1,
		       held_since = now()
		  FROM left_behind l
		 WHERE o.writer = l.writer
		   AND o.id     = l.id`,
		r.writer, r.Takeover, r.claims.ids(), batchSize)
	if err != nil || tag.RowsAffected() == 0 {
		return false, err
	}
	r.adopted.Add(float64(tag.RowsAffected()))
	r.Logger.Warn("outbox: took over messages that were left behind", "messages", tag.RowsAffected())
	signal(r.look) // for more of them, once these are published
	return true, nil
}
