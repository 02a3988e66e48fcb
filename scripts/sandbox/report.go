package main

import (
	"encoding/binary"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/money"
)

// line is one movement of money in the settlement report.
type line struct {
	ID         uuid.UUID   `json:"id"`
	Kind       string      `json:"kind"`
	ChargeID   string      `json:"charge_id"`
	Reference  string      `json:"reference"`
	MerchantID string      `json:"merchant_id"`
	Amount     money.Money `json:"amount"`
	At         time.Time   `json:"at"`
}

// report lists every executed operation in the order in which they were made.
func (p *processor) report(c echo.Context) error {
	page, err := askedPage(c, p.lag)
	if err != nil {
		return err
	}
	rows, _ := p.db.Query(c.Request().Context(), `
		SELECT   o.id, o.kind, o.charge_id, c.reference, c.merchant_id, o.amount_minor, o.currency, o.at
		FROM     processor_operations o
		JOIN     processor_charges c ON c.id = o.charge_id
		WHERE    o.id > $1 AND o.id < $2
		ORDER BY o.id
		LIMIT    $3`,
		page.after, page.before, page.limit+1)
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l line, err error) {
		err = row.Scan(&l.ID, &l.Kind, &l.ChargeID, &l.Reference, &l.MerchantID, &l.Amount.Minor, &l.Amount.Currency, &l.At)
		l.At = l.At.UTC()
		return l, err
	})
	if err != nil {
		return err
	}
	return sendPage(c, page, lines, func(l line) uuid.UUID { return l.ID })
}

// A page of up to this many lines fits a reader's memory whatever the line.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// page is a stretch of lines, by their ids: those are UUIDv7, so the primary
// key is the order of time, and "since" is only a smaller id.
type page struct {
	after, before uuid.UUID
	limit         int
}

// askedPage reads since, cursor and limit. Lines younger than lag are left out:
// an operation gets its id before it commits, so among the youngest ids there
// are gaps that fill up later, behind the cursor of a reader who went past.
func askedPage(c echo.Context, lag time.Duration) (page, error) {
	p := page{before: firstIDAt(time.Now().Add(-lag)), limit: defaultLimit}
	if since := c.QueryParam("since"); since != "" {
		at, err := time.Parse(time.RFC3339, since)
		if err != nil {
			return p, invalid("since", "is a time, 2026-01-31T12:00:00Z for one")
		}
		p.after = firstIDAt(at)
	}
	if cursor := c.QueryParam("cursor"); cursor != "" {
		id, err := uuid.Parse(cursor)
		if err != nil {
			return p, invalid("cursor", "is the next_cursor of an earlier page")
		}
		p.after = id
	}
	if limit := c.QueryParam("limit"); limit != "" {
		n, err := strconv.Atoi(limit)
		if err != nil || n < 1 || n > maxLimit {
			return p, invalid("limit", "is between 1 and "+strconv.Itoa(maxLimit))
		}
		p.limit = n
	}
	return p, nil
}

// firstIDAt is below every UUIDv7 of that millisecond and above all earlier ones.
func firstIDAt(t time.Time) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(max(t.UnixMilli(), 0))<<16)
	return id
}

// sendPage sends the lines. One more than the limit was asked for, which tells
// whether there is more without a count.
func sendPage[T any](c echo.Context, p page, lines []T, id func(T) uuid.UUID) error {
	out := struct {
		Data       any     `json:"data"`
		NextCursor *string `json:"next_cursor"`
	}{}
	if len(lines) > p.limit {
		lines = lines[:p.limit]
		cursor := id(lines[p.limit-1]).String()
		out.NextCursor = &cursor
	}
	out.Data = misreport(c, lines)
	return reply(http.StatusOK, out).send(c)
}
