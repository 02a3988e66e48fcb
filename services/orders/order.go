package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
)

// The states of an order that the outside sees.
const (
	statusPending   = "pending"
	statusConfirmed = "confirmed"
	statusCancelled = "cancelled"
)

// order is a row of orders with its lines.
type order struct {
	ID           uuid.UUID
	PaymentID    uuid.UUID
	MerchantID   string
	CustomerID   string
	Status       string
	Reason       string
	PaymentToken string
	Total        money.Money
	CallbackURL  string
	Lines        []priced
	CreatedAt    time.Time
	FinishedAt   *time.Time
	ReceiptID    string
}

// Ids carry a prefix outside, so that a client cannot pass a payment where an order
// is meant without being told.
func (o order) wireID() string        { return "ord_" + o.ID.String() }
func (o order) wirePaymentID() string { return "pay_" + o.PaymentID.String() }

// orderView is an order as JSON.
type orderView struct {
	ID          string      `json:"id"`
	Status      string      `json:"status"`
	Reason      string      `json:"reason,omitempty"`
	CustomerID  string      `json:"customer_id"`
	Items       []priced    `json:"items"`
	Total       money.Money `json:"total"`
	PaymentID   string      `json:"payment_id"`
	CallbackURL string      `json:"callback_url,omitempty"`
	CreatedAt   time.Time   `json:"created_at"`
	FinishedAt  *time.Time  `json:"finished_at,omitempty"`
	Receipt     *receipt    `json:"receipt,omitempty"`
}

func (o order) view() orderView {
	return orderView{
		ID: o.wireID(), Status: o.Status, Reason: o.Reason, CustomerID: o.CustomerID, Items: o.Lines, Total: o.Total,
		PaymentID: o.wirePaymentID(), CallbackURL: o.CallbackURL, CreatedAt: o.CreatedAt.UTC(), FinishedAt: o.FinishedAt,
		Receipt: o.receipt(),
	}
}

// selectOrder reads orders with their lines in one statement; the lines come
// as arrays, sorted by SKU as Go sorts: every transaction that locks several products
// does so in this one order, whatever the database's collation is.
const selectOrder = `
	SELECT o.id, o.payment_id, o.merchant_id, o.customer_id, o.status, o.reason, o.payment_token,
	       o.total_minor, o.currency, o.callback_url, o.created_at, o.finished_at, o.receipt_id,
	       l.skus, l.quantities, l.prices
	  FROM orders o
	 CROSS JOIN LATERAL (
	       SELECT array_agg(sku ORDER BY sku COLLATE "C")              AS skus,
	              array_agg(quantity ORDER BY sku COLLATE "C")         AS quantities,
	              array_agg(unit_price_minor ORDER BY sku COLLATE "C") AS prices
	         FROM order_lines
	        WHERE order_id = o.id) l`

func scanOrder(row pgx.CollectableRow) (order, error) {
	var o order
	var skus []string
	var quantities []int
	var prices []int64
	err := row.Scan(&o.ID, &o.PaymentID, &o.MerchantID, &o.CustomerID, &o.Status, &o.Reason, &o.PaymentToken,
		&o.Total.Minor, &o.Total.Currency, &o.CallbackURL, &o.CreatedAt, &o.FinishedAt, &o.ReceiptID,
		&skus, &quantities, &prices)
	for i := range skus {
		o.Lines = append(o.Lines, priced{SKU: skus[i], Quantity: quantities[i],
			UnitPrice: money.Money{Minor: prices[i], Currency: o.Total.Currency}})
	}
	return o, err
}

// load queues the read of one order. o stays empty when there is none.
func load(b *pgx.Batch, id uuid.UUID, o *order) {
	b.Queue(selectOrder+`
		 WHERE o.id = $1`,
		id,
	).Query(func(rows pgx.Rows) error {
		found, err := pgx.CollectOneRow(rows, scanOrder)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		*o = found
		return err
	})
}

// get shows an order: GET /v1/orders/{id}.
func (s *service) get(c echo.Context) error {
	o, err := s.find(c.Request().Context(), web.MerchantID(c), c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, o.view())
}

// find reads an order of this merchant. Another merchant's order does not exist
// as far as this one can tell.
func (s *service) find(ctx context.Context, merchant, wireID string) (order, error) {
	id, err := parseID(wireID)
	if err != nil {
		return order{}, noSuchOrder(wireID)
	}
	var o order
	if err := postgres.Read(ctx, s.db, func(b *pgx.Batch) { load(b, id, &o) }); err != nil {
		return order{}, err
	}
	if o.MerchantID != merchant {
		return order{}, noSuchOrder(wireID)
	}
	return o, nil
}

func parseID(wireID string) (uuid.UUID, error) {
	bare, ok := strings.CutPrefix(wireID, "ord_")
	id, err := uuid.Parse(bare)
	if !ok || err != nil || len(bare) != 36 {
		return uuid.UUID{}, fmt.Errorf("%q is not the id of an order", wireID)
	}
	return id, nil
}

func noSuchOrder(wireID string) error {
	return web.NewProblem(http.StatusNotFound, "no-such-order", "No such order", fmt.Sprintf("There is no order %q.", wireID))
}

const (
	defaultPage = 20
	maxPage     = 100
)

type page[T any] struct {
	Data       []T    `json:"data"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// newPage shows the first rows, up to limit. The one after them is only read to tell
// whether there is another page. The cursor is the last row shown: unlike an offset it
// neither skips nor repeats one when new ones arrive in between, and a far page costs no
// more than the first.
func newPage[R, V any](rows []R, limit int, view func(R) V, cursor func(R) string) page[V] {
	out := page[V]{Data: []V{}}
	if len(rows) > limit {
		rows, out.NextCursor = rows[:limit], cursor(rows[limit-1])
	}
	for _, row := range rows {
		out.Data = append(out.Data, view(row))
	}
	return out
}

func pageLimit(c echo.Context) (int, error) {
	raw := c.QueryParam("limit")
	if raw == "" {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(raw)
	if err != nil || n < 1 || n > maxPage {
		return 0, web.Invalid("limit", fmt.Sprintf("Must be between 1 and %d.", maxPage))
	}
	return n, nil
}

// list shows a merchant's orders, newest first: GET /v1/orders?limit&cursor.
func (s *service) list(c echo.Context) error {
	limit, err := pageLimit(c)
	if err != nil {
		return err
	}
	before := uuid.Max
	if raw := c.QueryParam("cursor"); raw != "" {
		id, err := parseID(raw)
		if err != nil {
			return web.Invalid("cursor", "Must be the next_cursor of an earlier page.")
		}
		before = id
	}
	rows, _ := s.db.Query(c.Request().Context(), selectOrder+`
		 WHERE o.merchant_id = $1
		   AND o.id < $2
		 ORDER BY o.id DESC
		 LIMIT $3`,
		web.MerchantID(c), before, limit+1)
	orders, err := pgx.CollectRows(rows, scanOrder)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, newPage(orders, limit, order.view, order.wireID))
}
