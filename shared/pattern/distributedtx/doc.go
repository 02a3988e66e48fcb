// Package distributedtx commits in several databases together, or in none: two-phase
// commit over PostgreSQL's prepared transactions.
//
// # Failure prevented
//
// Two books must move together. One commits, the process dies, and money has
// left one of them only.
//
// # What it guarantees
//
// A participant that has prepared can commit whatever happens to it. The
// coordinator commits its decision to a log before it tells any participant; from
// then on there is no other. The first call of Resolve or Decide for a transaction
// that was prepared and not decided rolls it back: the log takes one decision for a
// name, and only the first. So after a crash of any process all participants end on
// the same side, as soon as the coordinator runs Recover and answers with Decide. A
// caller that goes away stops nothing that has been prepared from being decided.
//
// # What it does not promise
//
// Isolation between the databases: for a moment one shows the new state and the
// other the old. Speed: six commits and the locks of a prepared transaction are
// held until the decision arrives, also while the coordinator is dead. Use it
// where few transactions must be atomic over few databases that you own, and a
// saga everywhere else.
//
// # Tables needed
//
// twophase_decisions at the coordinator, see [Schema]; and
// max_prepared_transactions above zero at every participant.
//
// # Built on
//
// shared/platform/postgres and Prometheus.
//
// It brings into your module:
//
//	shared/platform/fault, shared/platform/postgres, shared/platform/postgres/txmark, shared/platform/problem, shared/platform/required, shared/platform/wait
//	cenkalti/backoff, go-json-experiment/json, jackc/pgx, prometheus/client_golang, vgarvardt/pgx-google-uuid
//
// # Used at
//
// Payouts (services/payments/payout.go; services/ledger/twophase.go).
//
// # Source
//
// Thom Wright, "Designing for failure: Patterns": distributed transaction.
// Presumed abort: Mohan, Lindsay, Obermarck, "Transaction management in the R*
// distributed database management system" (1986).
package distributedtx
