package completer

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/required"
	"example.com/failwell/shared/platform/tracing"
	"example.com/failwell/shared/platform/wait"
)

// atOnce is how many pieces of work are finished at the same time: one that
// waits for a system that does not answer must not hold up the others.
const atOnce = 8

// Config is what a Completer needs. All of it is required except Metrics.
type Config struct {
	DB      *pgxpool.Pool
	Logger  *slog.Logger
	Metrics prometheus.Registerer

	// Finish goes on with one piece of work, by operation ("POST /v1/refunds").
	// It returns nil when the work is finished and the key is too.
	Finish map[string]func(ctx context.Context, lock idempotency.Lock) error

	// Every is how often to look, Lease how long a piece of work may go without a
	// sign of life, and Grace how long its client has to retry by itself.
	Every, Lease, Grace time.Duration
}

// Completer finishes abandoned work.
type Completer struct {
	Config
	tries *prometheus.CounterVec
}

// New returns a completer that is not running yet. It panics when a field is missing.
func New(cfg Config) *Completer {
	required.Fields("completer.Config", map[string]bool{
		"DB": cfg.DB != nil, "Logger": cfg.Logger != nil, "Finish": len(cfg.Finish) > 0, "Every": cfg.Every > 0, "Lease": cfg.Lease > 0,
	})
	c := &Completer{Config: cfg, tries: promauto.With(cfg.Metrics).NewCounterVec(prometheus.CounterOpts{
		Name: "failwell_completer_total",
		Help: "Abandoned work that was taken over, by operation and by what became of it: finished, failed (will be tried again).",
	}, []string{"operation", "outcome"})}
	for operation := range cfg.Finish { // at zero: an alarm sees no increase where there was nothing before
		c.tries.WithLabelValues(operation, "finished")
		c.tries.WithLabelValues(operation, "failed")
	}
	return c
}

// Run finishes abandoned work until ctx ends.
func (c *Completer) Run(ctx context.Context) {
	for {
		for operation, finish := range c.Finish {
			if err := c.runOnce(ctx, operation, finish); err != nil && ctx.Err() == nil {
				c.Logger.Warn("completer: looking for abandoned work failed, will look again", "operation", operation, "error", err)
			}
		}
		if !wait.For(ctx, c.Every) {
			return
		}
	}
}

// runOnce takes over what was abandoned, and goes on with it side by side, as long
// as there is more of it than that and some of it gets done. After an outage
// thousands wait; a few at each look would take hours.
//
// Pattern: completer
func (c *Completer) runOnce(ctx context.Context, operation string, finish func(context.Context, idempotency.Lock) error) error {
	for {
		locks, err := idempotency.ClaimAbandoned(ctx, c.DB, operation, c.Lease, c.Grace, atOnce)
		if err != nil {
			return err
		}
		var working sync.WaitGroup
		var finished atomic.Int32
		for _, lock := range locks {
			working.Go(func() {
				ctx, span := tracing.Continue(ctx, lock.Traceparent, "complete "+operation)
				outcome, err := "finished", finish(ctx, lock)
				tracing.End(span, err)
				if err != nil {
					outcome = "failed"
					c.Logger.WarnContext(ctx, "completer: work not finished, will be tried again", "operation", operation, "id", lock.OperationID, "error", err)
					// Given back at once: a stop of this process must not cost its successor a lease.
					if err := lock.Release(context.WithoutCancel(ctx), c.DB); err != nil {
						c.Logger.WarnContext(ctx, "completer: key not given back, its lease will end", "id", lock.OperationID, "error", err)
					}
				} else {
					finished.Add(1)
				}
				c.tries.WithLabelValues(operation, outcome).Inc()
			})
		}
		working.Wait()
		if len(locks) < atOnce || finished.Load() == 0 || ctx.Err() != nil {
			return nil //nolint:nilerr // what was left is found again at the next look; ctx ending is no failure
		}
	}
}
