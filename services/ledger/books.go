package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/postgres"
)

// books writes into the books, several entries in one transaction.
//
// A few accounts are in nearly every entry, and whoever moves one holds its row until
// the commit is on disk. One after the other, a thousand entries are a thousand
// commits, however many want to write. So what arrives while a commit is on its
// way waits, and goes into the next one together: the more there is to do, the
// cheaper each. Nobody waits for company: what arrives alone is written alone.
//
// All or nothing holds for each writing, as if it were alone: when the common
// transaction is refused, each is tried in one of its own and gets its own error. So
// it is when a row is locked by somebody else, a payout in doubt for instance: those
// who want that row wait for it, and nobody else does.
type books struct {
	db      *pgxpool.Pool
	waiting chan writing
	alone   sync.WaitGroup
	ended   chan struct{}
}

// writing is what one handler wants written.
type writing struct {
	beside func(b *pgx.Batch) // what goes with the entry: change record, reply
	entry  *entry             // nil: there is none
	result chan error
}

const (
	// mostTogether bounds a transaction: the first in it waits for the last.
	mostTogether = 64

	// mostWaiting is how many can wait without holding up their handlers.
	mostWaiting = 256

	// lockPatience is how long a common transaction waits for a row.
	lockPatience = 100 * time.Millisecond
)

func openBooks(db *pgxpool.Pool) *books {
	b := &books{db: db, waiting: make(chan writing, mostWaiting), ended: make(chan struct{})}
	go b.run()
	return b
}

// close ends the writer once everything that was handed in is written. Nobody may
// write any more.
func (b *books) close() {
	close(b.waiting)
	<-b.ended
	b.alone.Wait()
}

// write returns when it is committed, or refused. A time-out leaves open which.
//
// Pattern: acid-transaction
func (b *books) write(ctx context.Context, e *entry, beside func(b *pgx.Batch)) error {
	w := writing{beside: beside, entry: e, result: make(chan error, 1)}
	select {
	case b.waiting <- w:
	case <-ctx.Done():
		return ctx.Err() // not handed in: nothing happened
	}
	select {
	case err := <-w.result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", postgres.ErrCommitUnknown, ctx.Err())
	}
}

func (b *books) run() {
	defer close(b.ended)
	for first := range b.waiting {
		together := []writing{first}
		for more := true; more && len(together) < mostTogether; {
			select {
			case w, ok := <-b.waiting:
				if more = ok; ok {
					together = append(together, w)
				}
			default:
				more = false
			}
		}
		b.commit(together)
	}
}

// commit writes what came together, one or many. It is not cancelled with any one's
// request.
func (b *books) commit(together []writing) {
	err := b.transact(together, lockPatience)
	switch {
	// When it is open what happened, all of them must hear that.
	case err == nil, errors.Is(err, postgres.ErrCommitUnknown):
		for _, w := range together {
			w.result <- err
		}
	// Refused, and nothing of it happened: somebody's duplicate, somebody's missing
	// funds, somebody's locked row. Whose, shows when each is alone.
	default:
		for _, w := range together {
			b.alone.Go(func() { w.result <- b.transact([]writing{w}, 0) })
		}
	}
}

// transact writes in one transaction. patience 0 waits for rows as long as the
// database allows.
func (b *books) transact(together []writing, patience time.Duration) error {
	return postgres.Write(context.Background(), b.db, func(batch *pgx.Batch) {
		if patience > 0 {
			batch.Queue(fmt.Sprintf(`SET LOCAL lock_timeout = %d`, patience.Milliseconds()))
		}
		var entries []*entry
		for _, w := range together {
			if w.beside != nil {
				w.beside(batch)
			}
			if w.entry != nil {
				entries = append(entries, w.entry)
			}
		}
		insertEntries(batch, entries...)
	})
}
