package reconciliation

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/platform/fault"
)

// compare looks at the subjects of a run in the order of their ids, but not at
// what the sources say that made no statement: all of theirs would seem to be missing.
func (r *Reconciler) compare(ctx context.Context, id uuid.UUID, notCompared []string) error {
	found := map[[2]string]int{}
	total, after := 0, uuid.Nil
	for {
		rows, _ := r.DB.Query(ctx, `
			SELECT subject
			  FROM reconciliation_subjects
			 WHERE run_id = $1
			   AND subject >= $2
			 ORDER BY subject
			 LIMIT $3`,
			id, after, chunk)
		subjects, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return err
		}
		if len(subjects) == 0 {
			break
		}
		total, after = total+len(subjects), subjects[len(subjects)-1]
		pairs, err := r.differing(ctx, subjects, notCompared)
		if err != nil {
			return err
		}
		if err := r.judge(ctx, id, pairs, found); err != nil {
			return err
		}
		// Done with; should this run break off, it notes them again.
		_, err = r.DB.Exec(ctx, `
			DELETE FROM reconciliation_subjects
			 WHERE run_id = $1
			   AND subject = ANY($2)`,
			id, subjects)
		if err != nil {
			return err
		}
		if err := r.keepLease(ctx); err != nil {
			return err
		}
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
	r.differences.Reset()
	for key, n := range found {
		r.differences.WithLabelValues(key[0], key[1]).Set(float64(n))
		if key[1] == string(Unresolvable) {
			r.Logger.Error("reconciliation: differences that a person must look at", "reconciliation_id", id, "source", key[0], "differences", n)
		}
	}
	r.Logger.Info("reconciliation finished", "reconciliation_id", id, "subjects", total, "not_compared", notCompared)
	return fault.Point(ctx, fault.ReconcileAfterFinish)
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
// two finds the difference again, or finds it mended.
func (r *Reconciler) judge(ctx context.Context, id uuid.UUID, pairs []Pair, found map[[2]string]int) error {
	for _, p := range pairs {
		if err := r.keepLease(ctx); err != nil {
			return err
		}
		judgement, err := r.Judge(ctx, p)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			// One that cannot be mended today must not hide all the others.
			r.Logger.Error("reconciliation: a difference could not be looked at", "source", p.Source, "kind", p.Kind, "reference", p.Reference, "error", err)
			judgement = Judgement{Finding: "mend-failed", Verdict: Pending, Note: "It could not be looked at or mended now; the next run tries again."}
		}
		if judgement.Verdict == Resolved {
			if err := fault.Point(ctx, fault.ReconcileAfterMend); err != nil {
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
