package main

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/postgres"
)

// books writes into the books. A few accounts are in nearly every entry, and whoever
// moves one holds its row until the commit is on disk; one after the other, a
// thousand entries would be a thousand commits, however many want to write. In a
// group they are written together, and each balance is moved once.
type books struct {
	*postgres.Group[writing]
}

// writing is what one handler wants written.
type writing struct {
	beside func(b *pgx.Batch) // what goes with the entry: change record, reply
	entry  *entry             // nil: there is none
}

func openBooks(db *pgxpool.Pool) books {
	return books{postgres.NewGroup(db, func(b *pgx.Batch, together []writing) {
		var entries []*entry
		for _, w := range together {
			if w.beside != nil {
				w.beside(b)
			}
			if w.entry != nil {
				entries = append(entries, w.entry)
			}
		}
		insertEntries(b, entries...)
	})}
}

// write returns when it is committed, or refused.
func (b books) write(ctx context.Context, e *entry, beside func(b *pgx.Batch)) error {
	return b.Write(ctx, writing{beside: beside, entry: e})
}
