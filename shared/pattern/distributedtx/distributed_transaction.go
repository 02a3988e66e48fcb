package distributedtx

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/required"
	"example.com/failwell/shared/platform/wait"
)

// Schema creates the table of this package. Copy it into a migration.
//
//go:embed schema.sql
var Schema string

// Decision is the fate of a distributed transaction.
type Decision string

// The two of them.
const (
	Committed Decision = "commit"
	Aborted   Decision = "abort"
)

// Participant is a database that takes part, as the coordinator sees it. Both
// calls can be repeated any number of times.
type Participant struct {
	Name     string
	Commit   func(ctx context.Context, gid string) error
	Rollback func(ctx context.Context, gid string) error
}

// Config is what a Coordinator needs. All of it is required except Metrics.
type Config struct {
	DB           *pgxpool.Pool
	Logger       *slog.Logger
	Metrics      prometheus.Registerer // nil: none
	Participants []Participant

	// LocalPrefix begins the names of the coordinator's own prepared transactions.
	LocalPrefix string

	// Timeout is how long a transaction may stay undecided before Recover
	// aborts it. It must exceed what preparing takes.
	Timeout time.Duration

	// Sweep is how often RunRecovery looks for what was left behind.
	Sweep time.Duration
}

// Coordinator decides.
type Coordinator struct {
	Config
	age prometheus.Gauge
}

// NewCoordinator returns a coordinator whose recovery is not running yet. It panics when
// a field is missing.
func NewCoordinator(cfg Config) *Coordinator {
	required.Fields("distributedtx.Config", map[string]bool{
		"DB": cfg.DB != nil, "Logger": cfg.Logger != nil, "Participants": len(cfg.Participants) > 0, "LocalPrefix": cfg.LocalPrefix != "",
		"Timeout": cfg.Timeout > 0, "Sweep": cfg.Sweep > 0,
	})
	return &Coordinator{Config: cfg, age: promauto.With(cfg.Metrics).NewGauge(prometheus.GaugeOpts{
		Name: "failwell_prepared_transaction_age_seconds",
		Help: "Age of the oldest transaction of ours that is prepared and has not ended. It holds locks, and keeps vacuum from its work.",
	})}
}

// endTimeout bounds deciding and telling all participants. Neither ends with the
// caller's context. A participant that has prepared holds locks; if a client hung up or
// a process was asked to stop, it would hold them until a recovery. A process that stops
// has ten seconds in all.
const endTimeout = 7 * time.Second

// Run runs one distributed transaction. A ctx that ends stops the preparing,
// and nothing later.
//
//  1. All prepare. Power fails here: nothing is decided, so it is aborted.
//  2. The decision is committed to the log. This is the moment of truth.
//  3. All are told. Power fails here: Recover tells them again.
//
// The error is that of the first prepare that failed, with decision Aborted; or
// means that the decision is not known to us, or not carried out yet everywhere
// (the decision is then final all the same, and Recover carries it out).
//
// Pattern: distributed-transaction
func (c *Coordinator) Run(ctx context.Context, gid string, prepare ...func(ctx context.Context) error) (Decision, error) {
	for _, vote := range prepare {
		if cause := vote(ctx); cause != nil {
			// Also when the answer was lost and it is prepared after all: that is
			// what the rollback is for.
			decision, err := c.Resolve(ctx, gid)
			if err == nil && decision == Aborted {
				return Aborted, cause
			}
			return decision, errors.Join(cause, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	decision, err := c.recordDecision(ctx, gid, Committed)
	if err != nil {
		return "", err
	}
	if err := fault.Point(ctx, fault.TwoPhaseAfterDecision); err != nil {
		return decision, err
	}
	return decision, c.carryOut(ctx, gid, decision)
}

// Resolve ends a transaction that was begun: if it was decided, that is carried out;
// if not, it is aborted now, and a run that still works on it finds that out when it
// tries to decide.
func (c *Coordinator) Resolve(ctx context.Context, gid string) (Decision, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	decision, err := c.recordDecision(ctx, gid, Aborted)
	if err != nil {
		return "", err
	}
	return decision, c.carryOut(ctx, gid, decision)
}

// Decide answers a participant that has prepared and heard nothing since.
func (c *Coordinator) Decide(ctx context.Context, gid string) (Decision, error) {
	return c.recordDecision(ctx, gid, Aborted)
}

// recordDecision writes the decision, unless there is one, and returns the one that
// stands. Of two decisions at once, the primary key lets one stand.
func (c *Coordinator) recordDecision(ctx context.Context, gid string, wanted Decision) (Decision, error) {
	var decision Decision
	err := c.DB.QueryRow(ctx, `
		INSERT INTO twophase_decisions AS d (gid, decision)
		VALUES ($1, $2)
		    ON CONFLICT (gid) DO UPDATE
		   SET gid = d.gid
		RETURNING decision`,
		gid, wanted).Scan(&decision)
	if err != nil {
		return "", fmt.Errorf("distributedtx: decision on %s: %w", gid, err)
	}
	return decision, nil
}

// carryOut tells every participant, and notes when all have obeyed.
func (c *Coordinator) carryOut(ctx context.Context, gid string, decision Decision) error {
	var all error
	for _, p := range c.Participants {
		tell := p.Commit
		if decision == Aborted {
			tell = p.Rollback
		}
		if err := tell(ctx, gid); err != nil {
			all = errors.Join(all, fmt.Errorf("distributedtx: %s %s at %s: %w", decision, gid, p.Name, err))
		}
	}
	if all != nil {
		return all
	}
	if err := fault.Point(ctx, fault.TwoPhaseAfterCommit); err != nil {
		return err
	}
	_, err := c.DB.Exec(ctx, `
		UPDATE twophase_decisions
		   SET finished_at = now()
		 WHERE gid = $1
		   AND finished_at IS NULL`,
		gid)
	return err
}

// recoverBatch bounds one sweep.
const recoverBatch = 100

// RunRecovery calls Recover every Sweep until ctx ends.
func (c *Coordinator) RunRecovery(ctx context.Context) {
	for {
		if err := c.Recover(ctx); err != nil && ctx.Err() == nil {
			c.Logger.Warn("distributed transactions left in doubt, will be looked at again", "error", err)
		}
		if !wait.For(ctx, c.Sweep) {
			return
		}
	}
}

// Recover ends what was left behind: decisions that were not carried out
// everywhere, and own prepared transactions without a decision. Replicas may do it
// side by side.
//
// Pattern: completer
func (c *Coordinator) Recover(ctx context.Context) error {
	rows, _ := c.DB.Query(ctx, `
		SELECT gid
		  FROM twophase_decisions
		 WHERE finished_at IS NULL
		   AND decided_at NOT BETWEEN now() - $1::interval AND now() + interval '1 minute' -- ahead: the clock was wrong
		 ORDER BY decided_at
		 LIMIT $2`,
		c.Timeout, recoverBatch)
	gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	prepared, err := InDoubt(ctx, c.DB, c.LocalPrefix)
	if err != nil {
		return err
	}
	c.measure(prepared)
	for _, p := range prepared {
		if p.Age >= c.Timeout {
			gids = append(gids, p.GID[len(c.LocalPrefix):])
		}
	}
	var all error
	for _, gid := range gids {
		if ctx.Err() != nil {
			break // Resolve would not notice; the next process goes on
		}
		decision, err := c.Resolve(ctx, gid)
		if err == nil {
			c.Logger.Warn("distributed transaction recovered", "gid", gid, "decision", decision)
		}
		all = errors.Join(all, err)
	}
	return all
}

// measure shows the age of the oldest.
func (c *Coordinator) measure(prepared []Prepared) {
	c.age.Set(0)
	if len(prepared) > 0 {
		c.age.Set(prepared[0].Age.Seconds())
	}
}
