package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/wait"
	"example.com/failwell/shared/platform/web"
)

// newReconciliation is the body of POST /v1/reconciliations; it may be empty.
type newReconciliation struct {
	// Since is from when on both sides are looked at, at the latest: a run goes on from the
	// last one, and is shared by all who ask before it has begun.
	Since *time.Time `json:"since"`
}

// reconciliationView is a reconciliation as JSON. A merchant sees its own differences. The
// platform, with the service key, sees all of them.
type reconciliationView struct {
	ID          string           `json:"id"`
	Status      string           `json:"status"` // running or finished
	Since       *time.Time       `json:"since,omitempty"`
	RequestedAt time.Time        `json:"requested_at"`
	FinishedAt  *time.Time       `json:"finished_at,omitempty"`
	Subjects    int64            `json:"subjects"`
	NotCompared []string         `json:"not_compared,omitempty"` // who made no statement
	Pending     int              `json:"pending"`
	Resolved    int              `json:"resolved"`
	Unresolved  int              `json:"unresolvable"`
	Differences []differenceView `json:"differences" db:"-"`
}

type differenceView struct {
	Source    string          `json:"source"`
	Kind      string          `json:"kind"`
	Reference string          `json:"reference"`
	Finding   string          `json:"finding"`
	Verdict   string          `json:"verdict"`
	Note      string          `json:"note"`
	Ours      json.RawMessage `json:"ours"`
	Theirs    json.RawMessage `json:"theirs"`
}

// shownDifferences bounds an answer.
const shownDifferences = 1000

// createReconciliation asks for a run: POST /v1/reconciliations. 201 when it is
// finished in time, 202 when it is still running.
func (s *service) createReconciliation(c echo.Context) error {
	var in newReconciliation
	if c.Request().ContentLength != 0 {
		var err error
		if in, err = web.Bind[newReconciliation](c); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	// A merchant must not make the platform look at all of its past again.
	if oldest := time.Now().Add(-s.cfg.ReconcileOverlap); web.MerchantID(c) != "" && in.Since != nil && in.Since.Before(oldest) {
		return web.Invalid("since", "At most "+s.cfg.ReconcileOverlap.String()+" ago. What is older, the platform looks at.")
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), s.cfg.RequestTimeout)
	defer cancel()
	id, err := s.reconciler.Request(ctx, in.Since)
	if err != nil {
		return err
	}
	c.Response().Header().Set(echo.HeaderLocation, strings.TrimSuffix(c.Request().URL.Path, "/")+"/rec_"+id.String())
	for {
		v, err := s.loadReconciliation(context.WithoutCancel(ctx), id, web.MerchantID(c))
		switch {
		case err != nil:
			return err
		case v.Status == "finished":
			return c.JSON(http.StatusCreated, v)
		}
		if !wait.For(ctx, 50*time.Millisecond) {
			return c.JSON(http.StatusAccepted, v)
		}
	}
}

// getReconciliation shows a run: GET /v1/reconciliations/{id}.
func (s *service) getReconciliation(c echo.Context) error {
	id, _ := parseID("rec_", c.Param("id"))
	v, err := s.loadReconciliation(c.Request().Context(), id, web.MerchantID(c))
	if err != nil {
		return orNotFound(err, "reconciliation", c.Param("id"))
	}
	return c.JSON(http.StatusOK, v)
}

// loadReconciliation reads a run with the differences of a merchant; "": of all.
func (s *service) loadReconciliation(ctx context.Context, id uuid.UUID, merchant string) (reconciliationView, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT 'rec_' || r.id, CASE r.status WHEN 'requested' THEN 'running' ELSE r.status END,
		       NULLIF(r.since, '0001-01-01 00:00:00+00'), r.requested_at, r.finished_at, r.subjects, r.not_compared,
		       count(*) FILTER (WHERE d.verdict = 'pending'),
		       count(*) FILTER (WHERE d.verdict = 'resolved'),
		       count(*) FILTER (WHERE d.verdict = 'unresolvable')
		  FROM reconciliations r
		  LEFT JOIN reconciliation_differences d ON d.run_id = r.id AND $2 IN (d.merchant_id, '')
		 WHERE r.id = $1
		 GROUP BY r.id`,
		id, merchant)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[reconciliationView])
	if err != nil {
		return v, err
	}
	rows, _ = s.db.Query(ctx, `
		SELECT source, kind, reference, finding, verdict, note, COALESCE(ours, 'null'), COALESCE(theirs, 'null')
		  FROM reconciliation_differences
		 WHERE run_id = $1
		   AND $2 IN (merchant_id, '')
		 ORDER BY verdict DESC, source, kind, reference
		 LIMIT $3`,
		id, merchant, shownDifferences)
	v.Differences, err = pgx.AppendRows([]differenceView{}, rows, pgx.RowToStructByPos[differenceView])
	return v, err
}
