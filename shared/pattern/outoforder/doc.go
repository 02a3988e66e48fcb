// Package outoforder applies events that depend on each other, in whatever order
// they arrive.
//
// # Failure prevented
//
// News overtakes news: "settled" arrives before our own record of the capture,
// "refund settled" before "charge settled", each of them twice. A receiver that
// handles what arrives when it arrives drops the early one, or applies it to a
// state that it does not fit.
//
// # What it guarantees
//
// An event that was appended is kept. Events of one stream are applied one at a
// time, by rank and then by the time at which they happened, each exactly once,
// in the transaction that does its work. An event whose time has not come (the
// Apply function says so) is held, with all that come after it, and looked at
// again when the stream is woken or after a while. Every order of arrival
// therefore ends in the same state.
//
// # What it does not promise
//
// That what an event waits forever comes. An event that stays held is counted
// and logged, and a person or a reconciliation decides.
//
// # Tables needed
//
// received_events, see [Schema].
//
// # Built on
//
// shared/platform/postgres, shared/platform/tracing and Prometheus. [RecheckTx] takes any pgx.Tx.
//
// It brings into your module:
//
//	shared/platform/postgres, shared/platform/postgres/txmark, shared/platform/required, shared/platform/tracing
//	cenkalti/backoff, go.opentelemetry.io/otel, go.opentelemetry.io/otel/trace, jackc/pgx, prometheus/client_golang, vgarvardt/pgx-google-uuid
//
// # Used at
//
// The card processor's webhooks (services/payments/webhook.go, settle.go).
//
// # Source
//
// Thom Wright, "Designing for failure: Patterns": out-of-order messages.
package outoforder
