// Package saga runs a series of transactions in several services that can be
// walked back.
//
// # Failure prevented
//
// The card is declined after the stock was taken; the books refuse after the
// card was held. Without a saga the steps that were done stay done: stock and
// money leak with each refusal, and after a crash nobody knows how far it got.
//
// # What it guarantees
//
// A saga ends completed (every action done) or undone (every action that may
// have been done is compensated, in reverse), whatever crashes in between: its
// state is a row, written in one transaction with the command it sends. A step
// whose answer does not come is asked again, with the same meaning, until the
// answer is definite; silence is never taken for a refusal. A compensation is
// due from the moment its action was asked for, not from the moment it
// succeeded: a step that timed out is undone too.
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
// sagas, see schema.sql.
//
// # Built on
//
// shared/platform/postgres; its user sends commands through shared/pattern/outbox
// and receives replies behind shared/pattern/changerecord.
//
// # Used at
//
// services/orders (saga.go): the way of an order.
//
// # Source
//
// Thom Wright, "Designing for failure: Patterns": saga.
package saga
