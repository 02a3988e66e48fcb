package main

import (
	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/pattern/garbagecollection"
)

// garbageRules says what this service does not need any more. The books are not
// among it.
//
// Pattern: garbage-collection
func (s *service) garbageRules() []garbagecollection.Rule {
	return []garbagecollection.Rule{
		garbagecollection.SQL(s.db, "inbox", s.cfg.InboxRetention, changerecord.DeleteOld("/orders", "/payments")),
	}
}
