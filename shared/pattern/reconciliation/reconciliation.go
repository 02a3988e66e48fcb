package reconciliation

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/required"
)

// Schema creates the tables of this package. Copy it into a migration.
//
//go:embed schema.sql
var Schema string

// Line is a line of somebody's statement.
type Line struct {
	Source     string    `json:"source"` // the Reconciler sets it, and the run that has seen the line last
	Run        uuid.UUID `json:"run_id"`
	ID         string    `json:"line_id"`
	Kind       string    `json:"kind"`
	Reference  string    `json:"reference"`
	Subject    uuid.UUID `json:"subject"` // what the reference means here; uuid.Nil: nothing of ours
	MerchantID string    `json:"merchant_id"`
	Sign       int       `json:"sign"` // 1, or -1 for a line that takes an earlier one back
	Minor      int64     `json:"minor"`
	Currency   string    `json:"currency"`
	At         time.Time `json:"at"`
}

// Source is somebody who makes statements.
type Source struct {
	Name string

	// Fetch reads one page: lines since a time, from a cursor ("" at first). It
	// returns the cursor of the next page, "" at the end.
	Fetch func(ctx context.Context, since time.Time, cursor string) (lines []Line, next string, err error)
}

// Side is what one side says of one thing: how often, and how much in all.
type Side struct {
	Count    int64     `json:"count"`
	Minor    int64     `json:"minor"`
	Currency string    `json:"currency"`
	At       time.Time `json:"at"` // the latest
}

// Pair is both sides of one thing. At least one of them is there.
type Pair struct {
	Source, Kind string
	Subject      uuid.UUID
	Reference    string // the subject as the outside knows it
	MerchantID   string
	Ours, Theirs *Side
}

// Verdict sorts differences.
type Verdict string

// The three kinds.
const (
	Pending      Verdict = "pending"      // may be a matter of time; the next run looks again
	Resolved     Verdict = "resolved"     // fixed
	Unresolvable Verdict = "unresolvable" // a person must look
)

// Judgement is what is thought of a pair that differs.
type Judgement struct {
	Finding string // the kind of difference: amount-differs
	Verdict Verdict
	Note    string // for people
}

// Config is what a Reconciler needs. All of it is required except where it says otherwise.
type Config struct {
	DB      *pgxpool.Pool
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: none
	Holder  string                // this replica's name in the leases
	Sources []Source

	// Changed is SQL that selects the subjects we have touched since $1.
	Changed string

	// Expected is SQL that selects what we believe of the subjects in $1 (uuid[]):
	// source, kind, subject, count, minor, currency, at; at most one row for a
	// source, kind and subject.
	Expected string

	// Owners is SQL that selects subject, merchant_id and reference of those subjects
	// in $1 (uuid[]) that are ours. Whose a difference is must not depend on their
	// side: a bank knows no merchants.
	Owners string

	// Fetched is called when the statements are there, before the comparison. nil: nothing is.
	Fetched func(ctx context.Context) error

	// Judge looks at a pair that differs, and fixes it where it can. An error is
	// noted as pending, and the next run looks again.
	Judge func(ctx context.Context, p Pair) (Judgement, error)

	// Overlap is how long before the start of the last run a run begins to look. It must
	// exceed the time between something happening there and our noting it here.
	Overlap time.Duration

	// Every is the pause between two runs that no request asked for; 0: none.
	Every time.Duration

	// Poll is how often to look for runs that were asked for, and the first pause
	// after something failed; each further pause is twice as long.
	Poll time.Duration
}

// Reconciler runs reconciliations.
type Reconciler struct {
	Config
	wake    chan struct{}
	renewed time.Time // when our lease was extended last
}

const (
	// lease is how long a replica runs reconciliations without a sign of life.
	lease = 15 * time.Second

	// chunk bounds how many subjects one statement compares: a day's payments in one
	// statement would not end within its time-out.
	chunk = 5_000

	// pageTries is how often a page of a statement is asked for before its source
	// counts as dead for this run.
	pageTries = 4

	// longestPause bounds the pause before a run that broke off is executed again.
	longestPause = time.Minute
)

// errLeaseLost means: another replica runs reconciliations now.
var errLeaseLost = errors.New("reconciliation: the lease was taken over")

// New returns a reconciler that is not running yet. It panics when a field is missing.
func New(cfg Config) *Reconciler {
	required.Fields("reconciliation.Config", map[string]bool{
		"DB": cfg.DB != nil, "Logger": cfg.Logger != nil, "Holder": cfg.Holder != "", "Sources": len(cfg.Sources) > 0,
		"Changed": cfg.Changed != "", "Expected": cfg.Expected != "", "Owners": cfg.Owners != "",
		"Judge": cfg.Judge != nil, "Poll": cfg.Poll > 0,
	})
	r := &Reconciler{Config: cfg, wake: make(chan struct{}, 1)}
	r.observe()
	return r
}

// Request asks for a run and returns its id. A run goes on from the last one that compared
// everything, some time before it; since makes it begin earlier.
//
// One run waits at most, and a caller that asks while it does shares it: it begins at
// the earliest time that any of them wants. A run that has begun is not shared, it
// may be past what this caller wants to have looked at.
func (r *Reconciler) Request(ctx context.Context, since *time.Time) (uuid.UUID, error) {
	id := uuid.Must(uuid.NewV7())
	err := r.DB.QueryRow(ctx, `
		INSERT INTO reconciliations AS r (id, since)
		VALUES ($1, LEAST($2, COALESCE(
		       (SELECT max(requested_at) - $3::interval
		          FROM reconciliations
		         WHERE status = 'finished'
		           AND not_compared = '{}'
		           AND requested_at <= now()), -- one that is dated ahead was made under a wrong clock
		       '0001-01-01 00:00:00+00'))) -- time.Time's zero: it looks at everything
		    ON CONFLICT (status) WHERE status = 'requested' AND started_at IS NULL DO UPDATE
		   SET since = LEAST(r.since, EXCLUDED.since)
		RETURNING id`,
		id, since, r.Overlap).Scan(&id)
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return id, err
}

// Run executes what is asked for until ctx ends. A run whose process died is
// still asked for: the next holder of the lease executes it again.
func (r *Reconciler) Run(ctx context.Context) {
	pause := r.Poll
	for ctx.Err() == nil {
		wake := r.wake
		err := r.executeNext(ctx)
		switch {
		case err == nil:
			pause = r.Poll
		case ctx.Err() == nil:
			// Whatever it is, more of the same will not fix it.
			pause, wake = min(2*pause, longestPause), nil
			r.Logger.Error("reconciliation broke off, will be executed again", "error", err, "in", pause)
		}
		select {
		case <-wake:
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// executeNext executes the run that waits, or one that is due. What is due is read from
// the table: with a clock of its own, each replica would make its own runs, and one that
// is restarted all the time none.
func (r *Reconciler) executeNext(ctx context.Context) error {
	var waiting, due bool
	err := r.DB.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM reconciliations WHERE status = 'requested'),
		       $1::interval > '0' AND NOT EXISTS (
		       SELECT FROM reconciliations
		        WHERE requested_at BETWEEN now() - $1::interval AND now())`,
		r.Every).Scan(&waiting, &due)
	if err != nil || !waiting && !due {
		return err
	}
	r.renewed = time.Time{}
	if err := r.keepLease(ctx); errors.Is(err, errLeaseLost) {
		return nil // another replica is at it
	} else if err != nil {
		return err
	}
	if !waiting {
		if _, err := r.Request(ctx, nil); err != nil {
			return err
		}
	}
	var id uuid.UUID
	var since time.Time
	err = r.DB.QueryRow(ctx, `
		UPDATE reconciliations
		   SET started_at = now()
		 WHERE id = (SELECT id
		               FROM reconciliations
		              WHERE status = 'requested'
		              ORDER BY requested_at
		              LIMIT 1)
		RETURNING id, since`).Scan(&id, &since)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.execute(ctx, id, since)
}

// keepLease extends our lease when a third of it has passed, and fails when it is
// not ours any more. Call it as often as you like.
func (r *Reconciler) keepLease(ctx context.Context) error {
	if time.Since(r.renewed) < lease/3 {
		return nil
	}
	begun := time.Now()
	ours, err := postgres.TryLease(ctx, r.DB, "reconciliation", r.Holder, lease)
	if err != nil {
		return err
	}
	if !ours {
		return errLeaseLost
	}
	r.renewed = begun
	return nil
}

// execute runs one reconciliation from beginning to end. Everything in it can be
// done twice.
//
//  1. Fetch the statements. Each page is kept before the next is asked for. Who
//     does not answer is left out of the comparison: a bank that is down must not
//     keep us from seeing what the processor says.
//  2. Compare what there is something to compare of, chunk by chunk, and judge what differs.
//
// Pattern: reconciliation
func (r *Reconciler) execute(ctx context.Context, id uuid.UUID, since time.Time) error {
	notCompared := []string{}
	for _, source := range r.Sources {
		whole, err := r.fetch(ctx, id, source, since)
		if err != nil {
			return fmt.Errorf("statement of %s: %w", source.Name, err)
		}
		if !whole {
			notCompared = append(notCompared, source.Name)
		}
	}
	if err := fault.Point(ctx, fault.ReconcileAfterFetch); err != nil {
		return err
	}
	if r.Fetched != nil {
		if err := r.Fetched(ctx); err != nil {
			return fmt.Errorf("when fetched: %w", err)
		}
	}
	return r.compare(ctx, id, since, notCompared)
}
