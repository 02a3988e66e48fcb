package postgres_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/postgres"
)

// writeAll hands in n writings at once and returns what became of each.
func writeAll(t *testing.T, g *postgres.GroupCommitter, n int, fill func(i int, b *pgx.Batch)) []error {
	t.Helper()
	results := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { results[i] = g.Write(t.Context(), func(b *pgx.Batch) { fill(i, b) }) })
	}
	all.Wait()
	return results
}

func TestGrouped_EachBatchIsAllOrNothing(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	g := postgres.Grouped(db, postgres.GroupOptions{})
	defer g.Close()
	results := writeAll(t, g, 60, func(i int, b *pgx.Batch) {
		b.Queue(count, "a")
		if i%10 == 0 {
			b.Queue(overflow, "b") // refused by its constraint, and its count with it
		}
	})
	for i, err := range results {
		if refused := postgres.Violates(err, "small"); refused != (i%10 == 0) || err != nil && !refused {
			t.Errorf("%d: %v", i, err)
		}
	}
	if got := n(t, db, "a"); got != 54 {
		t.Errorf("a = %d, want 54", got)
	}
}

func TestGrouped_LockedRowDelaysOnlyItsOwnBatches(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	g := postgres.Grouped(db, postgres.GroupOptions{})
	defer g.Close()
	lock, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Rollback(context.Background()) //nolint:errcheck // or a test that has failed waits in the pool\'s Close
	if _, err := lock.Exec(t.Context(), count, "b"); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() { waits <- g.Write(t.Context(), func(b *pgx.Batch) { b.Queue(count, "b") }) }()
	for i, err := range writeAll(t, g, 20, func(_ int, b *pgx.Batch) { b.Queue(count, "a") }) {
		if err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	select {
	case err := <-waits:
		t.Errorf("the one that wants the row did not wait: %v", err)
	default:
	}
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; err != nil || n(t, db, "b") != 1 {
		t.Errorf("afterwards: %v, b = %d", err, n(t, db, "b"))
	}
}

// One row that many want, and the rest of the service: it goes on, and so do those
// who would free the row.
func TestGrouped_LockedRowDoesNotTakeThePool(t *testing.T) {
	t.Parallel()
	db, dbURL := database(t)
	holder := open(t, dbURL)
	g := postgres.Grouped(db, postgres.GroupOptions{})
	defer g.Close()
	lock, err := holder.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Rollback(context.Background()) //nolint:errcheck // or a test that has failed waits in the pool\'s Close
	if _, err := lock.Exec(t.Context(), count, "b"); err != nil {
		t.Fatal(err)
	}
	waits := make(chan []error, 1)
	go func() {
		waits <- writeAll(t, g, 40, func(_ int, b *pgx.Batch) { b.Queue(count, "b") })
	}()
	awaitLockWaiters(t, holder, 1)

	for begun := time.Now(); time.Since(begun) < 2*time.Second; {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // as a readiness check has
		err := db.Ping(ctx)
		cancel()
		if err != nil {
			t.Fatal("no connection was left: ", err)
		}
		at := time.Now()
		for i, err := range writeAll(t, g, 20, func(_ int, b *pgx.Batch) { b.Queue(count, "a") }) {
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
		if took := time.Since(at); took > 2*time.Second {
			t.Fatalf("those who want another row took %v", took)
		}
	}
	if long := lockWaiters(t, holder); long > 4 { // those who tried with little patience are through
		t.Errorf("%d of 16 connections wait for the row", long)
	}
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, err := range <-waits {
		if err != nil {
			t.Errorf("waiter %d: %v", i, err)
		}
	}
	if got := n(t, db, "b"); got != 40 {
		t.Errorf("b = %d, want 40", got)
	}
}

func lockWaiters(t *testing.T, db *pgxpool.Pool) (n int) {
	t.Helper()
	err := db.QueryRow(t.Context(), `
		SELECT count(*)
		  FROM pg_stat_activity
		 WHERE datname = current_database()
		   AND wait_event_type = 'Lock'`).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func awaitLockWaiters(t *testing.T, db *pgxpool.Pool, atLeast int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); lockWaiters(t, db) < atLeast; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no transaction waits for the row")
		}
	}
}

// gate is an argument of a statement that holds up the transaction it is in.
type gate struct{ begun, goOn chan struct{} }

func (g gate) RewriteQuery(context.Context, *pgx.Conn, string, []any) (string, []any, error) {
	close(g.begun)
	<-g.goOn
	return `SELECT 1`, nil, nil
}

// hold keeps a group in a transaction until goOn is closed. What is handed in meanwhile
// is in the next one together.
func hold(t *testing.T, g *postgres.GroupCommitter) (goOn chan struct{}) {
	t.Helper()
	at := gate{make(chan struct{}), make(chan struct{})}
	go func() { _ = g.Write(context.Background(), func(b *pgx.Batch) { b.Queue(``, at) }) }()
	<-at.begun
	return at.goOn
}

func held(t *testing.T, db *pgxpool.Pool, timeout time.Duration) (*postgres.GroupCommitter, chan struct{}) {
	t.Helper()
	g := postgres.Grouped(db, postgres.GroupOptions{})
	g.SetTimeout(timeout)
	return g, hold(t, g)
}

func awaitHandedIn(t *testing.T, g *postgres.GroupCommitter, n int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); g.Waiting() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d handed in, want %d", g.Waiting(), n)
		}
	}
}

// The answer to a common commit is lost: everybody in it hears that it is open
// what happened, and no caller is told that it failed, or tried again.
func TestGrouped_LostAnswerIsUnknownForAll(t *testing.T) {
	t.Parallel()
	db, dbURL := database(t)
	g, goOn := held(t, through(t, dbURL, "the last"), 15*time.Second)
	defer g.Close()
	results := make(chan []error, 1)
	go func() {
		results <- writeAll(t, g, 6, func(i int, b *pgx.Batch) {
			b.Queue(count, "a")
			if i == 3 {
				b.Queue(`SELECT $1::text`, "the last")
			}
		})
	}()
	awaitHandedIn(t, g, 6)
	close(goOn)
	for i, err := range <-results {
		if !errors.Is(err, postgres.ErrCommitUnknown) {
			t.Errorf("%d: %v", i, err)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); n(t, db, "a") != 6; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("a = %d, want 6, committed once: the cable was cut too early, or somebody tried again", n(t, db, "a"))
		}
	}
}

// A network that swallows everything ends no connection. Who is behind it hears after
// a while that it is open what happened, and those behind them go on.
func TestGrouped_SilentConnectionIsGivenUpAfterATimeout(t *testing.T) {
	t.Parallel()
	_, dbURL := database(t)
	g := postgres.Grouped(throughCable(t, dbURL, "the last", true), postgres.GroupOptions{})
	g.SetTimeout(2 * time.Second) // enough for a busy machine to open another connection
	write := func(text string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begun := time.Now()
		err := g.Write(ctx, func(b *pgx.Batch) { b.Queue(`SELECT $1::text`, text) })
		if took := time.Since(begun); took > 5*time.Second {
			t.Fatalf("%s: %v after %v", text, err, took)
		}
		return err
	}
	if err := write("the last"); !errors.Is(err, postgres.ErrCommitUnknown) {
		t.Errorf("error %v", err)
	}
	if err := write("the next"); err != nil {
		t.Errorf("over another connection: %v", err)
	}
	g.Close()
}

// Without a connection no member would fare better alone.
func TestGrouped_WithoutAConnectionNoneIsTriedAlone(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	g, goOn := held(t, db, 300*time.Millisecond)
	defer g.Close()
	var fills atomic.Int32
	results := make(chan []error, 1)
	go func() { results <- writeAll(t, g, 6, func(int, *pgx.Batch) { fills.Add(1) }) }()
	awaitHandedIn(t, g, 6)
	go db.Close() // waits for the first one's connection, and gives out no other
	for err := error(nil); err == nil; {
		var conn *pgxpool.Conn
		if conn, err = db.Acquire(t.Context()); err == nil {
			conn.Release()
		}
	}
	close(goOn)
	for i, err := range <-results {
		if !postgres.IsUnavailable(err) || postgres.IsIndefinite(err) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if fills.Load() != 6 {
		t.Errorf("6 writings were put into a transaction %d times", fills.Load())
	}
}

// What one hands in that cannot be encoded is its own affair.
func TestGrouped_BatchThatCannotBeEncodedFailsAlone(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	g := postgres.Grouped(db, postgres.GroupOptions{})
	defer g.Close()
	results := writeAll(t, g, 20, func(i int, b *pgx.Batch) {
		b.Queue(count, "a")
		if i == 7 {
			b.Queue(count, make(chan int))
		}
	})
	for i, err := range results {
		if (err != nil) != (i == 7) || postgres.IsIndefinite(err) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if got := n(t, db, "a"); got != 19 {
		t.Errorf("a = %d, want 19", got)
	}
}

func TestGrouped_CloseWritesWhatWasHandedIn(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	g, goOn := held(t, db, 15*time.Second)
	results := make(chan []error, 1)
	go func() { results <- writeAll(t, g, 200, func(_ int, b *pgx.Batch) { b.Queue(count, "a") }) }()
	awaitHandedIn(t, g, 200)
	closed := make(chan struct{})
	go func() { g.Close(); close(closed) }()
	select {
	case <-closed:
		t.Error("closed while batches wait")
	case <-time.After(100 * time.Millisecond):
	}
	close(goOn)
	<-closed
	if got := n(t, db, "a"); got != 200 {
		t.Errorf("a = %d when Close had returned, want 200", got)
	}
	for i, err := range <-results {
		if err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// A handler that the server no longer waited for may come after the end.
func TestGrouped_RefusesWritesAfterClose(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	g := postgres.Grouped(db, postgres.GroupOptions{})
	var all sync.WaitGroup
	var written atomic.Int32
	for range 8 {
		all.Go(func() {
			for {
				err := g.Write(t.Context(), func(b *pgx.Batch) { b.Queue(count, "a") })
				if err != nil {
					if !errors.Is(err, postgres.ErrClosed) {
						t.Error(err)
					}
					return
				}
				written.Add(1)
			}
		})
	}
	time.Sleep(50 * time.Millisecond) // in the middle of it
	g.Close()
	all.Wait()
	g.Close() // once more is no harm
	if got := n(t, db, "a"); got != int(written.Load()) {
		t.Errorf("a = %d, %d were told that they are written", got, written.Load())
	}
}

// What the server says beside an answer goes into its log, a thousand times a second.
func TestGrouped_CommitCausesNoWarning(t *testing.T) {
	t.Parallel()
	_, dbURL := database(t)
	cfg, err := pgxpool.ParseConfig(dbURL)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ConnConfig.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) { t.Error(notice.Severity, notice.Message) }
	db, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	g := postgres.Grouped(db, postgres.GroupOptions{})
	defer g.Close()
	var patience string
	err = g.Write(t.Context(), func(b *pgx.Batch) {
		b.Queue(`SELECT current_setting('lock_timeout')`).QueryRow(func(row pgx.Row) error { return row.Scan(&patience) })
	})
	if err != nil || patience != "100ms" {
		t.Errorf("lock_timeout %q, %v", patience, err)
	}
	var afterwards string
	if err := db.QueryRow(t.Context(), `SHOW lock_timeout`).Scan(&afterwards); err != nil || afterwards == "100ms" {
		t.Errorf("the patience of one transaction has stayed with the connection: %q, %v", afterwards, err)
	}
}
