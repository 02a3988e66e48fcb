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
	type next = recoverypoint.Next[booking]
	var (
		db   *pgxpool.Pool
		load func(ctx context.Context, lock idempotency.Lock) (booking, error)
		buy  func(ctx context.Context, key string) (ticket string, err error)
	)
	resume := func(ctx context.Context, lock idempotency.Lock) (idempotency.Response, error) {
		b, err := load(ctx, lock)
		if err != nil {
			return idempotency.Response{}, err
		}
		ticket := func(ctx context.Context, b *booking) (next, error) {
			var err error
			b.Ticket, err = buy(ctx, lock.OperationID.String())
			return next{Point: "bought", Write: func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE bookings SET ticket = $2 WHERE id = $1`, lock.OperationID, b.Ticket)
				return err
			}}, err
		}
		finish := func(_ context.Context, b *booking) (next, error) {
			return next{Point: "finished", Answer: &idempotency.Response{Status: 201, Body: []byte(b.Ticket)}}, nil
		}
		return recoverypoint.Run(ctx, recoverypoint.Operation[booking]{
			DB: db, Lock: lock, Work: &b, Point: &b.Point,
			SetPoint: `UPDATE bookings SET recovery_point = $2 WHERE id = $1`,
			Phases:   map[string]recoverypoint.Phase[booking]{"started": {Do: ticket}, "bought": {Do: finish}},
		})
	}
	_ = resume
}
