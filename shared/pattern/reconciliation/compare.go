package reconciliation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/wait"
)

// compare looks at the subjects of a run in the order of their ids, but not at
// what the sources say that made no statement: all of theirs would seem to be missing.
func (r *Reconciler) compare(ctx context.Context, id uuid.UUID, since time.Time, notCompared []string) error {
	found, total := map[[2]string]int{}, 0
	for subjects := []uuid.UUID{uuid.Nil}; len(subjects) > 0; { // the first stands for all that is nothing of ours
		pairs, err := r.differing(ctx, subjects, notCompared)
		if err == nil {
			err = r.judge(ctx, id, pairs, notCompared, found)
		}
		if err == nil {
			err = r.keepLease(ctx)
		}
		if err == nil {
			subjects, err = r.subjects(ctx, id, since, subjects[len(subjects)-1])
		}
		if err != nil {
			return err
		}
		total += len(subjects)
	}
	_, err := r.DB.Exec(ctx, `
		UPDATE reconciliations
		   SET status       = 'finished',
		       finished_at  = now(),
		       subjects     = $2,
		       not_compared = $3
		 WHERE id = $1`,
		id, total, notCompared)
	if err != nil {
		return err
	}
	for key, n := range found {
		if key[1] == string(Unresolvable) {
			r.Logger.Error("reconciliation: differences that a person must look at", "reconciliation_id", id, "source", key[0], "differences", n)
		}
	}
	r.Logger.Info("reconciliation finished", "reconciliation_id", id, "subjects", total, "not_compared", notCompared)
	return fault.Point(ctx, fault.ReconcileAfterFinish)
}

// subjects are the next to look at after one: what a line of this run speaks of, what we
// have touched ourselves, and what was different before and not fixed: in the last run
// that compared everything, and in those since.
func (r *Reconciler) subjects(ctx context.Context, id uuid.UUID, since time.Time, after uuid.UUID) ([]uuid.UUID, error) {
	rows, _ := r.DB.Query(ctx, `
		(SELECT DISTINCT subject
		   FROM statement_lines
		  WHERE run_id = $2
		    AND subject > $3
		  ORDER BY subject
		  LIMIT $4)
		 UNION
		(SELECT subject
		   FROM (`+r.Changed+`) AS changed (subject)
		  WHERE subject > $3
		  ORDER BY subject
		  LIMIT $4)
		 UNION
		(SELECT DISTINCT d.subject
		   FROM reconciliation_differences d
		   JOIN reconciliations r ON r.id = d.run_id
		  WHERE d.verdict <> 'resolved'
		    AND d.subject > $3
		    AND r.status = 'finished'
		    AND r.requested_at >= COALESCE(
		        (SELECT max(requested_at)
		           FROM reconciliations
		          WHERE status = 'finished'
		            AND not_compared = '{}'
		            AND requested_at <= now()), '-infinity')
		  ORDER BY d.subject
		  LIMIT $4)
		 ORDER BY subject
		 LIMIT $4`,
		since, id, after, chunk)
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// differing holds both sides of some subjects against each other, in the
// database: only what differs comes out. Lines whose reference means nothing
// here share no subject with each other, so those are told apart by reference.
func (r *Reconciler) differing(ctx context.Context, subjects []uuid.UUID, notCompared []string) ([]Pair, error) {
	rows, _ := r.DB.Query(ctx, `
		WITH ours (source, kind, subject, count, minor, currency, at) AS (`+r.Expected+`),
		owners (subject, merchant_id, reference) AS (`+r.Owners+`),
		theirs AS (
			SELECT source, kind, subject,
			       CASE WHEN subject = $2 THEN reference ELSE '' END AS stranger,
			       min(reference)   AS reference,
			       max(merchant_id) AS merchant_id,
			       sum(sign)::bigint         AS count,
			       sum(sign * minor)::bigint AS minor,
			       string_agg(DISTINCT currency, '+') AS currency,
			       max(at) AS at
			  FROM statement_lines
			 WHERE subject = ANY($1)
			 GROUP BY source, kind, subject, stranger
			HAVING sum(sign) <> 0 OR sum(sign * minor) <> 0)
		SELECT COALESCE(o.source, t.source), COALESCE(o.kind, t.kind), COALESCE(o.subject, t.subject),
		       COALESCE(t.reference, w.reference), COALESCE(w.merchant_id, t.merchant_id), to_jsonb(o), to_jsonb(t)
		  FROM ours o
		  FULL JOIN theirs t
		    ON t.source = o.source AND t.kind = o.kind AND t.subject = o.subject
		  LEFT JOIN owners w
		    ON w.subject = COALESCE(o.subject, t.subject)
		 WHERE COALESCE(o.source, t.source) <> ALL ($3::text[])
		   AND (o.count, o.minor, o.currency) IS DISTINCT FROM (t.count, t.minor, t.currency)
		 ORDER BY 1, 2, 3, 4`,
		subjects, uuid.Nil, notCompared)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Pair])
}

// judge decides on each difference and keeps the decision. A crash between the
// two finds the difference again, or finds it fixed.
func (r *Reconciler) judge(ctx context.Context, id uuid.UUID, pairs []Pair, notCompared []string, found map[[2]string]int) error {
	for _, p := range pairs {
		if err := r.keepLease(ctx); err != nil {
			return err
		}
		judgement, err := r.Judge(ctx, p)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			// One that cannot be fixed today must not hide all the others.
			r.Logger.Error("reconciliation: a difference could not be looked at", "source", p.Source, "kind", p.Kind, "reference", p.Reference, "error", err)
			judgement = Judgement{Finding: "fix-failed", Verdict: Pending, Note: "It could not be looked at or fixed now; the next run tries again."}
		}
		if judgement.Verdict == Unresolvable && p.Subject != uuid.Nil {
			// Thousands are compared at once and judged one by one. Of what was recorded in
			// between, the two sides say the same by now: no person must look at it.
			stillDiffer, err := r.differing(ctx, []uuid.UUID{p.Subject}, notCompared)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(stillDiffer, func(q Pair) bool { return q.Source == p.Source && q.Kind == p.Kind }) {
				judgement = Judgement{Finding: "not-recorded-yet", Verdict: Pending, Note: "It was recorded after this run had compared it."}
			}
		}
		if judgement.Verdict == Resolved {
			if err := fault.Point(ctx, fault.ReconcileAfterFix); err != nil {
				return err
			}
		}
		found[[2]string{p.Source, string(judgement.Verdict)}]++
		_, err = r.DB.Exec(ctx, `
			INSERT INTO reconciliation_differences AS d (run_id, source, kind, reference, subject, merchant_id, finding, verdict, note, ours, theirs)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
			    ON CONFLICT (run_id, source, kind, reference) DO UPDATE
			   SET finding = EXCLUDED.finding,
			       verdict = EXCLUDED.verdict,
			       note    = EXCLUDED.note,
			       ours    = EXCLUDED.ours,
			       theirs  = EXCLUDED.theirs`,
			id, p.Source, p.Kind, p.Reference, p.Subject, p.MerchantID, judgement.Finding, judgement.Verdict, judgement.Note, p.Ours, p.Theirs)
		if err != nil {
			return err
		}
	}
	return nil
}

// errNoStatement means: a source does not make its statement now.
var errNoStatement = errors.New("reconciliation: no statement")

// fetch keeps one side's lines; false when that side does not make its whole statement.
// The lines that it did give stay.
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
		if err == nil && next != "" && next == cursor {
			err = errors.New("its cursor does not move")
		}
		switch {
		case err == nil || ctx.Err() != nil:
			return lines, next, err
		case try == pageTries:
			return nil, "", fmt.Errorf("%w: %w", errNoStatement, err)
		}
		wait.For(ctx, pause)
	}
}

func (r *Reconciler) keep(ctx context.Context, id uuid.UUID, source string, lines []Line) error {
	if len(lines) == 0 {
		return nil
	}
	for i := range lines {
		lines[i].Source, lines[i].Run = source, id
	}
	_, err := r.DB.Exec(ctx, `
		INSERT INTO statement_lines
		SELECT DISTINCT ON (line_id) * -- they may give a line twice
		  FROM jsonb_populate_recordset(NULL::statement_lines, $1)
		    ON CONFLICT (source, line_id) DO UPDATE
		   SET run_id = EXCLUDED.run_id`,
		lines)
	return err
}
