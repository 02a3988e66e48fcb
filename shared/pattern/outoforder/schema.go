package outoforder

import _ "embed"

// Schema creates the table of this package. Copy it into a migration.
//
//go:embed schema.sql
var Schema string
