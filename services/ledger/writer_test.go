package main

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/shared/platform/postgres"
)

// move is an entry between two accounts.
func move(source, from, to string, amount int64) *entry {
	return &entry{ID: uuid.Must(uuid.NewV7()), Kind: "test", Source: source, Reference: "pay_1", MerchantID: acme,
		Postings: []posting{{from, -amount}, {to, amount}}}
}

// writeAll hands in all entries at once and returns what became of each.
func (l *ledger) writeAll(entries []*entry) []error {
	results := make([]error, len(entries))
	var all sync.WaitGroup
	for i, e := range entries {
		all.Go(func() { results[i] = l.writer.Write(l.t.Context(), e.book) })
	}
	all.Wait()
	return results
}

func (l *ledger) transactions() (id int64) {
	l.t.Helper()
	if err := l.db.QueryRow(l.t.Context(), `SELECT pg_current_xact_id()::text::bigint`).Scan(&id); err != nil {
		l.t.Fatal(err)
	}
	return id
}

func TestWriter_ManyEntriesShareACommit(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	if err := l.writer.Write(t.Context(), move("first", cash, transit, 1).book); err != nil {
		t.Fatal(err)
	}
	entries := make([]*entry, 1000)
	for i := range entries {
		entries[i] = move(fmt.Sprint(i), cash, transit, 1)
	}
	before := l.transactions()
	for i, err := range l.writeAll(entries) {
		if err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	// The server is shared with other tests; what they commit meanwhile counts as well.
	if spent := l.transactions() - before; spent > 700 {
		t.Errorf("1,000 entries in %d transactions", spent)
	}
	same(t, "balances", l.balances(), map[string]int64{cash: -1001, transit: 1001})
	l.booksBalance()
}

func TestWriter_RefusedEntryFailsAlone(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	entries := []*entry{move("funds", cash, available, 1)}
	for i := range 30 {
		entries = append(entries, move(fmt.Sprint(i), cash, transit, 1))
	}
	entries = append(entries, move("funds", cash, available, 1), move("too much", available, cash, 1000))
	results := l.writeAll(entries)
	refused := map[string]int{}
	for i, err := range results {
		switch {
		case postgres.Violates(err, "entries_once"):
			refused[entries[i].Source]++
		case postgres.Violates(err, "accounts_floor"):
			refused[entries[i].Source]++
		case err != nil:
			t.Errorf("%s: %v", entries[i].Source, err)
		}
	}
	same(t, "refused", refused, map[string]int{"funds": 1, "too much": 1})
	same(t, "balances", l.balances(), map[string]int64{cash: -31, transit: 30, available: 1})
	l.booksBalance()
}

// A merchant whose account is locked, by a payout in doubt for instance, waits
// alone.
func TestWriter_LockedAccountDelaysOnlyItsOwnEntries(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	const othersPending = "merchant_pending:" + other + ":GBP"
	for _, err := range l.writeAll([]*entry{move("a", cash, available, 1), move("b", cash, othersPending, 1)}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	lock, err := l.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Rollback(t.Context()) //nolint:errcheck // committed below; here when the test has failed
	if _, err := lock.Exec(t.Context(), `SELECT FROM accounts WHERE id = $1 FOR UPDATE`, othersPending); err != nil {
		t.Fatal(err)
	}
	blocked := make(chan error, 1)
	go func() { blocked <- l.writer.Write(t.Context(), move("blocked", transit, othersPending, 1).book) }()
	for i := range 20 {
		begun := time.Now()
		if err := l.writer.Write(t.Context(), move(fmt.Sprint(i), cash, available, 1).book); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("another merchant's entry took %v", took)
		}
	}
	if err := <-blocked; !postgres.IsBusy(err) || postgres.IsIndefinite(err) {
		t.Errorf("the blocked one: %v, want a definite \"busy\": the message waits at the broker", err)
	}
	if err := lock.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.booksBalance()
}
