package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/postgres/txmark"
)

const (
	// mostTogether bounds a common transaction: the first in it waits for the last.
	mostTogether = 64

	// mostWaiting is how many can wait without holding up those who hand in.
	mostWaiting = 256

	// lockPatience is how long a common transaction waits for a row, and then each of
	// its writings alone. Shorter than PostgreSQL's wait for a deadlock: writings are put
	// together in any order, so two common transactions may want the same rows the other
	// way round.
	lockPatience = 100 * time.Millisecond

	// rowPatience is how long a writing whose row stays locked waits for its turn to wait,
	// and then for the row. Together they stay below the time that a client waits for us.
	rowPatience = 5 * time.Second

	// commitTimeout bounds a transaction from outside. The database ends its own
	// statements earlier; this is for a connection that has died without a word, behind
	// which everybody would wait.
	commitTimeout = 15 * time.Second
)

// ErrClosed means: the group was closed before the writing was handed in. Nothing happened.
var ErrClosed = errors.New("postgres: this process is stopping and writes nothing more")

// Group commits what arrives together in one transaction: group commit, as
// databases do it inside, one floor higher. A commit costs a flush to disk and a
// dozen context switches, whatever it holds; and a row that everybody
// writes is locked for one commit after the other. So what is handed in while a
// commit is on its way waits, and goes into the next one together: the more there
// is to do, the cheaper each. Nobody waits for company: who comes alone goes alone.
//
// Each writing is all or nothing as with [Write]. When the common transaction is
// refused, because of somebody's constraint or somebody's locked row, nothing of it
// has happened, and each is tried in a transaction of its own and gets its own
// error.
//
// Whoever waits for a locked row holds a connection meanwhile. Were there no bound
// on them, one row could take the whole pool: the next common transaction, every
// read, and whatever would free the row, all would queue behind it. So those who
// are tried alone share half of the pool, and those who wait for long a quarter.
type Group[W any] struct {
	db      *pgxpool.Pool
	fill    func(b *pgx.Batch, together []W)
	merger  *merger
	waiting chan handed[W]
	timeout time.Duration // commitTimeout, but in tests

	trying  chan struct{} // a place for each that is tried alone
	patient chan struct{} // a place for each that waits long for a row
	writers sync.WaitGroup
	alone   sync.WaitGroup

	handingIn sync.RWMutex // held while handing in: Close waits for it
	closed    bool
}

type handed[W any] struct {
	writing W
	result  chan error
}

// NewGroup starts a group. fill queues the statements of some writings; it may be
// called more than once for the same one.
func NewGroup[W any](db *pgxpool.Pool, fill func(b *pgx.Batch, together []W)) *Group[W] {
	conns := db.Config().MaxConns
	g := &Group[W]{
		db: db, fill: fill, merger: newMerger(db), waiting: make(chan handed[W], mostWaiting), timeout: commitTimeout,
		trying: make(chan struct{}, max(1, conns/2)), patient: make(chan struct{}, max(1, conns/4)),
	}
	g.writers.Go(g.run)
	return g
}

// NewWriter is a group of writings that need nothing but their own statements.
func NewWriter(db *pgxpool.Pool) *Group[func(b *pgx.Batch)] {
	return NewGroup(db, func(b *pgx.Batch, together []func(b *pgx.Batch)) {
		for _, fill := range together {
			fill(b)
		}
	})
}

// Close ends the group once everything that was handed in is written. Who comes
// later, a handler that was not waited for any longer, gets ErrClosed.
func (g *Group[W]) Close() {
	g.handingIn.Lock()
	if !g.closed {
		g.closed = true
		close(g.waiting)
	}
	g.handingIn.Unlock()
	g.writers.Wait()
	g.alone.Wait()
}

// Write returns when w is committed or refused. When ctx ends first, it is open
// which: ErrCommitUnknown.
//
// Pattern: acid-transaction
func (g *Group[W]) Write(ctx context.Context, w W) error {
	if txmark.InTransaction(ctx) {
		return ErrNested
	}
	h := handed[W]{writing: w, result: make(chan error, 1)}
	if err := g.handIn(ctx, h); err != nil {
		return err
	}
	select {
	case err := <-h.result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrCommitUnknown, ctx.Err())
	}
}

// handIn holds the lock while it waits for a place: a send on a channel that is
// closed meanwhile would be a panic.
func (g *Group[W]) handIn(ctx context.Context, h handed[W]) error {
	g.handingIn.RLock()
	defer g.handingIn.RUnlock()
	if g.closed {
		return ErrClosed
	}
	select {
	case g.waiting <- h:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errNotBegun, ctx.Err())
	}
}

func (g *Group[W]) run() {
	for first := range g.waiting {
		together := []handed[W]{first}
		for more := true; more && len(together) < mostTogether; {
			select {
			case h, ok := <-g.waiting:
				if more = ok; ok {
					together = append(together, h)
				}
			default:
				more = false
			}
		}
		g.commit(together)
	}
}

func (g *Group[W]) commit(together []handed[W]) {
	writings := make([]W, len(together))
	for i, h := range together {
		writings[i] = h.writing
	}
	err := g.transact(lockPatience, g.merger.merge, writings...)
	if !refused(err) {
		// Committed; or it is open what happened, and all of them must hear that; or
		// there is no connection, and nobody would find one by trying alone.
		for _, h := range together {
			h.result <- err
		}
		return
	}
	for _, h := range together {
		g.alone.Go(func() { h.result <- g.commitAlone(h.writing) })
	}
}

// refused tells whether a transaction failed by something that was in it, which may
// be one writing's affair. ErrCommitUnknown and errNotBegun are everybody's.
func refused(err error) bool {
	return err != nil && !errors.Is(err, ErrCommitUnknown) && !errors.Is(err, errNotBegun)
}

// commitAlone tries with little patience first, so that who was only in bad company
// is soon gone. Only who meets a locked row again waits for long, and takes its place
// among those before it takes a connection.
func (g *Group[W]) commitAlone(w W) error {
	g.trying <- struct{}{}
	err := g.transact(lockPatience, asItIs, w)
	<-g.trying
	if !LockTimedOut(err) {
		return err
	}
	select {
	case g.patient <- struct{}{}:
		defer func() { <-g.patient }()
		return g.transact(rowPatience, asItIs, w)
	case <-time.After(rowPatience):
		return err // the places are taken by others who wait; nothing was written
	}
}

// asItIs merges nothing: who is tried alone must not suffer from the merging either.
func asItIs(_ context.Context, queued []*pgx.QueuedQuery) []*pgx.QueuedQuery { return queued }

// transact is not cancelled with any one's request: it is everybody's.
func (g *Group[W]) transact(patience time.Duration, merge func(context.Context, []*pgx.QueuedQuery) []*pgx.QueuedQuery, writings ...W) error {
	ctx, cancel := context.WithTimeout(context.Background(), g.timeout)
	defer cancel()
	return Write(ctx, g.db, func(b *pgx.Batch) {
		// Ends with the transaction. Not SET LOCAL: a pipeline has no BEGIN, and the
		// server would log a warning about that at each commit.
		b.Queue(`SELECT set_config('lock_timeout', $1, true)`, strconv.FormatInt(patience.Milliseconds(), 10))
		g.fill(b, writings)
		b.QueuedQueries = merge(ctx, b.QueuedQueries)
	})
}
