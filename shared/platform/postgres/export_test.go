package postgres

import "time"

// SetTimeout replaces commitTimeout, before the first Write.
func (g *GroupCommitter) SetTimeout(d time.Duration) { g.timeout = d }

// Waiting is how many are handed in and not in a transaction yet.
func (g *GroupCommitter) Waiting() int { return len(g.queue) }

// ErrNotBegun is for the table of errors.
var ErrNotBegun = errNotBegun

// CommitError is what becomes of an error of a COMMIT.
func CommitError(err error) error { return commitError(err) }
