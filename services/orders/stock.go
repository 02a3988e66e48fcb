package main

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/failwell/shared/platform/postgres"
)

// The three moves of a unit of stock. Each is one statement that computes from
// the row as it is at that moment, under the row's lock; none writes a number
// that was read before. Lines come sorted by SKU, so the rows are locked in one
// order by everybody.

// reserve takes the units of an order off the shelf for the time of its way.
//
// The order was composed at a price. Where that is not the price any more, it asks
// for one more than there are, which the same constraint refuses. Where the product is
// not there any more, an update of no row would be a success, and the order would go
// its way with nothing reserved: dividing by the number of rows refuses that.
//
// Pattern: atomic-read-then-write (the conditional update: CHECK (available >= 0)
// refuses what the shelf does not hold, and with it the whole transaction)
func reserve(b *pgx.Batch, o order) {
	for _, l := range o.Lines {
		b.Queue(`
			WITH reserved AS (
			     UPDATE products
			        SET available = available - CASE WHEN price_minor = $4 AND currency = $5 THEN $3 ELSE available + 1 END,
			            reserved  = reserved + CASE WHEN price_minor = $4 AND currency = $5 THEN $3 ELSE available + 1 END,
			            version   = version + 1
			      WHERE merchant_id = $1
			        AND sku = $2
			     RETURNING sku)
			SELECT 1 / count(*)
			  FROM reserved`,
			o.MerchantID, l.SKU, l.Quantity, l.UnitPrice.Minor, l.UnitPrice.Currency)
	}
}

// sell turns what an order has reserved into sold units.
func sell(b *pgx.Batch, o order) {
	for _, l := range o.Lines {
		b.Queue(`
			UPDATE products
			   SET reserved = reserved - $3,
			       sold     = sold + $3
			 WHERE merchant_id = $1
			   AND sku = $2`,
			o.MerchantID, l.SKU, l.Quantity)
	}
}

// release puts what an order has reserved back on the shelf.
func release(b *pgx.Batch, o order) {
	for _, l := range o.Lines {
		b.Queue(`
			UPDATE products
			   SET available = available + $3,
			       reserved  = reserved - $3,
			       version   = version + 1
			 WHERE merchant_id = $1
			   AND sku = $2`,
			o.MerchantID, l.SKU, l.Quantity)
	}
}

// divisionByZero is PostgreSQL's code for it.
const divisionByZero = "22012"

// isNotReserved tells whether a batch failed because a product ran short, has another
// price, or is not there any more.
func isNotReserved(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return postgres.Violates(err, "products_not_oversold") || ok && pgErr.Code == divisionByZero
}
