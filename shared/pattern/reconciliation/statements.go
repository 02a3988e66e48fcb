package reconciliation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/platform/postgres"
)

// errNoStatement means: a source does not make its statement now.
var errNoStatement = errors.New("reconciliation: no statement")

// fetch keeps one side's lines, and notes their subjects; false when that side
// does not make its whole statement. The lines that it did give stay.
func (r *Reconciler) fetch(ctx context.Context, id uuid.UUID, source Source, since time.Time) (whole bool, err error) {
	for cursor, first := "", true; first || cursor != ""; first = false {
		lines, next, err := r.page(ctx, source, since, cursor)
		if errors.Is(err, errNoStatement) {
			r.Logger.Error("reconciliation: one side is not compared in this run", "source", source.Name, "error", err)
			return false, nil
		}
		if err == nil {
			err = r.keep(ctx, id, source.Name, lines)
		}
		if err != nil {
			return false, err
		}
		cursor = next
	}
	return true, nil
}

// page asks for one page until it is there, with growing pauses, and gives up with
// errNoStatement.
func (r *Reconciler) page(ctx context.Context, source Source, since time.Time, cursor string) (lines []Line, next string, err error) {
	pause := r.Poll
	for try := 1; ; try++ {
		if err := r.keepLease(ctx); err != nil {
			return nil, "", err
		}
		lines, next, err = source.Fetch(ctx, since, cursor)
		switch {
		case err == nil:
			return lines, next, nil
		case ctx.Err() != nil:
			return nil, "", ctx.Err()
		case try == pageTries:
			return nil, "", fmt.Errorf("%w: %w", errNoStatement, err)
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return nil, "", ctx.Err()
		}
	}
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

// noteChanged notes what we have touched ourselves.
func (r *Reconciler) noteChanged(ctx context.Context, id uuid.UUID, since time.Time) error {
	for after, n := uuid.Nil, chunk; n == chunk; {
		var last *uuid.UUID
		err := r.DB.QueryRow(ctx, `
			WITH next AS (
			    SELECT subject
			      FROM (`+r.Changed+`) AS changed (subject)
			     WHERE subject > $3
			     ORDER BY subject
			     LIMIT $4),
			noted AS (
			    INSERT INTO reconciliation_subjects (run_id, subject)
			    SELECT $2::uuid, subject
			      FROM next
			        ON CONFLICT DO NOTHING)
			SELECT count(*), (SELECT subject FROM next ORDER BY subject DESC LIMIT 1)
			  FROM next`,
			since, id, after, chunk).Scan(&n, &last)
		if err == nil {
			err = r.keepLease(ctx)
		}
		if err != nil {
			return err
		}
		if last != nil {
			after = *last
		}
	}
	return nil
}

// noteDifferent notes what was different before and not mended: in the last run
// that compared everything, and in those since.
func (r *Reconciler) noteDifferent(ctx context.Context, id uuid.UUID) error {
	_, err := r.DB.Exec(ctx, `
		INSERT INTO reconciliation_subjects (run_id, subject)
		SELECT DISTINCT $1::uuid, d.subject
		  FROM reconciliation_differences d
		  JOIN reconciliations r ON r.id = d.run_id
		 WHERE d.verdict <> 'resolved'
		   AND r.status = 'finished'
		   AND r.requested_at >= COALESCE(
		       (SELECT max(requested_at)
		          FROM reconciliations
		         WHERE status = 'finished'
		           AND not_compared = '{}'), '-infinity')
		    ON CONFLICT DO NOTHING`,
		id)
	return err
}
