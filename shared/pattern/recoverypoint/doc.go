// Package recoverypoint lets work that spans systems go on from where it stopped.
//
// # Failure prevented
//
// Work calls one system, then another, and the process dies between the two. A retry
// that begins at the beginning repeats calls that were made and writes what was written;
// one that is refused because the work exists leaves it half-way.
//
// # What it guarantees
//
// The work is a row with a column that says which point it has reached. A run is a loop
// over the points: from each, one call to another system, and then one transaction
// ([Commit]) that writes what the call has answered together with the next point. So a run
// that begins after a crash repeats at most one call and no write, and ends with the
// answer that the run before it would have recorded. A run whose key was taken over
// writes nothing: the fence is in each of the transactions.
//
// What a call has answered is written down although ctx has ended meanwhile.
//
// # What it does not promise
//
// That a call is made once: it is repeated when the process dies before the transaction.
// Give it a key by which the other system knows it. Where there is none, enter a guard
// before the call (see shared/pattern/atmostonce).
//
// That the work is finished: a call that fails leaves it at its point. The client's
// retry goes on from there, or the completer (shared/pattern/completer).
//
// # Tables needed
//
// The operation's own row, with a text column for the point; and idempotency_keys with
// its lock, see idempotency.Schema.
//
// # Built on
//
// shared/pattern/idempotency: the lock is the fence, and the answer is recorded under the
// key. shared/platform/postgres and shared/platform/fault.
//
// It brings into your module:
//
//	shared/pattern/idempotency, shared/platform/fault, shared/platform/postgres, shared/platform/postgres/txmark, shared/platform/problem, shared/platform/tracing, shared/platform/wait
//	cenkalti/backoff, go-json-experiment/json, go.opentelemetry.io/otel, go.opentelemetry.io/otel/trace, google/uuid, jackc/pgx, prometheus/client_golang, vgarvardt/pgx-google-uuid
//
// # Used at
//
// Refunds and payouts (services/payments/refund.go, payout.go).
//
// # Source
//
// Thom Wright, "Designing for failure: Patterns": recovery point, resumable operation.
// Brandur Leach, "Implementing Stripe-like Idempotency Keys in Postgres": atomic phases.
// Here the call is made before the phase's transaction begins, not inside of it.
package recoverypoint
