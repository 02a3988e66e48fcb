package postgres

import (
	"context"
	"errors"
	"fmt"
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

	// lockPatience is how long a common transaction waits for a row, in milliseconds.
	// Shorter than PostgreSQL's wait for a deadlock: writings are put together in any
	// order, so two common transactions may want the same rows the other way round.
	lockPatience = 100

	// commitTimeout bounds a transaction from outside. The database ends its own
	// statements earlier; this is for a connection that has died without a word, behind
	// which everybody would wait.
	commitTimeout = 15 * time.Second
)

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
type Group[W any] struct {
	db      *pgxpool.Pool
	fill    func(b *pgx.Batch, together []W)
	waiting chan handed[W]
	writers sync.WaitGroup
	alone   sync.WaitGroup
}

type handed[W any] struct {
	writing W
	result  chan error
}

// NewGroup starts a group. fill queues the statements of some writings; it may be
// called more than once for the same one.
func NewGroup[W any](db *pgxpool.Pool, fill func(b *pgx.Batch, together []W)) *Group[W] {
	g := &Group[W]{db: db, fill: fill, waiting: make(chan handed[W], mostWaiting)}
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

// Close ends the group once everything that was handed in is written. Nobody may
// write any more.
func (g *Group[W]) Close() {
	close(g.waiting)
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
	select {
	case g.waiting <- h:
	case <-ctx.Done():
		return ctx.Err() // not handed in: nothing happened
	}
	select {
	case err := <-h.result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrCommitUnknown, ctx.Err())
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
	err := g.transact(func(b *pgx.Batch) {
		b.Queue(fmt.Sprintf(`SET LOCAL lock_timeout = %d`, lockPatience))
		g.fill(b, writings)
	})
	switch {
	case err == nil, errors.Is(err, ErrCommitUnknown):
		// When it is open what happened, all of them must hear that.
		for _, h := range together {
			h.result <- err
		}
	default:
		for _, h := range together {
			g.alone.Go(func() {
				h.result <- g.transact(func(b *pgx.Batch) { g.fill(b, []W{h.writing}) })
			})
		}
	}
}

// transact is not cancelled with any one's request: it is everybody's.
func (g *Group[W]) transact(fill func(b *pgx.Batch)) error {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	return Write(ctx, g.db, fill)
}
