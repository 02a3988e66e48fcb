package reconciliation

import _ "embed"

// Schema creates the tables of this package. Copy it into a migration.
//
//go:embed schema.sql
var Schema string
