// Package changerecord records that a message has made its change.
//
// # Failure prevented
//
// A broker delivers a message again whenever it is not sure that we are done
// with it; a sender publishes again whenever it is not sure that the broker has
// it. Without a record, the second delivery moves the money a second time.
//
// # What it guarantees
//
// The change of one message (its source and id) is committed at most once: the
// record is written in the transaction of the change, and its primary key lets
// only one such transaction through, also when two deliveries run at once.
//
// # What it does not promise
//
// Anything about calls to other systems made while handling; those take an
// idempotency key of their own. Nothing after the row was removed: rows must be
// kept for longer than a message can linger in a queue.
//
// # Tables needed
//
// inbox, see [Schema].
//
// # Built on
//
// pgx and google/uuid, and nothing else of ours. [Message.RecordTx] takes any pgx.Tx.
//
// It brings into your module:
//
//	google/uuid, jackc/pgx
//
// # Used at
//
// Every consumer of every service.
//
// # Source
//
// Thom Wright, "Designing for failure: Patterns": change record.
package changerecord
