package recoverypoint_test

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/pattern/recoverypoint"
)

// A booking asks an airline for a ticket and then records its answer. The request that
// begins it calls resume, and so do each retry of it and the completer.
func Example() {
	type booking struct{ Point, Ticket string }
	var (
		db   *pgxpool.Pool
		load func(ctx context.Context, lock idempotency.Lock) (booking, error)
		buy  func(ctx context.Context, key string) (ticket string, err error)
	)
	resume := func(ctx context.Context, lock idempotency.Lock) (answer idempotency.Response, err error) {
		b, err := load(ctx, lock)
		if err != nil {
			return answer, err
		}
		if b.Point == "started" {
			// The key is the booking's id: after a crash before the commit, the airline knows it.
			if b.Ticket, err = buy(ctx, lock.OperationID.String()); err != nil {
				return answer, err // not known; the next run asks again
			}
			err = recoverypoint.Commit(ctx, db, lock, "", func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE bookings SET recovery_point = 'bought', ticket = $2 WHERE id = $1`, lock.OperationID, b.Ticket)
				return err
			})
			if err != nil {
				return answer, err
			}
		}
		answer = idempotency.Response{Status: 201, Body: []byte(b.Ticket)}
		err = recoverypoint.Finish(ctx, db, lock, answer, "", func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE bookings SET recovery_point = 'finished' WHERE id = $1`, lock.OperationID)
			return err
		})
		return answer, err
	}
	_ = resume
}
