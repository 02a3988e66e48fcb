package main

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Two entries that lock the same two accounts the other way round: the first
// stands between its two locks while the second takes what it can get. Locked in
// any other order than one for all, they wait for each other, and PostgreSQL
// kills one.
func TestEntry_MovingAccountsInOppositeOrderBothCommit(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	l.book(transfer("opening", cash, transit, 1)).want(t, http.StatusCreated, "")
	first := l.beforeItsLocks(stored(transfer("there", cash, transit, 100)))
	second := l.beforeItsLocks(stored(transfer("back", transit, cash, 30)))

	first.run(t.Context(), 1)
	ended := make(chan struct{})
	go func() {
		second.run(t.Context(), 2)
		second.commit(t.Context())
		close(ended)
	}()
	eventually(t, "the second waits for a lock", func() bool { return l.waiting() == 1 })
	first.run(t.Context(), 1)
	first.commit(t.Context())
	<-ended
	if err := errors.Join(first.err, second.err); err != nil {
		t.Error(err)
	}
	same(t, "balances", l.balances(), map[string]int64{cash: -71, transit: 71})
	l.booksBalance()
}

// halfway is a transaction that books an entry, statement by statement.
type halfway struct {
	pgx.Tx
	left []*pgx.QueuedQuery
	err  error
}

// beforeItsLocks has done everything but move the two balances.
func (l *ledger) beforeItsLocks(e entry) *halfway {
	l.t.Helper()
	tx, err := l.db.Begin(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // only when the test has failed already
	var b pgx.Batch
	e.book(&b)
	h := &halfway{Tx: tx, left: b.QueuedQueries}
	h.run(l.t.Context(), len(h.left)-2)
	if h.err != nil {
		l.t.Fatal(h.err)
	}
	return h
}

func (h *halfway) run(ctx context.Context, statements int) {
	for range statements {
		if h.err == nil {
			_, h.err = h.Exec(ctx, h.left[0].SQL, h.left[0].Arguments...)
			h.left = h.left[1:]
		}
	}
}

// commit ends the transaction, so that the other one can go on even when this failed.
func (h *halfway) commit(ctx context.Context) {
	if h.err == nil {
		h.err = h.Commit(ctx)
		return
	}
	_ = h.Rollback(ctx)
}

// The same before the accounts exist: their rows are locked by being inserted.
// A third transaction holds one that both want, so that both entries
// have begun before either can end.
func TestEntry_OpeningAccountsInOppositeOrderBothCommit(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	between, err := l.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer between.Rollback(t.Context()) //nolint:errcheck // it is rolled back below, and here when the test has failed
	_, err = between.Exec(t.Context(), `INSERT INTO accounts (id, kind, merchant_id, currency) VALUES ('payouts_in_transit:mer_acme:GBP', 'payouts_in_transit', 'mer_acme', 'GBP')`)
	if err != nil {
		t.Fatal(err)
	}
	const fee = "platform_fee:GBP"
	there, back := stored(transfer("there", cash, transit, 100)), stored(transfer("back", cash, transit, 100))
	there.Postings = []posting{{cash, -100}, {transit, 99}, {fee, 1}}
	back.Postings = []posting{{fee, -1}, {transit, -29}, {cash, 30}}

	first := l.inBackground(there)
	eventually(t, "the first waits", func() bool { return l.waiting() == 1 })
	second := l.inBackground(back)
	eventually(t, "both wait", func() bool { return l.waiting() == 2 })
	if err := between.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-first, <-second); err != nil {
		t.Error(err)
	}
	same(t, "balances", l.balances(), map[string]int64{cash: -70, transit: 70})
	l.booksBalance()
}

// inBackground books an entry in one transaction, and does not try again.
func (l *ledger) inBackground(e entry) <-chan error {
	done := make(chan error, 1)
	go func() {
		var b pgx.Batch
		e.book(&b)
		done <- l.db.SendBatch(l.t.Context(), &b).Close()
	}()
	return done
}

func (l *ledger) waiting() (n int) {
	l.t.Helper()
	err := l.db.QueryRow(l.t.Context(), `
		SELECT count(*)
		  FROM pg_stat_activity
		 WHERE datname = current_database()
		   AND wait_event_type = 'Lock'`).Scan(&n)
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}
