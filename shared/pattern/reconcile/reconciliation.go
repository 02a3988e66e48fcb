package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
)

// Line is a line of somebody's statement.
type Line struct {
	ID         string
	Kind       string
	Reference  string
	Subject    uuid.UUID // what the reference means here; uuid.Nil: nothing of ours
	MerchantID string
	Sign       int // 1, or -1 for a line that takes an earlier one back
	Minor      int64
	Currency   string
	At         time.Time
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
	Reference    string // theirs, if they have it
	MerchantID   string
	Ours, Theirs *Side
}

// Verdict sorts differences.
type Verdict string

// The three kinds.
const (
	Pending      Verdict = "pending"      // may be a matter of time; the next run looks again
	Resolved     Verdict = "resolved"     // mended
	Unresolvable Verdict = "unresolvable" // a person must look
)

// Judgement is what is thought of a pair that differs.
type Judgement struct {
	Finding string // the kind of difference: amount-differs
	Verdict Verdict
	Note    string // for people
}

// Reconciler runs reconciliations.
type Reconciler struct {
	DB      *pgxpool.Pool
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	Holder  string
	Sources []Source

	// Changed is SQL that selects the subjects we have touched since $1.
	Changed string

	// Expected is SQL that selects what we believe of the subjects in $1 (uuid[]):
	// source, kind, subject, merchant_id, count, minor, currency, at; at most one
	// row for a source, kind and subject.
	Expected string

	// Fetched is called when the statements are there, before the comparison.
	Fetched func(ctx context.Context) error

	// Reference writes a subject as the outside knows it.
	Reference func(p Pair) string

	// Judge looks at a pair that differs, and mends it where it can.
	Judge func(ctx context.Context, p Pair) (Judgement, error)

	// Overlap is how far a run looks back behind the one before. It must exceed
	// the time between something happening there and our noting it here.
	Overlap time.Duration

	// Every is the pause between two runs that nobody asked for; 0: none.
	Every time.Duration

	// Poll is how often to look for runs that were asked for.
	Poll time.Duration

	wake        chan struct{}
	differences *prometheus.GaugeVec
}

// lease is how long a replica runs reconciliations without a sign of life.
const lease = 15 * time.Second

// chunk bounds how many subjects are compared by one statement.
const chunk = 5_000

// Init prepares the reconciler; call it once.
func (r *Reconciler) Init() {
	r.wake = make(chan struct{}, 1)
	r.differences = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "failwell_reconciliation_differences",
		Help: "Differences of the last reconciliation, by source and verdict.",
	}, []string{"source", "verdict"})
	if r.Metrics != nil {
		r.Metrics.MustRegister(r.differences)
	}
}

// Request asks for a run and returns its id. since overrides where it begins.
func (r *Reconciler) Request(ctx context.Context, since *time.Time) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return id, err
	}
	_, err = r.DB.Exec(ctx, `
		INSERT INTO reconciliations (id, since)
		SELECT $1, COALESCE($2::timestamptz,
		       (SELECT max(requested_at) - $3::interval
		          FROM reconciliations
		         WHERE status = 'finished'))`,
		id, since, r.Overlap)
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return id, err
}

// Run executes what is asked for until ctx ends. A run whose process died is
// still asked for: whoever gets the lease executes it again.
func (r *Reconciler) Run(ctx context.Context) {
	last := time.Now()
	for ctx.Err() == nil {
		if r.Every > 0 && time.Since(last) > r.Every {
			last = time.Now()
			if _, err := r.Request(ctx, nil); err != nil && ctx.Err() == nil {
				r.Logger.Warn("reconciliation not begun, will be tried later", "error", err)
			}
		}
		if err := r.executeNext(ctx); err != nil && ctx.Err() == nil {
			r.Logger.Warn("reconciliation broke off, will be executed again", "error", err)
		}
		select {
		case <-r.wake:
		case <-time.After(r.Poll):
		case <-ctx.Done():
		}
	}
}

func (r *Reconciler) executeNext(ctx context.Context) error {
	ours, err := postgres.TryLease(ctx, r.DB, "reconciliation", r.Holder, lease)
	if err != nil || !ours {
		return err
	}
	rows, err := r.DB.Query(ctx, `
		SELECT id, since
		  FROM reconciliations
		 WHERE status = 'requested'
		 ORDER BY requested_at
		 LIMIT 1`)
	if err != nil {
		return err
	}
	type run struct {
		ID    uuid.UUID
		Since *time.Time
	}
	next, err := pgx.CollectRows(rows, pgx.RowToStructByPos[run])
	if err != nil || len(next) == 0 {
		return err
	}
	since := time.Time{}
	if next[0].Since != nil {
		since = *next[0].Since
	}
	return r.execute(ctx, next[0].ID, since)
}

// execute runs one reconciliation from beginning to end. Everything in it can be
// done twice.
//
//  1. Fetch the statements. Each page is kept before the next is asked for.
//  2. Note every subject that there is something to compare of.
//  3. Compare them, chunk by chunk, and judge what differs.
//
// Pattern: reconciliation
func (r *Reconciler) execute(ctx context.Context, id uuid.UUID, since time.Time) error {
	for _, source := range r.Sources {
		if err := r.fetch(ctx, id, source, since); err != nil {
			return fmt.Errorf("statement of %s: %w", source.Name, err)
		}
	}
	if err := fault.Point(ctx, fault.ReconcileAfterFetch); err != nil {
		return err
	}
	if err := r.Fetched(ctx); err != nil {
		return err
	}
	_, err := r.DB.Exec(ctx, `
		INSERT INTO reconciliation_subjects (run_id, subject)
		SELECT $2::uuid, changed.subject
		  FROM (`+r.Changed+`) AS changed (subject)
		    ON CONFLICT DO NOTHING`,
		since, id)
	if err != nil {
		return fmt.Errorf("what changed: %w", err)
	}
	// What was different last time and not mended.
	_, err = r.DB.Exec(ctx, `
		INSERT INTO reconciliation_subjects (run_id, subject)
		SELECT DISTINCT $1::uuid, subject
		  FROM reconciliation_differences
		 WHERE run_id = (SELECT id
		                   FROM reconciliations
		                  WHERE status = 'finished'
		                  ORDER BY requested_at DESC
		                  LIMIT 1)
		   AND verdict <> 'resolved'
		    ON CONFLICT DO NOTHING`,
		id)
	if err != nil {
		return fmt.Errorf("what was different: %w", err)
	}
	return r.compare(ctx, id)
}

// fetch keeps one side's lines, and notes their subjects.
func (r *Reconciler) fetch(ctx context.Context, id uuid.UUID, source Source, since time.Time) error {
	for cursor, first := "", true; first || cursor != ""; first = false {
		lines, next, err := source.Fetch(ctx, since, cursor)
		if err != nil {
			return err
		}
		cursor = next
		if err := r.keep(ctx, id, source.Name, lines); err != nil {
			return err
		}
		if _, err := postgres.TryLease(ctx, r.DB, "reconciliation", r.Holder, lease); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) keep(ctx context.Context, id uuid.UUID, source string, lines []Line) error {
	n := len(lines)
	ids, kinds, references, merchants, currencies := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	subjects, signs, minors, ats := make([]uuid.UUID, n), make([]int16, n), make([]int64, n), make([]time.Time, n)
	for i, l := range lines {
		ids[i], kinds[i], references[i], merchants[i], currencies[i] = l.ID, l.Kind, l.Reference, l.MerchantID, l.Currency
		subjects[i], signs[i], minors[i], ats[i] = l.Subject, int16(l.Sign), l.Minor, l.At //nolint:gosec // 1 or -1
	}
	return postgres.Write(ctx, r.DB, func(b *pgx.Batch) {
		b.Queue(`
			INSERT INTO statement_lines (source, line_id, kind, reference, subject, merchant_id, sign, minor, currency, at)
			SELECT $1, line.*
			  FROM unnest($2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::smallint[], $8::bigint[], $9::text[], $10::timestamptz[]) AS line
			    ON CONFLICT (source, line_id) DO NOTHING`,
			source, ids, kinds, references, subjects, merchants, signs, minors, currencies, ats)
		b.Queue(`
			INSERT INTO reconciliation_subjects (run_id, subject)
			SELECT DISTINCT $1::uuid, subject
			  FROM unnest($2::uuid[]) AS subject
			    ON CONFLICT DO NOTHING`,
			id, subjects)
	})
}
