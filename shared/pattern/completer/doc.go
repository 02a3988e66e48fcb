// Package completer finishes what its client gave up on.
//
// # Failure prevented
//
// Work that spans systems stops half-way: the process dies, or something on the
// way does not answer. A retry would go on from the last recovery point, but the
// client never retries. The money stays set aside.
//
// # What it guarantees
//
// Work that was begun under a key and whose holder is gone is taken over, after
// the holder's lease and a time of grace for its client, and gone on with from
// its recovery point, again and again until it is finished. Replicas share the
// work: each key has one holder at a time.
//
// # What it does not promise
//
// That the work can be finished. What fails at each try is logged and counted;
// a person has to look at it.
//
// # Tables needed
//
// idempotency_keys with its lock, see idempotency.Schema.
//
// # Built on
//
// shared/pattern/idempotency: a request or a completer that works on a piece of
// work holds the lock of its key. What it runs is the function that the request runs too,
// usually one of shared/pattern/recoverypoint. shared/platform/tracing, Prometheus.
//
// It brings into your module:
//
//	shared/pattern/idempotency, shared/platform/postgres, shared/platform/postgres/txmark, shared/platform/problem, shared/platform/required, shared/platform/tracing, shared/platform/wait
//	cenkalti/backoff, go-json-experiment/json, go.opentelemetry.io/otel, go.opentelemetry.io/otel/trace, google/uuid, jackc/pgx, prometheus/client_golang, vgarvardt/pgx-google-uuid
//
// # Used at
//
// Refunds and payouts (services/payments).
//
// # Source
//
// Thom Wright, "Designing for failure: Patterns": completer.
package completer
