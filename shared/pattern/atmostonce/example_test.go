package atmostonce_test

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/atmostonce"
	"example.com/failwell/shared/platform/postgres"
)

// The guard is committed before the thing that must not happen twice. Any error,
// a commit whose answer was lost included, means: do not do it.
func Example() {
	unknown := errors.New("another run has entered the guard: whether it made the transfer is not known")
	transferOnce := func(ctx context.Context, db *pgxpool.Pool, payout string, transfer func() error) error {
		var first bool
		err := postgres.InTx(ctx, db, func(ctx context.Context, tx pgx.Tx) (err error) {
			first, err = atmostonce.Enter(ctx, tx, "bank-transfer:"+payout)
			return err
		})
		if err != nil {
			return err
		}
		if !first {
			return unknown
		}
		return transfer()
	}
	_ = transferOnce
}
