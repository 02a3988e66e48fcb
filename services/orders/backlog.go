package main

import (
	"context"
	"net/http"
	"time"

	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/wait"
	"example.com/failwell/shared/platform/web"
)

const (
	// backlogEvery is how often unfinished orders are counted. In between, more than the
	// limit may be accepted, by as many as come in that time.
	backlogEvery = 250 * time.Millisecond

	// backlogRetryAfter is when a client that was turned away should come again.
	backlogRetryAfter = 5 * time.Second
)

// countBacklog counts the unfinished orders until ctx ends, if there is a limit to them.
func (s *service) countBacklog(ctx context.Context) {
	if s.cfg.MaxUnfinishedOrders == 0 {
		return
	}
	for {
		unfinished, err := saga.CountOpen(ctx, s.db, s.cfg.MaxUnfinishedOrders)
		if err == nil {
			s.full.Store(unfinished >= s.cfg.MaxUnfinishedOrders)
			s.metrics.unfinished.Set(float64(unfinished))
		} else if ctx.Err() == nil {
			s.log.Warn("counting unfinished orders failed, will count again", "error", err)
		}
		if !wait.For(ctx, backlogEvery) {
			return
		}
	}
}

// shedLoad turns a new order away while too many are unfinished. Without it, more orders than
// the system can finish would wait for each other, their commands would be sent again for
// want of a reply, and the repeats would take the place of the work. The retry of an order that
// was accepted is not turned away: it gets its answer.
func (s *service) shedLoad() error {
	if !s.full.Load() {
		return nil
	}
	s.metrics.shed.Inc()
	return web.NewProblem(http.StatusServiceUnavailable, "overloaded", "Too many orders are unfinished",
		"Nothing was done. Repeat the request with the same Idempotency-Key.").WithRetryAfter(backlogRetryAfter)
}
