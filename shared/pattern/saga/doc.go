// Package saga runs a series of transactions in several services that can be
// compensated.
//
// # Failure prevented
//
// The card is declined after the stock was taken; the books refuse after the
// card was held. Without a saga the steps that were done stay done: stock and
// money leak with each refusal, and after a crash no record says how far it got.
//
// # What it guarantees
//
// A saga ends completed (every action done) or compensated (every action that may
// have been done is taken back, in reverse), whatever crashes in between: its
// state is a row, written in one transaction with the command it sends. A command
// that gets no reply in time is sent again, with the same meaning, until the reply
// is definite; silence is never taken for a refusal. A compensation is due from
// the moment its action's command was sent, not from the moment the action
// succeeded: a step that timed out is compensated too.
//
// A participant answers a command in the transaction of its work ([Participant]): it
// never replies to what it has not done, and does nothing that it does not reply to.
//
// # What it does not promise
//
// Isolation: others see the intermediate states (stock reserved, card held).
// Participants must answer a repeated command with the stored outcome, must
// accept a compensation of what never happened, and must refuse an action that
// arrives after its compensation.
//
// # Tables needed
//
// sagas at the orchestrator, see [Schema]; inbox and outbox at every side.
//
// # Built on
//
// shared/platform/postgres; shared/platform/tracing; shared/pattern/outbox, which sends commands and replies;
// shared/pattern/changerecord, which recognises one that comes twice;
// shared/pattern/reliableretries, for what is malformed.
//
// It brings into your module:
//
//	shared/pattern/changerecord, shared/pattern/outbox, shared/pattern/reliableretries, shared/platform/fault, shared/platform/postgres, shared/platform/postgres/txmark, shared/platform/problem, shared/platform/rabbit, shared/platform/required, shared/platform/tracing, shared/platform/wait
//	cenkalti/backoff, cloudevents/sdk-go, go-json-experiment/json, go.opentelemetry.io/otel, go.opentelemetry.io/otel/trace, google/uuid, jackc/pgx, prometheus/client_golang, rabbitmq/amqp091-go, vgarvardt/pgx-google-uuid
//
// # Used at
//
// services/orders (saga.go): the way of an order, as its orchestrator;
// services/payments and services/ledger (commands.go): its participants.
//
// # Source
//
// Thom Wright, "Designing for failure: Patterns": saga.
package saga
