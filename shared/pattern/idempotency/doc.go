// Package idempotency lets a client send the same request any number of times:
// the work is done once, and every answer is the first one.
//
// # Failure prevented
//
// The response is lost on its way. The client cannot know whether the work was
// done; it sends the request again, and without a name for the request there
// are two orders and two charges.
//
// # What it guarantees
//
// For one merchant, operation and key, within the retention: the work is
// committed at most once, and every answer after that is byte for byte the one
// that was recorded in the same transaction, also when the world has changed
// since. The same key with other content is refused ([ErrKeyReused]) by the look-up
// itself, and changes nothing. Of two requests at the same moment, one works and the
// other waits for its commit.
//
// For work that spans systems there is [Lock], a lease in the row of the key: one
// holder at a time, whose writes are fenced by its token. A request that comes meanwhile
// waits for a bounded time and is told to come back; what a holder left behind is
// taken over from where it stopped.
//
// # What it does not promise
//
// An invariant of the business: a client that uses two keys asks for two things.
// A record of what never began: requests that fail validation, authentication or
// the database are not recorded and may be fixed and sent again under the same key.
// Mutual exclusion: a lease may end while its holder is still in a call, so what it
// calls must be idempotent.
//
// # Tables needed
//
// idempotency_keys, see [Schema].
//
// # Built on
//
// shared/platform/postgres, shared/platform/problem and shared/platform/tracing: pgx,
// google/uuid, encoding/json/v2, OpenTelemetry's API and the standard library. Requests and answers are those of net/http; with echo they are c.Request() and
// c.Response(). [Request.LookupTx] and [Request.RecordTx] take any pgx.Tx. Inside one
// database the unique key itself is the lock.
//
// It brings into your module:
//
//	shared/platform/postgres, shared/platform/postgres/txmark, shared/platform/problem, shared/platform/tracing, shared/platform/wait
//	cenkalti/backoff, go-json-experiment/json, go.opentelemetry.io/otel, go.opentelemetry.io/otel/trace, google/uuid, jackc/pgx, prometheus/client_golang, vgarvardt/pgx-google-uuid
//
// # Used at
//
// POST /v1/orders (accept.go), and with a lock refunds and payouts (refund.go, payout.go).
//
// # Source
//
// Thom Wright, "Designing for failure: Patterns": idempotency key, reject
// non-identical retries, response record, idempotency key lock. The header follows
// draft-ietf-httpapi-idempotency-key-header.
package idempotency
