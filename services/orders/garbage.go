package main

import (
	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/pattern/garbagecollection"
	"example.com/failwell/shared/pattern/idempotency"
)

// garbageRules says what this service does not need any more. None of them
// selects anything that is unfinished: a callback that was parked stays until
// somebody has looked at it.
//
// Pattern: garbage-collection
func (s *service) garbageRules() []garbagecollection.Rule {
	return []garbagecollection.Rule{
		garbagecollection.SQL(s.db, "idempotency-keys", 0, idempotency.DeleteExpired),
		garbagecollection.SQL(s.db, "inbox", s.cfg.InboxRetention, changerecord.DeleteOld("/payments", "/ledger")),
		garbagecollection.SQL(s.db, "delivered-callbacks", s.cfg.CallbackRetention, callback.DeleteDelivered),
	}
}
