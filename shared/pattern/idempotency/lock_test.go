package idempotency_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/postgres"
)

func refund(content byte) idempotency.Request {
	return idempotency.Request{Merchant: "acme", Operation: "POST /v1/refunds", Key: "k", Fingerprint: [32]byte{content}, Retention: retention}
}

// begin starts new work, and counts.
func begin(started *atomic.Int32) func(context.Context, pgx.Tx) (uuid.UUID, error) {
	return func(context.Context, pgx.Tx) (uuid.UUID, error) {
		started.Add(1)
		return uuid.New(), nil
	}
}

func never(t *testing.T) func(context.Context, pgx.Tx) (uuid.UUID, error) {
	return func(context.Context, pgx.Tx) (uuid.UUID, error) {
		t.Error("the work was begun again")
		return uuid.New(), nil
	}
}

var options = idempotency.LockOptions{Lease: time.Minute, Wait: 10 * time.Millisecond}

func take(t *testing.T, db *pgxpool.Pool, p idempotency.LockOptions) idempotency.Lock {
	t.Helper()
	var started atomic.Int32
	_, lock, err := refund(1).Acquire(t.Context(), db, p, begin(&started))
	if err != nil {
		t.Fatal(err)
	}
	return lock
}

func finish(t *testing.T, db *pgxpool.Pool, lock idempotency.Lock, body string) error {
	t.Helper()
	return postgres.InTx(t.Context(), db, func(ctx context.Context, tx pgx.Tx) error {
		return lock.Finish(ctx, tx, idempotency.Response{Status: http.StatusCreated, Body: []byte(body)})
	})
}

func renew(t *testing.T, db *pgxpool.Pool, lock idempotency.Lock) error {
	t.Helper()
	return postgres.InTx(t.Context(), db, lock.Renew)
}

// Fifty requests with one new key: the work is begun once, one of them works,
// and the others are told to come back.
func TestAcquire_LetsOneOfFiftyRequestsWork(t *testing.T) {
	t.Parallel()
	db := open(t)
	var started, working, busy atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			_, _, err := refund(1).Acquire(t.Context(), db, options, begin(&started))
			switch {
			case err == nil:
				working.Add(1)
			case errors.Is(err, idempotency.ErrKeyInUse):
				busy.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if started.Load() != 1 || working.Load() != 1 || busy.Load() != 49 {
		t.Errorf("started %d, working %d, busy %d", started.Load(), working.Load(), busy.Load())
	}
}

// The collector has deleted an expired key, and has not committed yet: a request waits for it,
// and is the first with this key then.
func TestAcquire_TakesAKeyThatIsCollectedMeanwhileForNew(t *testing.T) {
	t.Parallel()
	db := open(t)
	lock := take(t, db, options)
	if err := finish(t, db, lock, "old"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(t.Context(), `UPDATE idempotency_keys SET expires_at = now() - interval '1 second'`); err != nil {
		t.Fatal(err)
	}
	collector, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer collector.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // after the commit it does nothing
	if _, err := collector.Exec(t.Context(), `DELETE FROM idempotency_keys`); err != nil {
		t.Fatal(err)
	}
	var started atomic.Int32
	ended := make(chan error, 1)
	go func() {
		_, _, err := refund(1).Acquire(context.WithoutCancel(t.Context()), db, options, begin(&started))
		ended <- err
	}()
	for waits := false; !waits; time.Sleep(time.Millisecond) {
		err := db.QueryRow(t.Context(), `
			SELECT EXISTS (
			       SELECT FROM pg_stat_activity
			        WHERE datname = current_database()
			          AND wait_event_type = 'Lock')`).Scan(&waits)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := collector.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil || started.Load() != 1 {
		t.Errorf("begun %d times, %v", started.Load(), err)
	}
	var key string
	if err := db.QueryRow(t.Context(), `SELECT key FROM idempotency_keys WHERE status IS NULL AND expires_at > now()`).Scan(&key); err != nil {
		t.Errorf("its key is not there: %v", err)
	}
}

// The first request is still in the transaction that takes the key: who waits for
// its row longer than the database lets it is told the same.
func TestAcquire_OfAKeyThatIsBeingTakenSaysInUse(t *testing.T) {
	t.Parallel()
	db := open(t)
	cfg := db.Config()
	cfg.ConnConfig.RuntimeParams["lock_timeout"] = "100"
	impatient, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(impatient.Close)
	_, _, err = refund(1).Acquire(t.Context(), db, options, func(context.Context, pgx.Tx) (uuid.UUID, error) {
		_, _, err := refund(1).Acquire(t.Context(), impatient, options, never(t))
		if !errors.Is(err, idempotency.ErrKeyInUse) {
			t.Errorf("the second is told: %v", err)
		}
		return uuid.New(), nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Who waits gets the answer as soon as there is one.
func TestAcquire_WaitsForTheAnswerOfTheFirstRequest(t *testing.T) {
	t.Parallel()
	db := open(t)
	lock := take(t, db, options)
	second := make(chan idempotency.Recorded, 1)
	go func() {
		answer, _, err := refund(1).Acquire(context.WithoutCancel(t.Context()), db, idempotency.LockOptions{Lease: time.Minute, Wait: time.Minute}, never(t))
		if err != nil {
			t.Error(err)
		}
		second <- answer
	}()
	if err := finish(t, db, lock, "done"); err != nil {
		t.Fatal(err)
	}
	if answer := <-second; !answer.Exists || string(answer.Body) != "done" {
		t.Errorf("the second: %+v", answer)
	}
}

// statements counts what a pool sends, by the first word.
type statements struct {
	mu   sync.Mutex
	sent map[string]int
}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent[strings.Fields(q.SQL)[0]]++
	return ctx
}

func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A retry that waits must not burden the database that the first request works with.
func TestAcquire_WaitsWithAFewReadsAndNoWrites(t *testing.T) {
	t.Parallel()
	db := open(t)
	take(t, db, options)
	cfg, counted := db.Config(), &statements{sent: map[string]int{}}
	cfg.ConnConfig.Tracer = counted
	waiting, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(waiting.Close)
	begun := time.Now()
	_, _, err = refund(1).Acquire(t.Context(), waiting, idempotency.LockOptions{Lease: time.Minute, Wait: time.Second}, never(t))
	if !errors.Is(err, idempotency.ErrKeyInUse) {
		t.Error(err)
	}
	if waited := time.Since(begun); waited < time.Second {
		t.Errorf("gave up after %v", waited)
	}
	if n := counted.sent["INSERT"]; n != 1 {
		t.Errorf("%d tries for one wait", n)
	}
	if n := counted.sent["SELECT"]; n < 2 || n > 12 {
		t.Errorf("%d reads in a second", n)
	}
}

// One that was only slow and has been taken over can write nothing any more,
// whatever it tries: its transaction fails with it.
func TestLock_FencesOffAHolderThatWasTakenOver(t *testing.T) {
	t.Parallel()
	db := open(t)
	slow := take(t, db, idempotency.LockOptions{Lease: time.Microsecond})
	_, successor, err := refund(1).Acquire(t.Context(), db, options, never(t))
	if err != nil {
		t.Fatal(err)
	}
	if successor.OperationID != slow.OperationID {
		t.Errorf("the successor works on %v, not on %v", successor.OperationID, slow.OperationID)
	}
	for what, err := range map[string]error{"renew": renew(t, db, slow), "finish": finish(t, db, slow, "slow")} {
		if !errors.Is(err, idempotency.ErrLockLost) {
			t.Errorf("%s of one that was taken over: %v", what, err)
		}
	}
	if err := slow.Release(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if _, _, err := refund(1).Acquire(t.Context(), db, options, never(t)); !errors.Is(err, idempotency.ErrKeyInUse) {
		t.Errorf("its successor's key was given back: %v", err)
	}
	if err := errors.Join(renew(t, db, successor), finish(t, db, successor, "right")); err != nil {
		t.Errorf("the successor: %v", err)
	}
	answer, _, err := refund(1).Acquire(t.Context(), db, options, never(t))
	if err != nil || string(answer.Body) != "right" {
		t.Errorf("recorded %q, %v", answer.Body, err)
	}
}

func TestRenew_KeepsTheLockFromBeingTakenOver(t *testing.T) {
	t.Parallel()
	db := open(t)
	lock := take(t, db, idempotency.LockOptions{Lease: time.Microsecond})
	lock.Lease = time.Minute
	if err := renew(t, db, lock); err != nil {
		t.Fatal(err)
	}
	if _, _, err := refund(1).Acquire(t.Context(), db, options, never(t)); !errors.Is(err, idempotency.ErrKeyInUse) {
		t.Errorf("a key in progress was taken: %v", err)
	}
	locks, err := idempotency.ClaimAbandoned(t.Context(), db, "POST /v1/refunds", time.Minute, 0, 10)
	if err != nil || len(locks) > 0 {
		t.Errorf("taken over by the completer: %v, %v", locks, err)
	}
}

func TestRelease_LetsTheNextRequestWorkAtOnce(t *testing.T) {
	t.Parallel()
	db := open(t)
	lock := take(t, db, options)
	if err := lock.Release(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	_, next, err := refund(1).Acquire(t.Context(), db, options, never(t))
	if err != nil || next.OperationID != lock.OperationID {
		t.Errorf("work %v, want %v; %v", next.OperationID, lock.OperationID, err)
	}
}

// The clock of the database was ahead once, or a person has edited the row.
func TestAcquire_DoesNotBelieveALockThatEndsTooFarAway(t *testing.T) {
	t.Parallel()
	db := open(t)
	lock := take(t, db, options)
	far := func() {
		t.Helper()
		if _, err := db.Exec(t.Context(), `UPDATE idempotency_keys SET locked_until = now() + interval '100 years'`); err != nil {
			t.Fatal(err)
		}
	}
	far()
	if _, next, err := refund(1).Acquire(t.Context(), db, options, never(t)); err != nil || next.OperationID != lock.OperationID {
		t.Errorf("work %v, want %v; %v", next.OperationID, lock.OperationID, err)
	}
	far()
	if locks, err := idempotency.ClaimAbandoned(t.Context(), db, "POST /v1/refunds", time.Minute, time.Hour, 10); err != nil || len(locks) != 1 {
		t.Errorf("%d taken over by the completer, %v", len(locks), err)
	}
}

func TestAcquire_LeavesTheKeyFreeWhenTheWorkCannotBegin(t *testing.T) {
	t.Parallel()
	db := open(t)
	no := errors.New("no")
	if _, _, err := refund(1).Acquire(t.Context(), db, options, func(context.Context, pgx.Tx) (uuid.UUID, error) { return uuid.Nil, no }); !errors.Is(err, no) {
		t.Fatal(err)
	}
	var started atomic.Int32
	if _, _, err := refund(2).Acquire(t.Context(), db, options, begin(&started)); err != nil || started.Load() != 1 {
		t.Errorf("started %d, %v", started.Load(), err)
	}
}

// Other content under a key in progress is told so at once; it does not wait, and it
// does not take the work over, not even when its holder is gone.
func TestAcquire_WithOtherContentNeverTakesWorkOver(t *testing.T) {
	t.Parallel()
	db := open(t)
	for _, lease := range []time.Duration{time.Minute, time.Microsecond} {
		take(t, db, idempotency.LockOptions{Lease: lease})
		answer, lock, err := refund(2).Acquire(t.Context(), db, options, never(t))
		if !errors.Is(err, idempotency.ErrKeyReused) || answer.Exists || lock.OperationID != uuid.Nil {
			t.Errorf("lease %v: %+v, %+v, %v", lease, answer, lock, err)
		}
		if _, err := db.Exec(t.Context(), `DELETE FROM idempotency_keys`); err != nil {
			t.Fatal(err)
		}
	}
}

// The completer keeps away from what is in progress, from what was let go a moment
// ago, and from what another replica has just taken.
func TestClaimAbandoned_LeavesWhatIsHeldOrInItsGrace(t *testing.T) {
	t.Parallel()
	db := open(t)
	lock := take(t, db, idempotency.LockOptions{Lease: time.Microsecond})
	abandoned := func(operation string, grace time.Duration) int {
		locks, err := idempotency.ClaimAbandoned(t.Context(), db, operation, time.Minute, grace, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range locks {
			if l.OperationID != lock.OperationID {
				t.Errorf("took %v", l.OperationID)
			}
		}
		return len(locks)
	}
	if n := abandoned("POST /v1/refunds", time.Hour); n != 0 {
		t.Errorf("%d taken within the grace", n)
	}
	if n := abandoned("POST /v1/payouts", 0); n != 0 {
		t.Errorf("%d taken of another operation", n)
	}
	if n := abandoned("POST /v1/refunds", 0); n != 1 {
		t.Errorf("%d taken", n)
	}
	// Now its lease runs. Old work with a holder that lives is not abandoned.
	if _, err := db.Exec(t.Context(), `UPDATE idempotency_keys SET created_at = now() - interval '2 hours'`); err != nil {
		t.Fatal(err)
	}
	for _, grace := range []time.Duration{0, time.Hour} {
		if n := abandoned("POST /v1/refunds", grace); n != 0 {
			t.Errorf("%d taken from its holder, with a grace of %s", n, grace)
		}
	}
}

// Ten replicas share a hundred keys: each is taken over by one of them.
func TestClaimAbandoned_SharesTheWorkAmongReplicas(t *testing.T) {
	t.Parallel()
	db := open(t)
	_, err := db.Exec(t.Context(), `
		INSERT INTO idempotency_keys (merchant_id, operation, key, fingerprint, operation_id, lock_token, locked_until, expires_at)
		SELECT 'acme', 'POST /v1/refunds', i, '', gen_random_uuid(), gen_random_uuid(), now() - interval '1 hour', now() + interval '1 hour'
		  FROM generate_series(1, 100) i`)
	if err != nil {
		t.Fatal(err)
	}
	var taken atomic.Int32
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for n := 1; n > 0; {
				locks, err := idempotency.ClaimAbandoned(t.Context(), db, "POST /v1/refunds", time.Minute, 0, 3)
				if err != nil {
					t.Error(err)
				}
				n = len(locks)
				taken.Add(int32(n)) //nolint:gosec // at most 3
			}
		})
	}
	all.Wait()
	if taken.Load() != 100 {
		t.Errorf("%d taken over, want 100", taken.Load())
	}
}
