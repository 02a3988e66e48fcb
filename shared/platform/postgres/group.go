package postgres

import (
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

	// maxExpelled bounds how often a common transaction is repeated without the member
	// that a constraint refused. After that, each of the others is written alone.
	maxExpelled = 8

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
	db        *pgxpool.Pool
	lockWait  time.Duration
	placeWait time.Duration
	timeout   time.Duration // commitTimeout, but in tests
	metrics   groupMetrics

	queue chan *request
	done  sync.WaitGroup

	handingIn sync.RWMutex // held while a batch is handed in or written alone: Close waits for it
	closing   bool

	alone   chan struct{} // a place for each batch that is written alone
	waiters chan struct{} // a place for each batch that waits for a locked row
	locked  lockedRows
}

// request is a batch on its way through the group.
type request struct {
	queries []*pgx.QueuedQuery
	taken   atomic.Bool // by the committer, or by the caller that gave up: whoever sets it first decides
	outcome chan outcome
}

type outcome struct {
	results []result
	err     error
	alone   bool    // write it alone
	row     *rowKey // wait for this row
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
	conns := db.Config().MaxConns
	g := &GroupCommitter{
		db: db, lockWait: 5 * time.Second, placeWait: 5 * time.Second, timeout: commitTimeout, metrics: newGroupMetrics(opts.Metrics),
		queue: make(chan *request, queueLength),
		alone: make(chan struct{}, max(1, conns/2)), waiters: make(chan struct{}, max(1, conns/4)),
	}
	if opts.LockWait > 0 {
		g.lockWait = opts.LockWait
	}
	if opts.PlaceWait > 0 {
		g.placeWait = opts.PlaceWait
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
		case o.row != nil:
			return g.waitForRow(ctx, *o.row, fill)
		case o.alone:
			return g.writeAlone(ctx, fill)
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
		for more := true; more && len(members) < maxGroup; {
			select {
			case r, ok := <-g.queue:
				if more = ok; ok {
					members = append(members, r)
				}
			default:
				more = false
			}
		}
		// The caller of some may have gone: those are not carried out.
		g.commit(slices.DeleteFunc(members, func(r *request) bool { return !r.taken.CompareAndSwap(false, true) }))
	}
}

// commit gives every member its outcome.
func (g *GroupCommitter) commit(members []*request) {
	for expelled := 0; ; {
		members = slices.DeleteFunc(members, g.expelledByRow)
		if len(members) == 0 {
			return
		}
		results, failed, query, err := g.executeTogether(members)
		if !refused(err) {
			// Committed; or it is unknown what happened, and all must hear that; or
			// there is no connection, and none would be found by trying alone.
			g.metrics.committed(len(members), err)
			for i, r := range members {
				o := outcome{err: err}
				if err == nil {
					o.results = results[i]
				}
				r.outcome <- o
			}
			return
		}
		locked := LockTimedOut(err)
		g.metrics.refused(locked)
		if len(members) == 1 && !locked && !lostRace(err) {
			members[0].outcome <- outcome{err: err} // it was alone already
			return
		}
		if failed == noStatement || expelled == maxExpelled {
			for _, r := range members {
				r.outcome <- outcome{alone: true}
			}
			return
		}
		o := outcome{alone: true}
		if locked {
			row := keyOf(query)
			g.locked.add(row, rowMemory) // the next round expels all that want it
			o.row = &row
		} else {
			expelled++
		}
		members[failed].outcome <- o
		members = slices.Delete(members, failed, failed+1)
	}
}

// expelledByRow sends a member that wants a row which is known to be locked to those
// who wait for it.
func (g *GroupCommitter) expelledByRow(r *request) bool {
	row := g.locked.wantedBy(r.queries)
	if row != nil {
		r.outcome <- outcome{row: row}
	}
	return row != nil
}

// executeTogether writes members in one transaction. failed is the member whose
// statement was refused. The context is not a caller's: the transaction is everybody's.
func (g *GroupCommitter) executeTogether(members []*request) (results [][]result, failed int, query *pgx.QueuedQuery, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), g.timeout)
	defer cancel()
	b := &pgx.Batch{}
	setLockTimeout(b, lockTimeout)
	for _, r := range members {
		b.QueuedQueries = append(b.QueuedQueries, r.queries...)
	}
	all, statement, err := execute(ctx, g.db, b.QueuedQueries)
	failed = noStatement
	at := 1 // after the lock time-out
	for i, r := range members {
		if from := at; err == nil {
			results = append(results, all[from:from+len(r.queries)])
		}
		if at += len(r.queries); failed == noStatement && statement > 0 && statement < at {
			failed, query = i, b.QueuedQueries[statement]
		}
	}
	return results, failed, query, err
}

// refused tells whether the transaction failed because of something that was in it.
// Then it may be one member's affair; ErrCommitUnknown and errNotBegun are everybody's.
func refused(err error) bool {
	return err != nil && !errors.Is(err, ErrCommitUnknown) && !errors.Is(err, errNotBegun)
}

// writeAlone writes a batch in a transaction of its own.
func (g *GroupCommitter) writeAlone(ctx context.Context, fill func(b *pgx.Batch)) error {
	leave, err := g.enter(ctx, g.alone, aloneWait)
	if err != nil {
		return err
	}
	err = g.writeWithin(ctx, lockTimeout, fill)
	leave()
	if LockTimedOut(err) {
		return g.waitForRow(ctx, rowKey{}, fill)
	}
	return err
}

// waitForRow writes a batch that has met a locked row.
func (g *GroupCommitter) waitForRow(ctx context.Context, row rowKey, fill func(b *pgx.Batch)) error {
	leave, err := g.enter(ctx, g.waiters, g.placeWait)
	if err != nil {
		return err
	}
	defer leave()
	g.locked.add(row, g.lockWait+rowMemory)
	err = g.writeWithin(ctx, g.lockWait, fill)
	if err == nil {
		g.locked.remove(row) // it is free again
	}
	return err
}

// enter takes one of places, and waits for one no longer than wait.
func (g *GroupCommitter) enter(ctx context.Context, places chan struct{}, wait time.Duration) (leave func(), err error) {
	g.metrics.waiting.Inc()
	defer g.metrics.waiting.Dec()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-timer.C:
		return nil, ErrTooManyWaiters
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errNotBegun, ctx.Err())
	}
}

func (g *GroupCommitter) writeWithin(ctx context.Context, lockTimeout time.Duration, fill func(b *pgx.Batch)) error {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	g.metrics.alone.Inc()
	return Write(ctx, g.db, func(b *pgx.Batch) {
		setLockTimeout(b, lockTimeout)
		fill(b)
	})
}

// setLockTimeout holds until the end of the transaction. Not SET LOCAL: a pipeline has
// no BEGIN, and the server would log a warning about that at each commit.
func setLockTimeout(b *pgx.Batch, d time.Duration) {
	b.Queue(`SELECT set_config('lock_timeout', $1, true)`, strconv.FormatInt(d.Milliseconds(), 10))
}
