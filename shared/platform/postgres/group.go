package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"example.com/failwell/shared/platform/postgres/txmark"
)

const (
	// maxGroup bounds a common transaction: its first member waits for its last.
	maxGroup = 64

	// queueLength is how many batches can wait for the next commit before their
	// callers wait for a place in the queue.
	queueLength = 256

	// lockTimeout is how long a common transaction waits for a locked row. It is
	// longer than an ordinary commit of another process, and shorter than PostgreSQL's
	// deadlock_timeout (1 s): two processes may lock the same rows the other way round.
	lockTimeout = 100 * time.Millisecond

	// maxRounds bounds how often a common transaction is repeated without the member
	// that was refused. After that, each of the others is written alone.
	maxRounds = 8

	// aloneWait bounds how long a batch waits for a place to be written alone. Those who
	// have one keep it for a commit, or for lockTimeout.
	aloneWait = 5 * time.Second

	// commitTimeout bounds a common transaction from outside. The database ends its own
	// statements earlier; this is for a connection that broke without a word, behind which
	// every caller would wait.
	commitTimeout = 15 * time.Second
)

// ErrClosed means: the writer was closed before the batch was handed in. Nothing was written.
var ErrClosed = errors.New("postgres: this process is stopping and writes nothing more")

// ErrTooManyWaiters means: so many batches wait for locked rows that this one found no
// place among them in time. Nothing was written.
var ErrTooManyWaiters = errors.New("postgres: too many writers wait for locked rows")

// GroupOptions configures [Grouped].
type GroupOptions struct {
	// LockWait bounds how long a batch waits for a locked row. Default 5 s, which is less
	// than a client waits for us.
	LockWait time.Duration

	// PlaceWait bounds how long a batch waits, before that, for a place among those that
	// wait for a row. Default 5 s. A consumer of messages sets less: the broker can wait,
	// its workers cannot.
	PlaceWait time.Duration

	// Metrics registers the group's metrics. nil: they are counted and not shown.
	Metrics prometheus.Registerer
}

// GroupCommitter is the [Writer] that [Grouped] returns.
type GroupCommitter struct {
	GroupOptions
	db      *pgxpool.Pool
	timeout time.Duration // commitTimeout, but in tests

	queue chan *request
	done  sync.WaitGroup

	handingIn sync.RWMutex // held while a batch is handed in or written alone: Close waits for it
	closing   bool

	alone   chan struct{} // a place for each batch that is written alone
	waiters chan struct{} // a place for each batch that waits for a locked row
	locked  lockedRows

	commits *prometheus.CounterVec
	size    prometheus.Histogram
	waiting prometheus.Gauge
}

// request is a batch on its way through the group.
type request struct {
	queries []*pgx.QueuedQuery
	taken   atomic.Bool // by the committer, or by the caller that gave up: the one that sets it first decides
	outcome chan outcome
}

type outcome struct {
	results  []result
	err      error
	expelled bool
	row      *rowKey // that it wants and that is locked, when it was expelled for that
}

// Grouped writes the batches that arrive together in one transaction: group commit,
// as databases do it inside, one floor higher. A commit costs a flush to disk and a
// dozen context switches, whatever it holds. What is handed in while a commit is on its
// way goes into the next one together: the more there is to do, the cheaper each batch.
// Nothing waits for company: a batch that comes alone goes alone.
//
// When the common transaction is refused because of one member's statement, that member
// is expelled, written alone, and gets its own error; the others are repeated without it.
//
// A batch that waits for a locked row holds a connection. Without a bound, one row could
// take the whole pool, and whatever would free the row could not run. So batches that are
// written alone share half of the pool, and those that wait for a row a quarter.
func Grouped(db *pgxpool.Pool, opts GroupOptions) *GroupCommitter {
	opts.LockWait, opts.PlaceWait = cmp.Or(opts.LockWait, 5*time.Second), cmp.Or(opts.PlaceWait, 5*time.Second)
	conns := db.Config().MaxConns
	auto := promauto.With(opts.Metrics)
	g := &GroupCommitter{
		GroupOptions: opts, db: db, timeout: commitTimeout, queue: make(chan *request, queueLength),
		alone: make(chan struct{}, max(1, conns/2)), waiters: make(chan struct{}, max(1, conns/4)),
		commits: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "failwell_group_commits_total",
			Help: "Transactions by outcome: committed, locked or refused (because of one member), unknown (the answer was lost), unavailable (no connection), alone (of one member that was expelled).",
		}, []string{"outcome"}),
		size: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "failwell_group_size", Help: "Batches in a common transaction.", Buckets: []float64{1, 2, 4, 8, 16, 32, maxGroup}}),
		waiting: auto.NewGauge(prometheus.GaugeOpts{
			Name: "failwell_group_waiting", Help: "Batches that wait for a place to be written alone, or among those that wait for a locked row."}),
	}
	g.done.Go(g.run)
	return g
}

// Close writes what was handed in, and returns when it is written.
func (g *GroupCommitter) Close() {
	g.handingIn.Lock()
	defer g.handingIn.Unlock()
	if !g.closing {
		g.closing = true
		close(g.queue)
	}
	g.done.Wait()
}

// Write hands the batch in and waits for its outcome.
//
// Pattern: acid-transaction
func (g *GroupCommitter) Write(ctx context.Context, fill func(b *pgx.Batch)) error {
	if txmark.InTransaction(ctx) {
		return ErrNested
	}
	batch := &pgx.Batch{}
	fill(batch)
	g.handingIn.RLock()
	defer g.handingIn.RUnlock()
	if g.closing {
		return ErrClosed
	}
	r := &request{queries: batch.QueuedQueries, outcome: make(chan outcome, 1)}
	select {
	case g.queue <- r:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errNotBegun, ctx.Err())
	}
	select {
	case o := <-r.outcome:
		switch {
		case o.expelled:
			return g.writeAlone(ctx, o.row, fill)
		case o.err != nil:
			return o.err
		}
		return deliver(r.queries, o.results)
	case <-ctx.Done():
		if r.taken.CompareAndSwap(false, true) {
			return fmt.Errorf("%w: %w", errNotBegun, ctx.Err()) // it will not be carried out
		}
		return fmt.Errorf("%w: %w", ErrCommitUnknown, ctx.Err())
	}
}

// run commits one group after the other.
func (g *GroupCommitter) run() {
	for first := range g.queue {
		members := []*request{first}
		for range min(len(g.queue), maxGroup-1) {
			members = append(members, <-g.queue)
		}
		// The caller of some may have gone: those are not carried out.
		g.commit(slices.DeleteFunc(members, func(r *request) bool { return !r.taken.CompareAndSwap(false, true) }))
	}
}

// commit gives every member its outcome.
func (g *GroupCommitter) commit(members []*request) {
	for round := 0; ; round++ {
		members = slices.DeleteFunc(members, func(r *request) bool {
			row := g.locked.wantedBy(r.queries)
			if row != nil {
				r.outcome <- outcome{expelled: true, row: row}
			}
			return row != nil
		})
		if len(members) == 0 {
			return
		}
		results, failed, row, err := g.executeTogether(members)
		switch {
		case !refused(err), len(members) == 1 && row == nil && !mayRepeat(err):
			// Committed; or it is unknown what happened, and all must hear that; or there is
			// no connection, and none would be found by trying alone; or it was alone already.
			for i, r := range members {
				r.outcome <- outcome{results: results[i], err: err}
			}
			return
		case failed < 0 || round == maxRounds:
			for _, r := range members {
				r.outcome <- outcome{expelled: true}
			}
			return
		}
		if row != nil {
			g.locked.add(*row, rowMemory) // the next round expels all that want it
		}
		members[failed].outcome <- outcome{expelled: true, row: row}
		members = slices.Delete(members, failed, failed+1)
	}
}

// executeTogether writes members in one transaction, and returns what each member's
// statements returned. failed is the member whose statement was refused, below zero when
// it is no member's, or it is not known whose; row is what it wants when that is locked. The
// context is not a caller's: the transaction is everybody's.
func (g *GroupCommitter) executeTogether(members []*request) (results [][]result, failed int, row *rowKey, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), g.timeout)
	defer cancel()
	b := &pgx.Batch{}
	setLockTimeout(b, lockTimeout)
	for _, r := range members {
		b.QueuedQueries = append(b.QueuedQueries, r.queries...)
	}
	all, statement, err := execute(ctx, g.db, b.QueuedQueries)
	g.count(len(members), err)
	results, failed = make([][]result, len(members)), -1
	at := 1 // after the lock time-out
	for i, r := range members {
		from := at
		at += len(r.queries)
		if err == nil {
			results[i] = all[from:at]
		} else if from <= statement && statement < at {
			failed = i
		}
	}
	if failed >= 0 && LockTimedOut(err) {
		key := keyOf(b.QueuedQueries[statement])
		row = &key
	}
	return results, failed, row, err
}

// refused tells whether the transaction failed because of something that was in it.
// Then it may be one member's affair; ErrCommitUnknown and errNotBegun are everybody's.
func refused(err error) bool {
	return err != nil && !errors.Is(err, ErrCommitUnknown) && !errors.Is(err, errNotBegun)
}

func (g *GroupCommitter) count(members int, err error) {
	outcome := "committed"
	switch {
	case LockTimedOut(err):
		outcome = "locked"
	case refused(err):
		outcome = "refused"
	case errors.Is(err, ErrCommitUnknown):
		outcome = "unknown"
	case err != nil:
		outcome = "unavailable"
	}
	g.commits.WithLabelValues(outcome).Inc()
	g.size.Observe(float64(members))
}

// writeAlone writes a batch that was expelled. One that has met a locked row, now or in the
// group, waits for it among few.
func (g *GroupCommitter) writeAlone(ctx context.Context, row *rowKey, fill func(b *pgx.Batch)) error {
	if row == nil {
		err := g.writeInPlace(ctx, g.alone, aloneWait, lockTimeout, fill)
		if !LockTimedOut(err) {
			return err
		}
		row = &rowKey{} // it is not known which
	}
	g.locked.add(*row, g.PlaceWait+g.LockWait+rowMemory)
	err := g.writeInPlace(ctx, g.waiters, g.PlaceWait, g.LockWait, fill)
	if err == nil {
		g.locked.remove(*row) // it is free again
	}
	return err
}

// writeInPlace writes a batch in a transaction of its own once it has one of places.
func (g *GroupCommitter) writeInPlace(ctx context.Context, places chan struct{}, placeWait, lockWait time.Duration, fill func(b *pgx.Batch)) error {
	g.waiting.Inc()
	timer := time.NewTimer(placeWait)
	defer timer.Stop()
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
		g.waiting.Dec()
	case <-timer.C:
		g.waiting.Dec()
		return ErrTooManyWaiters
	case <-ctx.Done():
		g.waiting.Dec()
		return fmt.Errorf("%w: %w", errNotBegun, ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	g.commits.WithLabelValues("alone").Inc()
	return Write(ctx, g.db, func(b *pgx.Batch) {
		setLockTimeout(b, lockWait)
		fill(b)
	})
}

// setLockTimeout holds until the end of the transaction. Not SET LOCAL: a pipeline has
// no BEGIN, and the server would log a warning about that at each commit.
func setLockTimeout(b *pgx.Batch, d time.Duration) {
	b.Queue(`SELECT set_config('lock_timeout', $1, true)`, strconv.FormatInt(d.Milliseconds(), 10))
}
