package main

import (
	"example.com/failwell/shared/pattern/garbage"
	"example.com/failwell/shared/pattern/inbox"
)

// garbageRules says what this service does not need any more. None of them
// selects anything that is unfinished.
//
// Pattern: garbage-collection
func (s *service) garbageRules() []garbage.Rule {
	return []garbage.Rule{
		garbage.SQL(s.db, "idempotency-keys", 0, `
			DELETE FROM idempotency_keys
			 WHERE ctid = ANY(ARRAY(
			       SELECT ctid
			         FROM idempotency_keys
			        WHERE expires_at <= now() - $1::interval
			          AND status IS NOT NULL
			        ORDER BY expires_at
			        LIMIT $2
			          FOR UPDATE SKIP LOCKED))`),
		garbage.SQL(s.db, "inbox", s.cfg.InboxRetention, inbox.DeleteOld("/orders")),
		garbage.SQL(s.db, "applied-events", s.cfg.InboxRetention, `
			DELETE FROM sequence_events
			 WHERE ctid = ANY(ARRAY(
			       SELECT ctid
			         FROM sequence_events
			        WHERE applied_at <= now() - $1::interval
			        ORDER BY applied_at
			        LIMIT $2))`),
		// A decision that everybody has carried out is asked for by nobody. A
		// prepare that was delayed for longer than this period would be told
		// "abort", and the books refuse it anyway: they have its source already.
		garbage.SQL(s.db, "twophase-decisions", s.cfg.InboxRetention, `
			DELETE FROM twophase_decisions
			 WHERE ctid = ANY(ARRAY(
			       SELECT ctid
			         FROM twophase_decisions
			        WHERE finished_at <= now() - $1::interval
			        ORDER BY finished_at
			        LIMIT $2))`),
		// The guard of a payout that is finished guards nothing: its recovery point
		// lets nobody near the bank again.
		garbage.SQL(s.db, "guards", s.cfg.InboxRetention, `
			DELETE FROM guards
			 WHERE name IN (
			       SELECT 'bank-transfer:pyo_' || id
			         FROM payouts
			        WHERE recovery_point = 'finished'
			          AND finished_at <= now() - $1::interval
			          AND EXISTS (SELECT FROM guards WHERE name = 'bank-transfer:pyo_' || payouts.id)
			        LIMIT $2)`),
		{Name: "receipts", Collect: s.sweepReceipts},
	}
}
