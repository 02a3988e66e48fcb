// Package garbagecollection finds and deletes what is not needed any more.
//
// # Failure prevented
//
// Keys, change records and delivered callbacks are written with every request
// and are needed for days. Without an end, the tables that make the system safe
// are what fills its disks and slows it down.
//
// # What it guarantees
//
// What a rule selects is deleted in small batches, each its own transaction, with
// pauses, by one replica at a time. Traffic beside it meets short locks on rows
// that no row uses.
//
// # What it does not promise
//
// To know what is garbage: each rule says so in SQL, in the service that owns the
// table. A rule must select nothing that is unfinished, and nothing that a retry,
// a redelivery or a recovery could still ask for. That is what the periods are for:
// each must exceed the longest time after which somebody can come back.
//
// # Tables needed
//
// leases, see postgres.LeasesSchema.
//
// # Built on
//
// shared/platform/postgres, for its leases, and Prometheus.
//
// It brings into your module:
//
//	shared/platform/fault, shared/platform/postgres, shared/platform/postgres/txmark, shared/platform/problem, shared/platform/required, shared/platform/wait
//	cenkalti/backoff, go-json-experiment/json, jackc/pgx, prometheus/client_golang, vgarvardt/pgx-google-uuid
//
// # Used at
//
// services/orders and services/payments (garbage.go), services/ledger (main.go).
//
// # Source
//
// Thom Wright, "Designing for failure: Patterns": garbage collection.
package garbagecollection
