package outoforder

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/required"
	"example.com/failwell/shared/platform/tracing"
)

// Schema creates the table of this package. Copy it into a migration.
//
//go:embed schema.sql
var Schema string

// ErrNotYet means: what this event builds on has not happened here. Hold it.
var ErrNotYet = errors.New("outoforder: not yet")

// Event is a piece of news.
type Event struct {
	ID         string // the sender's; the same when the event is sent again
	Stream     string
	Rank       int16
	HappenedAt time.Time
	Type       string
	Body       []byte

	Traceparent string // of the request that brought it; Append sees to it
}

// streamsAtOnce bounds one look at what is held.
const streamsAtOnce = 100

// streamsTogether is how many streams share a transaction: most have one event, and
// a commit for each would cost more than the work.
const streamsTogether = 16

// maxPostponement bounds how long a held event waits for the next look.
const maxPostponement = 10 * time.Minute

// countedAtMost bounds what a look at what is overdue costs.
const countedAtMost = 10_000

// Config is what a Log needs. All of it is required except where it says otherwise.
type Config struct {
	DB      *pgxpool.Pool
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: none

	// Apply does the work of an event in the transaction that marks it as
	// applied. ErrNotYet holds it; any other error leaves it for another try.
	Apply func(ctx context.Context, tx pgx.Tx, e Event) error

	// Applied is called after each commit that has applied something. nil: nothing is.
	Applied func()

	// Poll is how often to look for held events whose time may have come.
	Poll time.Duration

	// Overdue is the age from which the metrics count a held event as overdue.
	Overdue time.Duration
}

// Log keeps events and applies them in order.
type Log struct {
	Config
	wake chan struct{}
}

// NewLog returns a log that is not running yet. It panics when a field is missing.
func NewLog(cfg Config) *Log {
	required.Fields("outoforder.Config", map[string]bool{
		"DB": cfg.DB != nil, "Logger": cfg.Logger != nil, "Apply": cfg.Apply != nil, "Poll": cfg.Poll > 0, "Overdue": cfg.Overdue > 0,
	})
	postgres.Observe(cfg.Metrics, postgres.Gauges{
		DB: cfg.DB, Args: []any{cfg.Overdue, countedAtMost},
		SQL: `
			SELECT count(*)
			  FROM (SELECT
			          FROM received_events
			         WHERE applied_at IS NULL
			           AND received_at < now() - $1::interval
			         LIMIT $2) AS overdue`,
		Gauges: []postgres.Gauge{{
			Name: "failwell_events_overdue",
			Help: "Events that have been held for longer than they should, counted up to 10000: what they build on does not happen.",
		}},
	})
	return &Log{Config: cfg, wake: make(chan struct{}, 1)}
}

// Append keeps e, and tells whether it is new. Acknowledge the sender after this
// returned, not before: from here on we are responsible for the event.
//
// Pattern: change-record (the event's id)
func (l *Log) Append(ctx context.Context, e Event) (isNew bool, err error) {
	tag, err := l.DB.Exec(ctx, `
		INSERT INTO received_events (event_id, stream, rank, happened_at, type, body, traceparent)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		    ON CONFLICT (event_id) DO NOTHING`,
		e.ID, e.Stream, e.Rank, e.HappenedAt, e.Type, e.Body, tracing.Traceparent(ctx))
	return tag.RowsAffected() == 1, err
}

// QueueRecheck lets the held events of a stream be looked at again, from the
// transaction that makes what they may be waiting for. Call Notify afterwards.
func QueueRecheck(b *pgx.Batch, stream string) {
	b.Queue(`
		UPDATE received_events
		   SET look_at = now()
		 WHERE stream = $1
		   AND applied_at IS NULL`,
		stream)
}

// RecheckTx is QueueRecheck for a transaction that is not a batch.
func RecheckTx(ctx context.Context, tx pgx.Tx, stream string) error {
	b := &pgx.Batch{}
	QueueRecheck(b, stream)
	return tx.SendBatch(ctx, b).Close()
}

// Notify makes Run look now. It never blocks; a lost call costs one Poll.
func (l *Log) Notify() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run applies what can be applied until ctx ends.
func (l *Log) Run(ctx context.Context) {
	for ctx.Err() == nil {
		more, err := l.runOnce(ctx)
		if err != nil && ctx.Err() == nil {
			l.Logger.Warn("events: looking for what can be applied failed", "error", err)
		}
		if more && err == nil {
			continue
		}
		select {
		case <-l.wake:
		case <-time.After(l.Poll):
		case <-ctx.Done():
		}
	}
}

// runOnce looks at every stream that is due.
func (l *Log) runOnce(ctx context.Context) (more bool, err error) {
	rows, _ := l.DB.Query(ctx, `
		SELECT DISTINCT stream
		  FROM received_events
		 WHERE applied_at IS NULL
		   AND look_at NOT BETWEEN now() AND now() + 2 * $2::interval -- no honest one is further away
		 LIMIT $1`,
		streamsAtOnce, maxPostponement)
	streams, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return false, err
	}
	slices.Sort(streams) // everybody locks them in one order
	for some := range slices.Chunk(streams, streamsTogether) {
		if _, err := l.apply(ctx, some...); err != nil && ctx.Err() == nil {
			l.applyEach(ctx, some)
		}
	}
	return len(streams) == streamsAtOnce, nil
}

// applyEach applies each stream by itself, after one of them has failed: the others
// have nothing to do with it.
func (l *Log) applyEach(ctx context.Context, streams []string) {
	for _, stream := range streams {
		events, err := l.apply(ctx, stream)
		if err == nil || ctx.Err() != nil {
			continue
		}
		// Its own try later, so that one event that fails does not keep the
		// loop busy. When this fails too, the next look is at the next poll.
		err = errors.Join(err, postgres.InTx(ctx, l.DB, func(ctx context.Context, tx pgx.Tx) error { return postpone(ctx, tx, stream, events) }))
		l.Logger.Warn("event not applied, will be tried again", "stream", stream, "error", err)
	}
}

// apply applies what can be applied of some streams, in one transaction, and returns
// what it has looked at.
//
// Pattern: out-of-order-messages
func (l *Log) apply(ctx context.Context, streams ...string) (events []held, err error) {
	var applied []string
	err = postgres.InTx(ctx, l.DB, func(ctx context.Context, tx pgx.Tx) error {
		applied = nil
		// One at a time for a stream, whatever replica: of two that apply its
		// events side by side, neither sees what the other has not committed.
		b := &pgx.Batch{}
		b.Queue(`
			SELECT pg_advisory_xact_lock(hashtextextended('received_events:' || stream, 0))
			  FROM unnest($1::text[]) AS stream`,
			streams)
		b.Queue(`
			SELECT event_id, stream, rank, happened_at, type, body, traceparent, look_at
			  FROM received_events
			 WHERE stream = ANY($1)
			   AND applied_at IS NULL
			 ORDER BY stream, rank, happened_at, event_id`,
			streams,
		).Query(func(rows pgx.Rows) (err error) {
			events, err = pgx.CollectRows(rows, pgx.RowToStructByPos[held])
			return err
		})
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		heldUp := "" // the stream whose next event has to wait, and with it all that follow
		for _, e := range events {
			if e.Stream == heldUp {
				continue
			}
			applying, span := tracing.Continue(ctx, e.Traceparent, "apply "+e.Type)
			err := l.Apply(applying, tx, e.Event)
			span.End()
			switch {
			case errors.Is(err, ErrNotYet):
				heldUp = e.Stream
				if err := postpone(ctx, tx, e.Stream, events); err != nil {
					return err
				}
			case err != nil:
				return fmt.Errorf("%s %s: %w", e.Type, e.ID, err)
			default:
				applied = append(applied, e.ID)
			}
		}
		_, err := tx.Exec(ctx, `
			UPDATE received_events
			   SET applied_at = now()
			 WHERE event_id = ANY($1)`,
			applied)
		return err
	})
	if err == nil && len(applied) > 0 && l.Applied != nil {
		l.Applied()
	}
	return events, err
}

// held is an event that was read to be applied.
type held struct {
	Event
	LookAt time.Time
}

// postpone puts the rest of a stream off by as long as it has waited already: an
// event that is a second early is looked at after a second, one that waits for
// days is not looked at every second.
//
// But not one that was woken since it was read: what it waits for was not there
// when we looked, and is now. Putting it off would lose the wake.
func postpone(ctx context.Context, tx pgx.Tx, stream string, events []held) error {
	seen := make([]time.Time, len(events))
	for i, e := range events {
		seen[i] = e.LookAt
	}
	_, err := tx.Exec(ctx, `
		UPDATE received_events
		   SET look_at = now() + LEAST(GREATEST(now() - received_at, interval '100 milliseconds'), $2::interval)
		 WHERE stream = $1
		   AND applied_at IS NULL
		   AND look_at = ANY($3::timestamptz[])`,
		stream, maxPostponement, seen)
	return err
}
