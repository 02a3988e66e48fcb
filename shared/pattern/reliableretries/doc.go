// Package reliableretries consumes messages and does not give up on them lightly.
//
// # Failure prevented
//
// A consumer that acknowledges a message it could not handle loses it. One that
// puts it straight back runs a hot loop over a poison message and starves all
// the others.
//
// # What it guarantees
//
// A message whose handling failed comes back after a delay that grows with each
// try, while the messages after it go on. A try that failed because others were in the way
// is not counted, and while our own database is away consuming pauses. After the last try, or at once when
// trying again is pointless ([Permanent]), it is parked in `<queue>.dead` with
// its error, where a person reads it and [Replay] puts it back. At no moment is
// it in no queue: the copy is confirmed before the original is acknowledged.
//
// # What it does not promise
//
// Order: a message that is retried is overtaken. Once: a crash between the copy's
// confirm and the acknowledgement leaves both, so handlers stand on shared/pattern/changerecord.
//
// # Tables needed
//
// None. Queues: `<queue>`, one `<queue>.retry.<delay>` for each delay, `<queue>.dead`.
//
// # Built on
//
// shared/platform/rabbit, shared/platform/postgres (which errors say what), the CloudEvents SDK, OpenTelemetry's
// API for the trace, and Prometheus.
//
// It brings into your module:
//
//	shared/platform/fault, shared/platform/postgres, shared/platform/postgres/txmark, shared/platform/problem, shared/platform/rabbit, shared/platform/required, shared/platform/tracing, shared/platform/wait
//	cenkalti/backoff, cloudevents/sdk-go, go-json-experiment/json, go.opentelemetry.io/otel, go.opentelemetry.io/otel/trace, google/uuid, jackc/pgx, prometheus/client_golang, rabbitmq/amqp091-go, vgarvardt/pgx-google-uuid
//
// # Used at
//
// Every consumer of every service.
//
// # Source
//
// Thom Wright, "Designing for failure: Patterns": reliable retries.
package reliableretries
