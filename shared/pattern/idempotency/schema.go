package idempotency

import _ "embed"

// Schema creates the table of this package; make it a migration of yours.
//
//go:embed schema.sql
var Schema string
