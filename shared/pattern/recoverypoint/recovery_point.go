package recoverypoint

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
)

// writeTimeout bounds the transaction that ends a phase. Together with the call before
// it, it must fit into the seconds that a process has for stopping.
const writeTimeout = 2 * time.Second

// Operation is work that goes on from one recovery point to the next.
type Operation[W any] struct {
	DB   *pgxpool.Pool
	Lock idempotency.Lock // the right to work on it

	Work     *W      // as it was loaded; the phases change it as they change its row
	Point    *string // where it stands: a field of Work
	SetPoint string  // the statement that moves it: $1 is Lock.OperationID, $2 the new point

	// Phases are the ways on from each point. The last point has none.
	Phases map[string]Phase[W]
}

// Phase is the way from one recovery point to the next.
type Phase[W any] struct {
	// Do makes at most one call to another system, outside of any transaction. When the
	// process dies before the transaction that follows, Do runs again: the other system
	// must know the call by its key. An error leaves the work at its point.
	Do func(ctx context.Context, work *W) (Next[W], error)

	// AfterCall and AfterCommit are fault points: before the transaction and after it.
	AfterCall, AfterCommit string
}

// Next is what the transaction that ends a phase writes, all of it or nothing.
type Next[W any] struct {
	Point string
	Write func(ctx context.Context, tx pgx.Tx) error // what is written with the point; nil: nothing

	// Answer is recorded under the key, which is given back: the work is finished.
	Answer *idempotency.Response

	// Then is how this run goes on, and no other: it alone knows that it has just
	// committed. A later run that finds the work at Point takes the phase of Phases.
	Then *Phase[W]
}

// Run works until the operation is finished, and returns the recorded answer. An error
// means that it is not finished and nothing is lost: the next run goes on from the last
// point. When ctx ends, Run stops before the next of Phases; it still writes what a call
// has answered by then, and goes on with a Then.
//
// Pattern: recovery-point
func Run[W any](ctx context.Context, op Operation[W]) (idempotency.Response, error) {
	for {
		phase, ok := op.Phases[*op.Point]
		if !ok {
			return idempotency.Response{}, fmt.Errorf("recoverypoint: no phase goes on from %q", *op.Point)
		}
		if err := ctx.Err(); err != nil {
			return idempotency.Response{}, fmt.Errorf("recoverypoint: stopped at %q: %w", *op.Point, err)
		}
		for then := &phase; then != nil; {
			next, err := then.Do(ctx, op.Work)
			if err == nil {
				err = op.commit(context.WithoutCancel(ctx), then, next)
			}
			if err != nil {
				return idempotency.Response{}, err
			}
			if next.Answer != nil {
				return *next.Answer, nil
			}
			then = next.Then
		}
	}
}

// commit ends a phase. The fence is its first statement: a run that was only slow, and
// whose key was taken over, writes nothing at all.
func (op Operation[W]) commit(ctx context.Context, phase *Phase[W], next Next[W]) error {
	if err := pass(ctx, phase.AfterCall); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := postgres.InTx(bounded, op.DB, func(ctx context.Context, tx pgx.Tx) error {
		err := op.fence(ctx, tx, next.Answer)
		if err == nil && next.Write != nil {
			err = next.Write(ctx, tx)
		}
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, op.SetPoint, op.Lock.OperationID, next.Point)
		if err == nil && tag.RowsAffected() != 1 {
			err = fmt.Errorf("recoverypoint: %q was written to %d rows", next.Point, tag.RowsAffected())
		}
		return err
	})
	if err != nil {
		return err
	}
	*op.Point = next.Point
	return pass(ctx, phase.AfterCommit)
}

func (op Operation[W]) fence(ctx context.Context, tx pgx.Tx, answer *idempotency.Response) error {
	if answer != nil {
		return op.Lock.Finish(ctx, tx, *answer)
	}
	return op.Lock.Renew(ctx, tx)
}

func pass(ctx context.Context, point string) error {
	if point == "" {
		return nil
	}
	return fault.Point(ctx, point)
}
