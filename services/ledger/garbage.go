package main

import (
	"example.com/failwell/shared/pattern/garbage"
	"example.com/failwell/shared/pattern/inbox"
)

// garbageRules says what this service does not need any more. The books are not
// among it.
//
// Pattern: garbage-collection
func (s *service) garbageRules() []garbage.Rule {
	return []garbage.Rule{
		garbage.SQL(s.db, "inbox", s.cfg.InboxRetention, inbox.DeleteOld("/orders", "/payments")),
	}
}
