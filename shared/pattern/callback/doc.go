// Package callback tells a client that the work it was promised has ended.
//
// # Failure prevented
//
// A client that got "202, we are on it" must otherwise ask again and again, or
// never learns the end because the one call to its webhook came while it was down.
//
// # What it guarantees
//
// A callback that was enqueued in a committed transaction is sent until the
// endpoint answers 2xx, says that no further try will help (410, 413), or the schedule
// is exhausted; in the last two cases it is parked for a
// person and can be replayed. Every try carries the same webhook-id and a fresh,
// valid signature (Standard Webhooks 1.0.0), so the receiver can drop repetitions.
// A merchant whose endpoint hangs uses up its own places and no other's. Nothing is sent
// to an address that is not on the internet, see [Filter].
//
// # What it does not promise
//
// Exactly once: a crash after the endpoint's answer sends it again, with the same
// id. Order: one that is retried is overtaken by later ones.
//
// # Tables needed
//
// callbacks, see [Schema], and merchants (webhook_secret by merchant_id).
//
// # Built on
//
// The idea of shared/pattern/outbox, with the merchant in place of the broker: written
// with the data, sent after. It has its own table because each row has a schedule of
// its own. shared/platform/postgres, shared/platform/tracing, Standard Webhooks' library,
// Prometheus.
//
// It brings into your module:
//
//	shared/platform/fault, shared/platform/postgres, shared/platform/postgres/txmark, shared/platform/problem, shared/platform/required, shared/platform/tracing, shared/platform/wait
//	cenkalti/backoff, code.dny.dev/ssrf, go-json-experiment/json, go.opentelemetry.io/otel, go.opentelemetry.io/otel/trace, google/uuid, jackc/pgx, prometheus/client_golang, standard-webhooks/standard-webhooks/libraries, vgarvardt/pgx-google-uuid
//
// # Used at
//
// services/orders (callbacks.go): the end of an order.
//
// # Source
//
// Thom Wright, "Designing for failure: Patterns": callback.
package callback
