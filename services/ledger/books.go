package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/platform/postgres"
)

// lockWait bounds how long a write waits for a locked account. A payout in doubt keeps a
// merchant's accounts locked for half a minute, and each handler that waited for them
// would take one of the consumer's workers from all other merchants. So a handler gives
// up early, and the message waits at the broker.
const lockWait = 100 * time.Millisecond

// books writes entries into the books.
type books struct {
	postgres.Writer
}

// write returns when the entry, if there is one, and what goes with it (change record,
// reply) are committed or refused.
func (b books) write(ctx context.Context, e *entry, beside func(b *pgx.Batch)) error {
	return b.Write(ctx, func(batch *pgx.Batch) {
		if beside != nil {
			beside(batch)
		}
		if e != nil {
			e.insert(batch)
		}
	})
}
