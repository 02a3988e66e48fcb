package outbox

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/required"
	"example.com/failwell/shared/platform/wait"
)

const (
	// batchSize bounds a batch. Longer pipelines are hardly faster, and make more
	// duplicates when the process dies before the delete.
	batchSize = 500

	// failurePause follows a failure, so that a broker that is away costs a few tries a
	// second and not a core.
	failurePause = 250 * time.Millisecond

	// queryTimeout bounds a query: a connection may be dead without a word, and the delete
	// still runs for a moment after a stop.
	queryTimeout = 2 * time.Second
)

// Config configures a relay.
type Config struct {
	DB        *pgxpool.Pool         // required
	Publisher Publisher             // required
	Logger    *slog.Logger          // required
	Metrics   prometheus.Registerer // nil: none

	// Poll is how often to look without having been woken. Default: 500 ms.
	Poll time.Duration

	// Takeover is how long a message may be due before another process takes it over. Up to
	// Poll, processes would take over what its writer sends in time, as duplicates. Default: 1 s.
	Takeover time.Duration
}

// Relay publishes the messages in the outbox that its process has written or taken over.
type Relay struct {
	Config
	writer string
	wake   chan struct{}

	published, failures, takenOver prometheus.Counter
}

// NewRelay returns the relay of an outbox; it is not running yet. It panics when a
// field is missing.
func NewRelay(o Outbox, cfg Config) *Relay {
	required.Fields("outbox.Config", map[string]bool{
		"DB": cfg.DB != nil, "Publisher": cfg.Publisher != nil, "Logger": cfg.Logger != nil,
	})
	cfg.Poll, cfg.Takeover = cmp.Or(cfg.Poll, time.Second/2), cmp.Or(cfg.Takeover, time.Second)
	observe(cfg.Metrics, cfg.DB)
	auto := promauto.With(cfg.Metrics)
	return &Relay{
		Config: cfg, writer: o.writer, wake: make(chan struct{}, 1),
		published: auto.NewCounter(prometheus.CounterOpts{Name: "failwell_outbox_published_total", Help: "Messages that the broker confirmed."}),
		failures:  auto.NewCounter(prometheus.CounterOpts{Name: "failwell_outbox_failures_total", Help: "Failures to read or publish messages, and batches of which the broker refused some."}),
		takenOver: auto.NewCounter(prometheus.CounterOpts{Name: "failwell_outbox_adopted_total", Help: "Messages taken over from a writer that did not publish them in time."}),
	}
}

// Wake tells the relay that this process has committed a message. Call it after the
// commit. It never blocks, and a wake-up that is lost costs one Poll, never the message.
// There is no LISTEN/NOTIFY here: transactions that used NOTIFY commit one after the
// other, and cannot be prepared.
func (r *Relay) Wake() {
	select {
	case r.wake <- struct{}{}:
	default: // one is pending
	}
}

// Run relays until ctx ends. One batch after the other: while one is under way, the next
// gathers, so the more there is to do, the less each message costs.
//
// Its own messages come first. While its batches are full or fail, it takes nothing over: it
// would only add to what it cannot send. If that is so of every process, the messages of one
// that is gone wait, and failwell_outbox_oldest_seconds grows.
func (r *Relay) Run(ctx context.Context) {
	look := time.NewTimer(r.Poll) // for what to take over, and for what no wake-up came for
	defer look.Stop()
	failing := false
	for ctx.Err() == nil {
		read, err := r.publishBatch(ctx)
		if err != nil && ctx.Err() == nil {
			r.failures.Inc()
			if !failing { // one line for an outage, however long
				r.Logger.Warn("outbox: cannot publish, will keep trying", "error", err)
			}
			wait.For(ctx, failurePause)
		}
		failing = err != nil
		if failing {
			continue
		}
		if read == batchSize {
			continue // there may be more
		}
		select {
		case <-r.wake:
		case <-look.C:
			more, err := r.takeOver(ctx)
			if err != nil && ctx.Err() == nil {
				r.Logger.Warn("outbox: could not look for messages to take over", "error", err)
			}
			next := r.Poll
			if more {
				next = 0 // once these are published
			}
			look.Reset(next)
		case <-ctx.Done():
		}
	}
}

// publishBatch publishes the oldest messages that this process has written or taken over,
// and returns how many it has read. No transaction is open meanwhile.
//
//	Power fails before the publish: the rows are read again after the restart.
//	Power fails after it: the same, and the messages are published twice, under the same ids.
//
// Pattern: transactional-outbox (the sending half)
func (r *Relay) publishBatch(ctx context.Context) (read int, err error) {
	if err := r.Publisher.Ready(); err != nil {
		return 0, err // there is no use in reading what cannot be sent
	}

	// Read from the start each time, and never "after the last id": ids become visible in
	// the order of commits, so that would skip the rows of a slow transaction. A message that
	// was refused is due later, by refusedMax at most. One that is due later than that was
	// written before the clock was set back, and counts as due.
	reading, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, _ := r.DB.Query(reading, `
		SELECT id, message_id, type, body, traceparent
		  FROM outbox
		 WHERE writer = $1
		   AND (due_at <= now() OR due_at > now() + $2::interval)
		 ORDER BY id
		 LIMIT $3`,
		r.writer, refusedMax, batchSize)
	batch, err := pgx.CollectRows(rows, scanEnvelope)
	if err != nil || len(batch) == 0 {
		return 0, err
	}

	if err := fault.Point(ctx, fault.OutboxRelayBeforePublish); err != nil {
		return 0, err
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
	if err := fault.Point(ctx, fault.OutboxRelayAfterPublish); err != nil {
		return 0, err
	}

	if len(confirmed)+len(refused) == 0 {
		return len(batch), publishErr
	}

	// Exactly what was confirmed. A lost delete only causes a duplicate, so we do not wait
	// for the disk. A stop must not cancel it.
	deleting, cancel := context.WithTimeout(context.WithoutCancel(ctx), queryTimeout)
	defer cancel()
	b := &pgx.Batch{}
	b.Queue(`SELECT set_config('synchronous_commit', 'off', true)`)
	var deleted int
	b.Queue(`
		DELETE FROM outbox
		 WHERE writer = $1
		   AND id = ANY($2)`,
		r.writer, confirmed,
	).Exec(func(tag pgconn.CommandTag) error { deleted = int(tag.RowsAffected()); return nil })
	if len(refused) > 0 {
		r.postpone(b, refused, publishErr)
	}
	err = r.DB.SendBatch(deleting, b).Close()
	if err == nil && deleted < len(confirmed) {
		err = r.deleteTakenOver(deleting, confirmed)
	}
	if err == nil && len(confirmed)+len(refused) < len(batch) {
		err = publishErr
	}
	return len(batch), err
}

func scanEnvelope(from pgx.CollectableRow) (e Envelope, err error) {
	err = from.Scan(&e.row, &e.ID, &e.Type, &e.Body, &e.Traceparent)
	return e, err
}
