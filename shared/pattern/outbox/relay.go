package outbox

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/rabbit"
)

// batchSize is how many messages are read at once, and mostOffered how many can wait
// that were handed over. Together they are one pipeline at most. Larger ones are
// hardly faster, and make more duplicates when the process dies before the delete.
const (
	batchSize   = 500
	mostOffered = 500
)

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

// A message that no queue is bound for stays in the table and is left alone for
// asidePause, so that the others get past it: its receiver may be about to start. The
// more there are of them, the longer, by asideEach; their receiver will not come soon,
// and to try them all the time would be all that the relay does.
const (
	asidePause = 250 * time.Millisecond
	asideEach  = 4 * time.Millisecond
)

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
	shards    [Shards]queue
	published prometheus.Counter
	failures  prometheus.Counter
}

// queue is what a shard hears of from inside the process.
type queue struct {
	wake    chan struct{}
	offered chan row
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
	for shard := range r.shards {
		r.shards[shard] = queue{wake: make(chan struct{}, 1), offered: make(chan row, mostOffered)}
	}
	return r
}

// Offer hands over messages that were committed a moment ago, so that they need not
// be read back from the table. Call it after the commit and never before: the relay
// publishes what it is given. It never blocks, and nothing depends on it. What is
// lost on this way, because the process died or the queue was full or another
// replica has the lease, is in the table, and found there after one Poll at the latest.
func (r *Relay) Offer(messages ...Sealed) {
	for _, m := range messages {
		if *m.row == 0 { // which row it is we do not know; whoever reads the table does
			r.Wake(m.subject)
			continue
		}
		select {
		case r.shards[shardOf(m.subject)].offered <- m.asRow():
		default:
			r.Wake(m.subject)
		}
	}
}

// Wake tells the relay that a message of this subject was committed. It never
// blocks. A wake-up that is lost costs one Poll, never the message. There is no
// LISTEN/NOTIFY here: transactions that used NOTIFY commit one after the other, and
// cannot be prepared.
func (r *Relay) Wake(subject string) { r.wake(shardOf(subject)) }

// WakeAll is Wake for whoever does not know the subject.
func (r *Relay) WakeAll() {
	for shard := range int16(Shards) {
		r.wake(shard)
	}
}

func (r *Relay) wake(shard int16) {
	select {
	case r.shards[shard].wake <- struct{}{}:
	default: // a wake-up is pending already
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

// relayShard holds the lease of a shard and publishes what is in it, one batch after
// the other: what was handed over at once, and what is in the table when there may
// be something that was not.
func (r *Relay) relayShard(ctx context.Context, shard int16) {
	publisher := r.Broker.Publisher()
	var leasedUntil time.Time
	var sent delivered
	var aside unroutable
	var offered []row
	look := true // in the table
	for ctx.Err() == nil {
		// Renewed after a third of its life, on our clock from before we asked:
		// we believe in the lease for less time than the database does.
		if now := time.Now(); leasedUntil.Sub(now) < r.Lease*2/3 {
			held, err := r.acquire(ctx, shard)
			if err != nil || !held {
				offered = r.take(shard, offered)[:0] // whoever has the lease finds them
				look = true
				r.pause(ctx, shard, err)
				continue
			}
			leasedUntil = now.Add(r.Lease)
		}

		batch := sent.without(r.take(shard, offered))
		offered = nil
		// While the broker is away there is no use in reading what cannot be sent.
		if err := r.Broker.Ready(); err != nil && len(sent.ids) == 0 {
			r.failures.Inc()
			look = true
			r.pause(ctx, shard, err)
			continue
		}
		if look {
			read, err := r.next(ctx, shard, &sent, append(ids(batch), aside.ids(time.Now())...))
			if err != nil {
				r.pause(ctx, shard, err)
				continue
			}
			look = len(read) == batchSize
			batch = append(batch, read...)
			slices.SortFunc(batch, func(a, b row) int { return int(a.id - b.id) })
		}
		if len(batch) == 0 {
			offered, look = r.sleep(ctx, shard, &sent)
			continue
		}

		confirmed, err := r.publish(ctx, publisher, batch)
		sent.add(confirmed)
		if err != nil {
			r.failures.Inc()
			look = true
			if returned := errors.Is(err, rabbit.ErrUnroutable) && !errors.Is(err, rabbit.ErrUnconfirmed); returned {
				r.Logger.Warn("outbox: set aside for a while", "shard", shard, "error", err)
				aside.add(sent.without(batch), time.Now())
			} else {
				r.pause(ctx, shard, err)
			}
		}
		look = look || sent.rest() <= 0
	}
	r.deleteLast(ctx, shard, sent.ids)
	r.giveBack(ctx, shard)
}

// take adds what was handed over to what we have, without waiting.
func (r *Relay) take(shard int16, offered []row) []row {
	for len(offered) < mostOffered {
		select {
		case m := <-r.shards[shard].offered:
			offered = append(offered, m)
		default:
			return offered
		}
	}
	return offered
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

// sleep waits for a message that is handed over; or until there is something to do
// in the table: a wake-up, the next poll, or what was sent must be deleted.
func (r *Relay) sleep(ctx context.Context, shard int16, sent *delivered) (offered []row, look bool) {
	wait := r.Poll
	if len(sent.ids) > 0 {
		wait = min(wait, sent.rest())
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case m := <-r.shards[shard].offered:
		return []row{m}, false
	case <-r.shards[shard].wake:
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil, true
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
