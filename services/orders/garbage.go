package main

import (
	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/pattern/garbagecollection"
)

// garbageRules says what this service does not need any more. None of them
// selects anything that is unfinished: a callback that was parked stays until
// somebody has looked at it.
//
// Pattern: garbage-collection
func (s *service) garbageRules() []garbagecollection.Rule {
	return []garbagecollection.Rule{
		garbagecollection.SQL(s.db, "idempotency-keys", 0, `
			DELETE FROM idempotency_keys
			 WHERE ctid = ANY(ARRAY(
			       SELECT ctid
			         FROM idempotency_keys
			        WHERE expires_at <= now() - $1::interval
			        ORDER BY expires_at
			        LIMIT $2
			          FOR UPDATE SKIP LOCKED))`),
		garbagecollection.SQL(s.db, "inbox", s.cfg.InboxRetention, changerecord.DeleteOld("/payments", "/ledger")),
		garbagecollection.SQL(s.db, "delivered-callbacks", s.cfg.CallbackRetention, callback.DeleteDelivered),
	}
}
