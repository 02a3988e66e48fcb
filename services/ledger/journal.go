package main

import (
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

const (
	defaultJournalPage = 100
	maxJournalPage     = 1000
)

// journalLine is an entry as another service reconciles with it: what it speaks
// of, and the amount that it moved between the outside and a merchant.
type journalLine struct {
	ID         uuid.UUID   `json:"id"`
	Kind       string      `json:"kind"`
	Source     string      `json:"source"`
	Reference  string      `json:"reference"`
	MerchantID string      `json:"merchant_id"`
	Amount     money.Money `json:"amount"`
	At         time.Time   `json:"at"`
}

// journal pages through the entries in the order of their ids, which is the order
// of time: GET /v1/journal?since&cursor&limit. Entries of the last moments are
// left out: an id is chosen before the commit, so among the youngest there are
// gaps that fill up behind the cursor of a reader who has gone past.
func (s *service) journal(c echo.Context) error {
	limit := defaultJournalPage
	if raw := c.QueryParam("limit"); raw != "" {
		n, err := strconv.Atoi(raw)
		if err != nil || n < 1 || n > maxJournalPage {
			return web.Invalid("limit", "Must be between 1 and "+strconv.Itoa(maxJournalPage)+".")
		}
		limit = n
	}
	var since time.Time
	if raw := c.QueryParam("since"); raw != "" {
		var err error
		if since, err = time.Parse(time.RFC3339, raw); err != nil {
			return web.Invalid("since", "Must be a time, 2026-01-31T12:00:00Z for one.")
		}
	}
	after := uuid.Nil
	if raw := c.QueryParam("cursor"); raw != "" {
		var err error
		if after, err = uuid.Parse(raw); err != nil {
			return web.Invalid("cursor", "Must be the next_cursor of an earlier page.")
		}
	}
	rows, _ := s.db.Query(c.Request().Context(), `
		SELECT e.id, e.kind, e.source, e.reference, e.merchant_id, e.created_at,
		       COALESCE(sum(abs(p.amount_minor)), 0)::bigint, COALESCE(split_part(max(p.account_id), ':', -1), '')
		  FROM (SELECT *
		          FROM entries
		         WHERE id > GREATEST($1, (lpad(to_hex(GREATEST(0, extract(epoch FROM $2::timestamptz) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid)
		           AND created_at < now() - $3::interval
		         ORDER BY id
		         LIMIT $4) e
		  LEFT JOIN postings p
		    ON p.entry_id = e.id
		   AND (p.account_id LIKE 'card\_receivable:%' OR p.account_id LIKE 'payouts\_in\_transit:%')
		 GROUP BY e.id, e.kind, e.source, e.reference, e.merchant_id, e.created_at
		 ORDER BY e.id`,
		after, since, s.cfg.JournalLag, limit+1) // one more tells whether there is another page
	lines, err := pgx.AppendRows([]journalLine{}, rows, func(row pgx.CollectableRow) (journalLine, error) {
		var l journalLine
		err := row.Scan(&l.ID, &l.Kind, &l.Source, &l.Reference, &l.MerchantID, &l.At, &l.Amount.Minor, &l.Amount.Currency)
		l.At = l.At.UTC()
		return l, err
	})
	if err != nil {
		return err
	}
	out := struct {
		Data       []journalLine `json:"data"`
		NextCursor *string       `json:"next_cursor"`
	}{Data: []journalLine{}}
	if len(lines) > limit {
		lines = lines[:limit]
		cursor := lines[limit-1].ID.String()
		out.NextCursor = &cursor
	}
	// Entries between accounts that are internal are left out last: a page
	// may be short, or empty, and still have one after it.
	for _, l := range lines {
		if l.Amount.Minor != 0 {
			out.Data = append(out.Data, l)
		}
	}
	return c.JSON(http.StatusOK, out)
}
