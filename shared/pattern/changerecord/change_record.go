package changerecord

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Schema creates the table of this package. Copy it into a migration.
//
//go:embed schema.sql
var Schema string

// Message is the identity of a received message.
type Message struct {
	Source string
	ID     uuid.UUID
}

// Of is the message with this CloudEvents source and id. The id must be a UUID; make it
// a UUIDv7, which keeps the table in the order of time (see DeleteOld).
func Of(source, id string) (Message, error) {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return Message{}, fmt.Errorf("changerecord: message id %q: %w", id, err)
	}
	return Message{Source: source, ID: parsed}, nil
}

// Record queues the change record of m. Queue it first: two deliveries at once
// then meet here, and the second waits for the first before it touches
// anything else. When the message has made its change already, the whole batch
// fails; see IsDuplicate.
//
// Pattern: change-record
func (m Message) Record(b *pgx.Batch) {
	b.Queue(`
		INSERT INTO inbox (source, message_id)
		VALUES ($1, $2)`,
		m.Source, m.ID)
}

// RecordTx is Record for a transaction that is not a batch. Call it before the change:
// when the message has made its change already, it fails, and the transaction with it.
func (m Message) RecordTx(ctx context.Context, tx pgx.Tx) error {
	b := &pgx.Batch{}
	m.Record(b)
	return tx.SendBatch(ctx, b).Close()
}

// IsDuplicate tells whether a batch or a transaction failed because the message has made
// its change before. That is a success: acknowledge.
func IsDuplicate(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.ConstraintName == "inbox_pkey"
}

// DeleteOld is the statement that forgets messages of the given sources that were
// made longer than $1 ago, at most $2 at a time. Message ids are UUIDv7: their
// first 48 bits are the time at which the message was made, so the primary key is
// in the order of time and no other index is needed.
//
// A service that forgets a message makes its change again when it comes once more.
// Keep longer than a message can be parked, and then some.
func DeleteOld(sources ...string) string {
	return `
		DELETE FROM inbox
		 WHERE (source, message_id) IN (
		       SELECT source, message_id
		         FROM inbox
		        WHERE source IN ('` + strings.Join(sources, `', '`) + `')
		          AND message_id < (lpad(to_hex((extract(epoch FROM now() - $1::interval) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
		        LIMIT $2)`
}
