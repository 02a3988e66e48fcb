// Package atmostonce makes sure that something is never done twice, at the price that
// it may not be done at all.
//
// # Failure prevented
//
// The other side takes no key: a bank transfer that is asked for twice is two
// transfers. The call times out, the retry pays again.
//
// # What it guarantees
//
// Of all callers that enter a guard, now or later, one is let through, once. Entering is
// committed before the call is made, so a crash, a time-out or a lost commit can
// only lead to "it may have been done", never to a second call.
//
// # What it does not promise
//
// That the call is made: a process that dies between entering and calling leaves a
// guard behind that is never passed again. The outcome is then unknown until it is looked
// up on the other side: by reconciliation, or by a person.
//
// # Tables needed
//
// guards, see [Schema].
//
// # Built on
//
// pgx, and nothing else of ours: [Enter] takes any pgx.Tx.
//
// It brings into your module:
//
//	jackc/pgx
//
// # Used at
//
// The bank transfer of a payout (services/payments/payout.go).
//
// # Source
//
// Thom Wright, "Designing for failure: Patterns": at-most-once guard.
package atmostonce
