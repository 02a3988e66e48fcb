// Package reconciliation compares what we believe with what others say, and sorts the
// differences.
//
// # Failure prevented
//
// Two systems that are each right by their own lights drift apart: a webhook was
// never sent, a transfer left the bank and was not noted, a row was edited by
// hand. It stays unknown until a customer or an auditor does.
//
// # What it guarantees
//
// A run fetches the other side's statements page by page, keeps their lines, and
// compares both sides for every subject that the caller's Changed selects or a line of
// theirs names since the run before (and some time before that, and whatever was different then). Each
// difference is judged: pending, when it may only be a matter of time; resolved,
// when the ordinary code could fix it; unresolvable, when a person must look.
// Memory is bounded by a page and a chunk, whatever the size of either side. A run
// that dies is executed again and finds the same.
//
// Who makes no statement is left out of the run, and noted; the others are compared.
// The next run begins where the last one did that left no subject out. A difference whose
// mending fails is pending, and hides no other.
//
// One run waits at most, however often it is asked for. A caller can make a run begin
// earlier, and never later.
//
// # What it does not promise
//
// That nothing else is wrong: it sees what both sides write down, and a mistake
// that both make is none to it.
//
// # Tables needed
//
// statement_lines, reconciliations and reconciliation_differences, see [Schema]; leases, see postgres.LeasesSchema.
//
// # Built on
//
// shared/platform/postgres, for its leases, and Prometheus.
//
// It brings into your module:
//
//	shared/platform/fault, shared/platform/postgres, shared/platform/postgres/txmark, shared/platform/problem, shared/platform/required, shared/platform/wait
//	cenkalti/backoff, go-json-experiment/json, google/uuid, jackc/pgx, prometheus/client_golang, vgarvardt/pgx-google-uuid
//
// # Used at
//
// Payments with the processor's report, the bank's statement and the ledger
// (services/payments/reconcile.go).
//
// # Source
//
// Thom Wright, "Designing for failure: Patterns": reconciliation.
package reconciliation
