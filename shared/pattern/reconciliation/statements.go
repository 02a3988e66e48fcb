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
	for cursor := ""; ; {
		lines, next, err := r.page(ctx, source, since, cursor)
		if errors.Is(err, errNoStatement) {
			r.Logger.Error("reconciliation: one side is not compared in this run", "source", source.Name, "error", err)
			return false, nil
		}
		if err == nil {
			err = r.keep(ctx, id, source.Name, lines)
		}
		if err != nil || next == "" {
			return err == nil, err
		}
		cursor = next
	}
}

// page asks for one page until it is there, with growing pauses, and gives up with
// errNoStatement.
func (r *Reconciler) page(ctx context.Context, source Source, since time.Time, cursor string) (lines []Line, next string, err error) {
	for try, pause := 1, r.Poll; ; try, pause = try+1, 2*pause {
		if err := r.keepLease(ctx); err != nil {
			return nil, "", err
		}
		lines, next, err = source.Fetch(ctx, since, cursor)
		switch {
		case err == nil || ctx.Err() != nil:
			return lines, next, err
		case try == pageTries:
			return nil, "", fmt.Errorf("%w: %w", errNoStatement, err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

const noteSubjects = `
	INSERT INTO reconciliation_subjects (run_id, subject)
	SELECT DISTINCT $1::uuid, subject
	  FROM unnest($2::uuid[]) AS subject
	    ON CONFLICT DO NOTHING`

func (r *Reconciler) keep(ctx context.Context, id uuid.UUID, source string, lines []Line) error {
	if len(lines) == 0 {
		return nil
	}
	subjects := make([]uuid.UUID, len(lines))
	for i := range lines {
		lines[i].Source, subjects[i] = source, lines[i].Subject
	}
	return postgres.Write(ctx, r.DB, func(b *pgx.Batch) {
		b.Queue(`
			INSERT INTO statement_lines
			SELECT *
			  FROM jsonb_populate_recordset(NULL::statement_lines, $1)
			    ON CONFLICT (source, line_id) DO NOTHING`,
			lines)
		b.Queue(noteSubjects, id, subjects)
	})
}

// noteChanged notes what we have touched ourselves.
func (r *Reconciler) noteChanged(ctx context.Context, id uuid.UUID, since time.Time) error {
	for after, more := uuid.Nil, true; more; {
		rows, _ := r.DB.Query(ctx, `
			SELECT subject
			  FROM (`+r.Changed+`) AS changed (subject)
			 WHERE subject > $2
			 ORDER BY subject
			 LIMIT $3`,
			since, after, chunk)
		changed, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err == nil {
			_, err = r.DB.Exec(ctx, noteSubjects, id, changed)
		}
		if err == nil {
			err = r.keepLease(ctx)
		}
		if err != nil {
			return err
		}
		if more = len(changed) == chunk; more {
			after = changed[chunk-1]
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
