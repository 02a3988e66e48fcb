// Package outbox writes messages with the data they speak of and publishes them after.
//
// # Failure prevented
//
// A service that commits and then publishes loses the message when it dies in
// between. One that publishes and then commits has told the world of something
// that never happened when the commit fails.
//
// # What it guarantees
//
// A message is published if, and only if, the transaction that appended it was
// committed; at least once. It is deleted only after the broker confirmed it and did
// not return it. A message that the broker refuses stays, and holds up no other; one
// that is too large is refused before it is written. A message that its writer
// does not publish within Config.Takeover is published by another replica, if there is
// one with a broker that is not busy with messages of its own.
//
// # What it does not promise
//
// Exactly once: a crash between the confirm and the delete publishes again with the same
// id, and so does a takeover from a writer that is alive. Receivers stand on
// shared/pattern/changerecord. Order: what the broker refused is sent again after what
// it took, and two replicas publish side by side.
//
// # Tables needed
//
// outbox: see Schema.
//
// # Built on
//
// pgx for the table, the CloudEvents SDK for the message, OpenTelemetry's API for its
// trace (shared/platform/tracing), Prometheus for the counters, shared/platform/fault and
// shared/platform/required.
// The broker is behind Publisher; outbox/rabbitpublisher is the one for RabbitMQ.
//
// It brings into your module:
//
//	shared/platform/fault, shared/platform/postgres, shared/platform/postgres/txmark, shared/platform/problem, shared/platform/required, shared/platform/tracing, shared/platform/wait
//	cenkalti/backoff, cloudevents/sdk-go, go-json-experiment/json, go.opentelemetry.io/otel, go.opentelemetry.io/otel/trace, google/uuid, jackc/pgx, prometheus/client_golang, vgarvardt/pgx-google-uuid
//
// # Used at
//
// Every message that leaves a service.
//
// # Source
//
// Thom Wright, "Designing for failure: Patterns": transactional outbox.
package outbox
