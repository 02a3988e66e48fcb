package main

import (
	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/pattern/garbagecollection"
	"example.com/failwell/shared/pattern/idempotency"
)

// goneOnFrom is true of a run r from which no later one needs to know anything.
const goneOnFrom = `r.requested_at < (
			              SELECT max(requested_at)
			                FROM reconciliations
			               WHERE status = 'finished'
			                 AND not_compared = '{}'
			                 AND requested_at <= now())`

// garbageRules says what this service does not need any more. None of them
// selects anything that is unfinished.
//
// Pattern: garbage-collection
func (s *service) garbageRules() []garbagecollection.Rule {
	return []garbagecollection.Rule{
		garbagecollection.SQL(s.db, "idempotency-keys", 0, idempotency.DeleteExpired),
		garbagecollection.SQL(s.db, "inbox", s.cfg.InboxRetention, changerecord.DeleteOld("/orders")),
		garbagecollection.SQL(s.db, "applied-events", s.cfg.InboxRetention, `
			DELETE FROM received_events
			 WHERE ctid = ANY(ARRAY(
			       SELECT ctid
			         FROM received_events
			        WHERE applied_at <= now() - $1::interval
			        ORDER BY applied_at
			        LIMIT $2))`),
		// No process asks for a decision that everybody has carried out. A
		// prepare that was delayed for longer than this period would be told
		// "abort", and the books refuse it anyway: they have its source already.
		garbagecollection.SQL(s.db, "twophase-decisions", s.cfg.InboxRetention, `
			DELETE FROM twophase_decisions
			 WHERE ctid = ANY(ARRAY(
			       SELECT ctid
			         FROM twophase_decisions
			        WHERE finished_at <= now() - $1::interval
			        ORDER BY finished_at
			        LIMIT $2))`),
		// The guard of a payout that is finished guards nothing: its recovery point
		// lets no process near the bank again.
		garbagecollection.SQL(s.db, "guards", s.cfg.InboxRetention, `
			DELETE FROM guards
			 WHERE name = ANY(ARRAY(
			       SELECT g.name
			         FROM guards g
			        WHERE g.entered_at <= now() - $1::interval
			          AND EXISTS (
			              SELECT FROM payouts p
			               WHERE p.id = CASE WHEN g.name LIKE 'bank-transfer:pyo\_%' THEN substr(g.name, 19)::uuid END
			                 AND p.recovery_point = 'finished'
			                 AND p.finished_at <= now() - $1::interval)
			        ORDER BY g.entered_at
			        LIMIT $2))`),
		// A run is remembered for the next one to go on from: the last that compared
		// everything, and those since. What earlier ones found is a matter of record.
		garbagecollection.SQL(s.db, "reconciliation-differences", s.cfg.InboxRetention, `
			DELETE FROM reconciliation_differences
			 WHERE ctid = ANY(ARRAY(
			       SELECT d.ctid
			         FROM reconciliation_differences d
			         JOIN reconciliations r ON r.id = d.run_id
			        WHERE r.finished_at <= now() - $1::interval
			          AND `+goneOnFrom+`
			        LIMIT $2))`),
		garbagecollection.SQL(s.db, "reconciliations", s.cfg.InboxRetention, `
			DELETE FROM reconciliations
			 WHERE id = ANY(ARRAY(
			       SELECT r.id
			         FROM reconciliations r
			        WHERE r.finished_at <= now() - $1::interval
			          AND `+goneOnFrom+`
			          AND NOT EXISTS (SELECT FROM reconciliation_differences WHERE run_id = r.id)
			        LIMIT $2))`),
		{Name: "receipts", Collect: s.sweepReceipts},
	}
}
