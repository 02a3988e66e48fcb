// Package postgres holds the few things every service does with PostgreSQL:
// open a pool, migrate, run a transaction, send a batch, classify an error.
//
// Two ways to write, and when to use which:
//
//   - A [Writer] sends a batch of statements in one round trip; together they are
//     one transaction. It suits work whose decisions can be left to constraints.
//     Nothing can be read and acted upon half-way. [Direct] gives each batch a
//     transaction of its own; [Grouped] lets batches that arrive together share one,
//     and keeps the same contract.
//   - [InTx] runs a function inside a transaction of several round trips, for
//     work that must look at a locked row before it decides.
//
// What survives a failure: a statement or a COMMIT that PostgreSQL answered with
// an error changed nothing. A COMMIT whose answer never came may have happened
// or not; it is reported as [ErrCommitUnknown] and must not be taken for a "no".
package postgres
