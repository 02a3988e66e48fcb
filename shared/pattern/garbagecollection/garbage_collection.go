package garbagecollection

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/required"
	"example.com/failwell/shared/platform/wait"
)

const (
	// batch is how much one transaction deletes: enough to be worth a commit, few
	// enough to be over in milliseconds.
	batch = 500

	// idleFactor is how many times as long as a batch took the collector pauses after
	// it: at most a quarter of one connection's time is garbage collection.
	idleFactor = 3

	// lease is how long a replica is the collector without a sign of life.
	lease = time.Minute
)

// Rule says what is garbage, and deletes some of it.
type Rule struct {
	Name string

	// Collect deletes up to limit things, and tells how many. Fewer than limit
	// means that there is nothing left for now.
	Collect func(ctx context.Context, limit int) (deleted int64, err error)
}

// SQL makes a rule of a DELETE; $1 is how long things are kept, $2 the limit.
func SQL(db *pgxpool.Pool, name string, keep time.Duration, statement string) Rule {
	return Rule{Name: name, Collect: func(ctx context.Context, limit int) (int64, error) {
		tag, err := db.Exec(ctx, statement, keep, limit)
		return tag.RowsAffected(), err
	}}
}

// Config is what a Collector needs. All of it is required except Metrics.
type Config struct {
	DB      *pgxpool.Pool
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	Holder  string // this replica's name in the leases
	Rules   []Rule

	// Every is the pause between two rounds.
	Every time.Duration
}

// Collector applies rules.
type Collector struct {
	Config
	collected *prometheus.CounterVec
}

// New returns a collector that is not running yet. It panics when a field is missing.
func New(cfg Config) *Collector {
	required.Fields("garbagecollection.Config", map[string]bool{
		"DB": cfg.DB != nil, "Logger": cfg.Logger != nil, "Holder": cfg.Holder != "", "Rules": len(cfg.Rules) > 0, "Every": cfg.Every > 0,
	})
	c := &Collector{Config: cfg, collected: promauto.With(cfg.Metrics).NewCounterVec(prometheus.CounterOpts{
		Name: "failwell_garbage_collected_total",
		Help: "Things deleted because they are not needed any more, by rule.",
	}, []string{"rule"})}
	for _, rule := range cfg.Rules {
		c.collected.WithLabelValues(rule.Name) // at zero: an increase from nothing is none
	}
	postgres.ObserveLeases(cfg.Metrics, cfg.DB, cfg.Holder)
	return c
}

// Run collects until ctx ends.
func (c *Collector) Run(ctx context.Context) {
	for wait.For(ctx, c.Every) {
		for _, rule := range c.Rules {
			if err := c.runOnce(ctx, rule); err != nil && ctx.Err() == nil {
				c.Logger.Warn("garbage collection broke off, will go on in the next round", "rule", rule.Name, "error", err)
			}
		}
	}
}

// runOnce applies one rule until nothing is left.
//
// Pattern: garbage-collection
func (c *Collector) runOnce(ctx context.Context, rule Rule) error {
	for {
		ours, err := postgres.TryLease(ctx, c.DB, "garbage:"+rule.Name, c.Holder, lease)
		if err != nil || !ours {
			return err
		}
		begun := time.Now()
		deleted, err := rule.Collect(ctx, batch)
		c.collected.WithLabelValues(rule.Name).Add(float64(deleted))
		if err != nil {
			return err
		}
		if deleted > 0 {
			if err := fault.Point(ctx, fault.GarbageAfterBatch); err != nil {
				return err
			}
		}
		if deleted < batch || !wait.For(ctx, idleFactor*time.Since(begun)) {
			return nil
		}
	}
}
