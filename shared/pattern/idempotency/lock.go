package idempotency

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/problem"
	"example.com/failwell/shared/platform/tracing"
	"example.com/failwell/shared/platform/wait"
)

// ErrLockLost means that the lease ran out and that another holder works under the
// key now. The transaction is undone: what it was about to write is the other's to write.
var ErrLockLost = errors.New("idempotency: the lock on the key was taken over")

// A request that waits for another one looks whether the key is free after firstPause, and
// then after twice as long each time, but not less often than every lastPause.
const (
	firstPause = 10 * time.Millisecond
	lastPause  = 200 * time.Millisecond
)

// Lock is the right to work under a key. It ends by itself when its lease runs
// out: a holder that died must not keep the key.
//
// Every write of its holder belongs into one transaction with Renew or Finish.
// Those are the fence: a holder that was only slow, and has been taken over, finds
// its token gone and its transaction undone.
type Lock struct {
	Request
	OperationID uuid.UUID // what the key stands for: the refund, the payout
	Traceparent string    // of the request that began the work
	Lease       time.Duration
	token       uuid.UUID
}

// LockOptions say how long a key may be held without a sign of life, and how long
// a second request waits for the first.
type LockOptions struct {
	// Lease must exceed the longest call that the work makes between two writes.
	Lease time.Duration

	// Wait bounds the wait of a request that meets a locked key.
	Wait time.Duration
}

// lockHeld is true of a key that has a holder; $4 is a lease. A lock that ends later than
// any honest one (the database's clock was ahead once, or a row was edited) belongs to no
// process.
const lockHeld = `locked_until BETWEEN now() AND now() + 10 * $4::interval`

// row is a key as it stands.
type row struct {
	Fingerprint []byte
	Status      *int
	Header      map[string]string
	Body        []byte
	OperationID *uuid.UUID
	Traceparent string
	Locked      bool // it has a holder, and the lease is not over
	Expired     bool
}

// Acquire finds out what a request is: new, finished, or in progress.
//
//   - New: start runs in the transaction that takes the key, and returns what the
//     key stands for. Its error undoes both: nothing happened, the key is free.
//   - Finished: the recorded answer is returned; give it with Answer.
//   - Finished or in progress, with other content: ErrKeyReused.
//   - In progress by another request: wait for it, up to options.Wait; then ErrKeyInUse.
//   - Left behind by one that died or gave up: its lock is ours now, and the work
//     goes on from where it stopped.
//
// Pattern: idempotency-key-lock
// Pattern: reject-non-identical
func (r Request) Acquire(ctx context.Context, db *pgxpool.Pool, options LockOptions, start func(ctx context.Context, tx pgx.Tx) (uuid.UUID, error)) (Recorded, Lock, error) {
	giveUp := time.Now().Add(options.Wait)
	for {
		answer, lock, err := r.try(ctx, db, options.Lease, start)
		if !errors.Is(err, ErrKeyInUse) {
			return answer, lock, err
		}
		if err := r.awaitRelease(ctx, db, options.Lease, giveUp); err != nil {
			return Recorded{}, Lock{}, err
		}
	}
}

// awaitRelease returns when the key is held no more, and ErrKeyInUse when it still is at
// giveUp. It only reads. A try costs an INSERT and a row lock: as a poll, it would be
// forty write transactions a second for each retry that waits.
func (r Request) awaitRelease(ctx context.Context, db *pgxpool.Pool, lease time.Duration, giveUp time.Time) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		left := time.Until(giveUp)
		if left <= 0 {
			return ErrKeyInUse
		}
		if !wait.For(ctx, min(pause, left)) {
			return ctx.Err()
		}
		var held bool
		err := db.QueryRow(ctx, `
			SELECT EXISTS (
			       SELECT FROM idempotency_keys
			        WHERE merchant_id = $1
			          AND operation = $2
			          AND key = $3
			          AND status IS NULL
			          AND `+lockHeld+`)`,
			r.Merchant, r.Operation, r.Key, lease).Scan(&held)
		if err != nil || !held {
			return err
		}
	}
}

// ErrKeyInUse refuses a request whose key another one has worked on for longer than we
// let it wait: 409 with Retry-After.
var ErrKeyInUse = problem.New(http.StatusConflict, "idempotency-key-in-use", "A request with this key is in progress",
	"Another request with this key has not finished. Send it again with the same key.").WithRetryAfter(time.Second).WithField(HeaderKey)

func (r Request) try(ctx context.Context, db *pgxpool.Pool, lease time.Duration, start func(ctx context.Context, tx pgx.Tx) (uuid.UUID, error)) (Recorded, Lock, error) {
	var answer Recorded
	lock := Lock{Request: r, Traceparent: tracing.Traceparent(ctx), Lease: lease, token: uuid.New()}
	err := postgres.InTx(ctx, db, func(ctx context.Context, tx pgx.Tx) error {
		answer = Recorded{} // the transaction may run again
		// Of two requests that bring a new key, one inserts the row; the other waits here
		// for its commit, and then has the row, locked until the end of the transaction.
		rows, _ := tx.Query(ctx, `
			INSERT INTO idempotency_keys AS k (merchant_id, operation, key, fingerprint, expires_at)
			VALUES ($1, $2, $3, $5, now() + $6::interval)
			    ON CONFLICT (merchant_id, operation, key) DO UPDATE
			   SET key = k.key
			RETURNING fingerprint, status, headers, body, operation_id, traceparent, COALESCE(`+lockHeld+`, false), expires_at <= now()`,
			r.Merchant, r.Operation, r.Key, lease, r.Fingerprint[:], r.Retention)
		now, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[row])
		if postgres.LockTimedOut(err) {
			return ErrKeyInUse // its row, not its lock: the first request is in a transaction that lasts
		}
		if err != nil {
			return err
		}
		live := now.Status == nil || !now.Expired // an answer that has expired is as good as none
		switch {
		case live && !bytes.Equal(now.Fingerprint, r.Fingerprint[:]):
			return ErrKeyReused
		case live && now.Status != nil:
			answer = Recorded{Response: Response{Status: *now.Status, Header: now.Header, Body: now.Body}, Exists: true, replayed: true}
			return nil
		case now.Locked:
			return ErrKeyInUse
		case now.OperationID != nil && now.Status == nil:
			lock.OperationID, lock.Traceparent = *now.OperationID, now.Traceparent
		default: // new, or a finished one that has expired
			if lock.OperationID, err = start(ctx, tx); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `
			UPDATE idempotency_keys
			   SET fingerprint  = $4,
			       status       = NULL,
			       created_at   = now(),
			       operation_id = $5,
			       lock_token   = $6,
			       locked_until = now() + $7::interval,
			       expires_at   = now() + $8::interval,
			       traceparent  = $9
			 WHERE merchant_id = $1
			   AND operation = $2
			   AND key = $3`,
			r.Merchant, r.Operation, r.Key, r.Fingerprint[:], lock.OperationID, lock.token, lease, r.Retention, lock.Traceparent)
		return err
	})
	return answer, lock, err
}

// Renew extends the lease inside the transaction that writes a recovery point.
// ErrLockLost undoes that transaction.
func (l Lock) Renew(ctx context.Context, tx pgx.Tx) error {
	tag, err := tx.Exec(ctx, `
		UPDATE idempotency_keys
		   SET locked_until = now() + $5::interval
		 WHERE merchant_id = $1
		   AND operation = $2
		   AND key = $3
		   AND lock_token = $4
		   AND status IS NULL`,
		l.Merchant, l.Operation, l.Key, l.token, l.Lease)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrLockLost
	}
	return err
}

// Finish records the answer and gives the key back, in the transaction that
// ends the work. The answer is kept for the whole retention from now: work that
// took longer than that would otherwise be forgotten at its end, and done again.
//
// Pattern: response-record
func (l Lock) Finish(ctx context.Context, tx pgx.Tx, answer Response) error {
	tag, err := tx.Exec(ctx, `
		UPDATE idempotency_keys
		   SET status       = $5,
		       headers      = COALESCE($6::jsonb, '{}'),
		       body         = COALESCE($7::bytea, ''),
		       lock_token   = NULL,
		       locked_until = NULL,
		       expires_at   = now() + (expires_at - created_at)
		 WHERE merchant_id = $1
		   AND operation = $2
		   AND key = $3
		   AND lock_token = $4
		   AND status IS NULL`,
		l.Merchant, l.Operation, l.Key, l.token, answer.Status, answer.Header, answer.Body)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrLockLost
	}
	return err
}

// Release gives the key back unfinished, so that the next request need not wait
// for the lease to end. Losing this call costs that wait and nothing else.
func (l Lock) Release(ctx context.Context, db *pgxpool.Pool) error {
	_, err := db.Exec(ctx, `
		UPDATE idempotency_keys
		   SET locked_until = now()
		 WHERE merchant_id = $1
		   AND operation = $2
		   AND key = $3
		   AND lock_token = $4`,
		l.Merchant, l.Operation, l.Key, l.token)
	return err
}

// ClaimAbandoned takes over up to limit keys of an operation whose holder is gone,
// for a completer. SKIP LOCKED lets replicas do this side by side. grace keeps
// away from keys that were let go a moment ago: their client may be about to retry.
func ClaimAbandoned(ctx context.Context, db *pgxpool.Pool, operation string, lease, grace time.Duration, limit int) ([]Lock, error) {
	rows, _ := db.Query(ctx, `
		UPDATE idempotency_keys
		   SET lock_token   = gen_random_uuid(),
		       locked_until = now() + $2::interval
		 WHERE ctid = ANY(ARRAY( -- looked for once; joined, it could be looked for again for each row, and the limit with it
		       SELECT ctid
		         FROM idempotency_keys
		        WHERE operation = $1
		          AND status IS NULL
		          AND locked_until NOT BETWEEN now() - $3::interval AND now() + 10 * $2::interval
		        ORDER BY locked_until
		        LIMIT $4
		          FOR UPDATE SKIP LOCKED))
		RETURNING merchant_id, key, operation_id, traceparent, lock_token`,
		operation, lease, grace, limit)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Lock, error) {
		l := Lock{Request: Request{Operation: operation}, Lease: lease}
		err := row.Scan(&l.Merchant, &l.Key, &l.OperationID, &l.Traceparent, &l.token)
		return l, err
	})
}
