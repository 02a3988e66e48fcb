// Package storethenreference stores a document first and its reference last.
//
// # Failure prevented
//
// A row and a document live in two systems. A process that writes the row first and dies
// leaves a reference to a document that is not there. A process that overwrites a
// document under its old name shows readers of the old row the new document.
//
// # What it guarantees
//
// A reference that is committed leads to its document. Each write has a name of
// its own, nothing is overwritten, so a document never changes under a reader. The name
// holds the document's length and digest: what was damaged in the store is not shown.
// What a crash leaves behind is a document that no row speaks of; Sweep removes it
// after a time of grace. A writer that was slower than half of that time is
// refused its reference, so the sweep and a write in progress cannot meet.
//
// # What it does not promise
//
// That the store keeps what it has taken: that is the store's promise. A
// directory keeps it through the death of a process, not through a power cut in the
// second after the write.
//
// # Tables needed
//
// A row with the reference, which belongs to the caller, with
//
//	CHECK (referenced_at <= reference_before)
//
// in which referenced_at is clock_timestamp(), read when every lock is taken: now()
// is the beginning of a transaction that may have waited since. And storeref_sweeps,
// see [Schema].
//
// # Built on
//
// gocloud.dev/blob: a directory, memory, or S3, by URL.
//
// It brings into your module:
//
//	shared/platform/postgres/txmark, shared/platform/required
//	gocloud.dev, google/uuid, jackc/pgx
//
// # Used at
//
// Receipts (services/payments/receipt.go).
//
// # Source
//
// Thom Wright, "Designing for failure: Patterns": store-then-reference.
package storethenreference
