// Package wait sleeps no longer than its context lives.
package wait

import (
	"context"
	"time"
)

// For waits for d, or until ctx ends, and tells whether to go on. A loop in the
// background that slept through the end of ctx would hold up the stop of its process.
func For(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
