package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/postgres/txmark"
)

func n(t *testing.T, db *pgxpool.Pool, name string) (n int) {
	t.Helper()
	if err := db.QueryRow(t.Context(), `SELECT n FROM counters WHERE name = $1`, name).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

const (
	count    = `UPDATE counters SET n = n + 1 WHERE name = $1`
	overflow = `UPDATE counters SET n = 1000000 WHERE name = $1`
)

func TestTransaction_IsAllOrNothing(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	no := errors.New("no")
	for what, c := range map[string]struct {
		run  func() error
		want func(error) bool
	}{
		"InTx, an error of the caller": {func() error {
			return postgres.InTx(t.Context(), db, func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, count, "a")
				return errors.Join(err, no)
			})
		}, func(err error) bool { return errors.Is(err, no) }},
		"InTx, a violated constraint": {func() error {
			return postgres.InTx(t.Context(), db, func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, count, "a")
				_, err2 := tx.Exec(ctx, overflow, "b")
				return errors.Join(err, err2)
			})
		}, func(err error) bool { return postgres.Violates(err, "small") }},
		"InTx, an error that the caller has not passed on": {func() error {
			return postgres.InTx(t.Context(), db, func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, count, "a")
				_, _ = tx.Exec(ctx, overflow, "b")
				return err
			})
		}, func(err error) bool { return errors.Is(err, pgx.ErrTxCommitRollback) }},
		"Write": {func() error {
			return postgres.Write(t.Context(), db, func(b *pgx.Batch) { b.Queue(count, "a"); b.Queue(overflow, "b"); b.Queue(count, "a") })
		}, func(err error) bool { return postgres.Violates(err, "small") }},
	} {
		if err := c.run(); !c.want(err) || errors.Is(err, postgres.ErrCommitUnknown) {
			t.Errorf("%s: %v", what, err)
		}
		if got := n(t, db, "a"); got != 0 {
			t.Errorf("%s: a half of it happened: %d", what, got)
		}
	}
}

func TestInTx_PanicReleasesTheLocks(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	func() {
		defer func() { _ = recover() }()
		_ = postgres.InTx(t.Context(), db, func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Exec(ctx, count, "a")
			panic("a bug")
		})
	}()
	if err := postgres.Write(t.Context(), db, func(b *pgx.Batch) { b.Queue(`SET LOCAL lock_timeout = '1s'`); b.Queue(count, "a") }); err != nil || n(t, db, "a") != 1 {
		t.Errorf("%v, a = %d", err, n(t, db, "a"))
	}
}

func TestTransaction_NestedIsRefused(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	err := postgres.InTx(t.Context(), db, func(ctx context.Context, _ pgx.Tx) error {
		if !txmark.InTransaction(ctx) {
			t.Error("the context is not marked")
		}
		inner := postgres.InTx(ctx, db, func(context.Context, pgx.Tx) error { return nil })
		batch := postgres.Write(ctx, db, func(b *pgx.Batch) { b.Queue(count, "a") })
		if !errors.Is(inner, postgres.ErrNested) || !errors.Is(batch, postgres.ErrNested) {
			t.Errorf("%v, %v", inner, batch)
		}
		return nil
	})
	if err != nil || n(t, db, "a") != 0 {
		t.Errorf("%v, a = %d", err, n(t, db, "a"))
	}
}

// Four transactions that lock two rows, half of them the other way around:
// PostgreSQL ends each deadlock by sacrificing one, which is run again.
func TestInTx_DeadlockIsRunAgain(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	var again atomic.Int32
	var all sync.WaitGroup
	for i := range 4 {
		first, second := "a", "b"
		if i%2 == 1 {
			first, second = second, first
		}
		all.Go(func() {
			tries := 0
			err := postgres.InTx(t.Context(), db, func(ctx context.Context, tx pgx.Tx) error {
				if tries++; tries > 1 {
					again.Add(1)
				}
				if _, err := tx.Exec(ctx, count+" RETURNING pg_sleep(0.1)", first); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, count, second)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if a, b := n(t, db, "a"), n(t, db, "b"); a != 4 || b != 4 {
		t.Errorf("a %d, b %d, want 4 each", a, b)
	}
	if again.Load() == 0 {
		t.Error("there was no deadlock: this test tests nothing")
	}
}

// cable is a TCP connection to PostgreSQL that is cut once it has passed a
// message on: the server commits, and the client does not hear of it. A silent cut is that of a
// network: the answer does not come, and neither does an end of the connection.
func cable(t *testing.T, to string, cutAfter string, silent bool) (address string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			var cut atomic.Bool
			go func() {
				buf := make([]byte, 1<<16)
				for {
					got, err := client.Read(buf)
					if strings.Contains(string(buf[:got]), cutAfter) {
						cut.Store(true)
					}
					if _, werr := server.Write(buf[:got]); err != nil || werr != nil {
						_ = server.Close()
						return
					}
				}
			}()
			go func() {
				buf := make([]byte, 1<<16)
				for {
					got, err := server.Read(buf)
					if cut.Load() && silent && err == nil {
						continue
					}
					if cut.Load() || err != nil {
						_ = client.Close()
						_ = server.Close()
						return
					}
					if _, err := client.Write(buf[:got]); err != nil {
						_ = server.Close()
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

func through(t *testing.T, dbURL, cutAfter string) *pgxpool.Pool {
	t.Helper()
	return throughCable(t, dbURL, cutAfter, false)
}

func throughCable(t *testing.T, dbURL, cutAfter string, silent bool) *pgxpool.Pool {
	t.Helper()
	u, err := url.Parse(dbURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = cable(t, u.Host, cutAfter, silent)
	q := u.Query()
	q.Set("sslmode", "disable")
	u.RawQuery = q.Encode()
	return open(t, u.String())
}

// The answer to a commit is lost: it happened, and it is reported as unknown,
// not as a failure.
func TestCommit_LostAnswerIsUnknown(t *testing.T) {
	t.Parallel()
	db, dbURL := database(t)
	err := postgres.InTx(t.Context(), through(t, dbURL, "commit"), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, count, "a")
		return err
	})
	if !errors.Is(err, postgres.ErrCommitUnknown) || !postgres.IsIndefinite(err) {
		t.Errorf("InTx: %v", err)
	}
	err = postgres.Write(t.Context(), through(t, dbURL, "the last"), func(b *pgx.Batch) {
		b.Queue(count, "b")
		b.Queue(`SELECT $1::text`, "the last")
	})
	if !errors.Is(err, postgres.ErrCommitUnknown) || !postgres.IsIndefinite(err) {
		t.Errorf("Write: %v", err)
	}
	for _, name := range []string{"a", "b"} {
		for deadline := time.Now().Add(30 * time.Second); n(t, db, name) != 1; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s was not committed: the cable was cut too early, this test tests nothing", name)
			}
		}
	}
}

// A request that is cancelled while its commit is on the way has not lost it.
func TestCommit_IsNotCancelledWithItsRequest(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := postgres.InTx(ctx, db, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, count, "a")
		cancel()
		return err
	})
	if err != nil || n(t, db, "a") != 1 {
		t.Errorf("%v, a = %d", err, n(t, db, "a"))
	}
}

func TestIsIndefinite_TellsWhichErrorsLeaveTheOutcomeOpen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err                           error
		indefinite, unavailable, busy bool
	}{
		{nil, false, false, false},
		{&pgconn.PgError{Code: "23505"}, false, false, false}, // a unique violation
		{&pgconn.PgError{Code: "57P01"}, true, true, false},   // stopped by its administrator
		{&pgconn.PgError{Code: "08006"}, true, true, false},   // the connection broke
		{&pgconn.PgError{Code: "53300"}, false, true, false},  // too many connections
		{io.ErrUnexpectedEOF, true, true, false},
		{context.DeadlineExceeded, true, true, false},
		{&pgconn.PgError{}, false, false, false}, // by a proxy that knows no codes

		// Others were in the way; rolled back.
		{&pgconn.PgError{Code: "57014"}, false, false, true},                                             // it took too long
		{&pgconn.PgError{Code: "55P03"}, false, false, true},                                             // the row stayed locked
		{fmt.Errorf("gave up: %w", &pgconn.PgError{Code: "40001"}), false, false, true},                  // lost every race
		{fmt.Errorf("gave up: %w", &pgconn.PgError{Code: "40P01"}), false, false, true},                  // and every deadlock
		{fmt.Errorf("gave up: %w", postgres.ErrStale), false, false, true},                               // found it changed each time
		{&pgconn.PgError{Code: "XX000", SeverityUnlocalized: "ERROR"}, false, false, false},              // a bug of the server
		{&pgconn.PgError{Code: "58030", SeverityUnlocalized: "PANIC"}, true, false, false},               // it could not write its log
		{fmt.Errorf("%w: %w", postgres.ErrNotBegun, context.DeadlineExceeded), false, true, false},       // no connection
		{fmt.Errorf("%w: %w", postgres.ErrNotBegun, &pgconn.PgError{Code: "57P03"}), false, true, false}, // the server starts
		{postgres.ErrClosed, false, true, false},

		// A connection that ended, and a file that is not there: the same kind of number.
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, true, true, false},
		{&fs.PathError{Op: "open", Path: "receipt", Err: syscall.ENOENT}, true, false, false},
	} {
		if got := postgres.IsIndefinite(c.err); got != c.indefinite {
			t.Errorf("indefinite %v: %v", c.err, got)
		}
		if got := c.err != nil && postgres.IsUnavailable(c.err); got != c.unavailable {
			t.Errorf("unavailable %v: %v", c.err, got)
		}
		if got := postgres.IsBusy(c.err); got != c.busy {
			t.Errorf("busy %v: %v", c.err, got)
		}
	}
}

// An outage is the database's own. What may be due to one message is none: that message would
// be tried forever.
func TestIsOutage_IsTheDatabaseAwayAndNothingElse(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	for _, c := range []struct {
		err    error
		outage bool
	}{
		{nil, false},
		{fmt.Errorf("%w: %w", postgres.ErrNotBegun, context.DeadlineExceeded), true}, // the pool is exhausted
		{postgres.ErrClosed, true},
		{refused, true},
		{&pgconn.PgError{Code: "57P01"}, true},
		{&pgconn.PgError{Code: "57P03"}, true},
		{&pgconn.PgError{Code: "53300"}, true},
		{&pgconn.PgError{Code: "57014"}, false}, // this statement took too long
		{&pgconn.PgError{Code: "23505"}, false},
		{context.DeadlineExceeded, false}, // this message took too long
		{&url.Error{Op: "Post", URL: "http://processor", Err: refused}, false},
		{&url.Error{Op: "Post", URL: "http://processor", Err: context.DeadlineExceeded}, false},
		{postgres.ErrStale, false},
	} {
		if got := postgres.IsOutage(c.err); got != c.outage {
			t.Errorf("outage %v: %v", c.err, got)
		}
	}
}

// A pool without a free connection is found out before anything is asked.
func TestRead_WithoutAConnectionIsAnOutage(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	for range db.Config().MaxConns {
		conn, err := db.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := postgres.Read(ctx, db, func(b *pgx.Batch) { b.Queue(`SELECT 1`) }); !postgres.IsOutage(err) {
		t.Error(err)
	}
}

// The server ends a session (FATAL) or itself (PANIC) while it flushes the commit: the
// code looks like a refusal, and the commit may be in the log all the same.
func TestCommitError_ServerThatDiesHasNotRefused(t *testing.T) {
	t.Parallel()
	for severity, unknown := range map[string]bool{"ERROR": false, "FATAL": true, "PANIC": true} {
		err := postgres.CommitError(&pgconn.PgError{Code: "58030", SeverityUnlocalized: severity})
		if errors.Is(err, postgres.ErrCommitUnknown) != unknown {
			t.Errorf("%s: %v", severity, err)
		}
	}
}

// An argument that has no form in PostgreSQL is a bug, and nothing was sent.
func TestWrite_WhatCannotBeEncodedIsNotSent(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	err := postgres.Write(t.Context(), db, func(b *pgx.Batch) {
		b.Queue(count, "a")
		b.Queue(count, make(chan int))
	})
	if err == nil || postgres.IsIndefinite(err) || postgres.IsUnavailable(err) || n(t, db, "a") != 0 {
		t.Errorf("%v, a = %d", err, n(t, db, "a"))
	}
}

func TestRetryStale_GivesUpAfterTenTries(t *testing.T) {
	t.Parallel()
	tries := 0
	err := postgres.RetryStale(t.Context(), func() error {
		if tries++; tries < 4 {
			return postgres.ErrStale
		}
		return nil
	})
	if err != nil || tries != 4 {
		t.Errorf("%d tries, %v", tries, err)
	}
	tries = 0
	err = postgres.RetryStale(t.Context(), func() error { tries++; return postgres.ErrStale })
	if !errors.Is(err, postgres.ErrStale) || tries != 10 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestTryLease_HasOneHolderUntilItEnds(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	try := func(holder string, d time.Duration) bool {
		ours, err := postgres.TryLease(t.Context(), db, "job", holder, d)
		if err != nil {
			t.Fatal(err)
		}
		return ours
	}
	var holders atomic.Int32
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if try(string(rune('a'+i)), time.Minute) {
				holders.Add(1)
			}
		})
	}
	all.Wait()
	if holders.Load() != 1 {
		t.Fatalf("%d holders", holders.Load())
	}
	var holder string
	if err := db.QueryRow(t.Context(), `SELECT holder FROM leases`).Scan(&holder); err != nil {
		t.Fatal(err)
	}
	if !try(holder, time.Microsecond) {
		t.Error("its holder cannot extend it")
	}
	if !try("successor", time.Minute) || try(holder, time.Minute) {
		t.Error("a lease that has ended has not passed on")
	}
}

// The clock of the database was ahead once, or a person has edited the row.
func TestTryLease_DoesNotBelieveAnEndThatIsTooFarAway(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	for end, want := range map[string]bool{"4 minutes": false, "59 minutes": true, "100 years": true} {
		_, err := db.Exec(t.Context(), `
			INSERT INTO leases (name, holder, expires_at) VALUES ('job', 'dead', now() + $1::interval)
			    ON CONFLICT (name) DO UPDATE SET holder = 'dead', expires_at = EXCLUDED.expires_at`, end)
		if err != nil {
			t.Fatal(err)
		}
		if ours, err := postgres.TryLease(t.Context(), db, "job", "alive", 30*time.Second); err != nil || ours != want {
			t.Errorf("it ends in %s: %v, %v", end, ours, err)
		}
	}
}
