package main

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/failwell/shared/platform/postgres"
)

// The three moves of a unit of stock. Each is one statement that computes from
// the row as it is at that moment, under the row's lock; none writes a number
// that was read before. Lines come sorted by SKU, so every order locks its
// rows in the same order.

// reserveAndInsertLines takes the units of an order out of what is available, and inserts the
// order's lines. A line is written from the row that was reserved. When there is no such row,
// because the product is gone or has another price by now, the line has no SKU, and its
// NOT NULL refuses the whole transaction.
//
// Pattern: atomic-read-then-write (the conditional update: CHECK (available >= 0)
// refuses what is not in stock, and with it the whole transaction)
func reserveAndInsertLines(b *pgx.Batch, o order) {
	for i, l := range o.Lines {
		b.Queue(`
			WITH reserved AS (
			     UPDATE products
			        SET available = available - $3,
			            reserved  = reserved + $3,
			            version   = version + 1
			      WHERE sku = $1
			        AND merchant_id = $2
			        AND price_minor = $4
			        AND currency = $5
			     RETURNING sku)
			INSERT INTO order_lines (order_id, line_no, sku, quantity, unit_price_minor)
			VALUES ($6, $7, (SELECT sku FROM reserved), $3, $4)`,
			l.SKU, o.MerchantID, l.Quantity, l.UnitPrice.Minor, l.UnitPrice.Currency, o.ID, i+1)
	}
}

// sell turns what an order has reserved into sold units.
func sell(b *pgx.Batch, o order) {
	for _, l := range o.Lines {
		b.Queue(`
			UPDATE products
			   SET reserved = reserved - $3,
			       sold     = sold + $3
			 WHERE sku = $1
			   AND merchant_id = $2`,
			l.SKU, o.MerchantID, l.Quantity)
	}
}

// release makes available again what an order has reserved.
func release(b *pgx.Batch, o order) {
	for _, l := range o.Lines {
		b.Queue(`
			UPDATE products
			   SET available = available + $3,
			       reserved  = reserved - $3,
			       version   = version + 1
			 WHERE sku = $1
			   AND merchant_id = $2`,
			l.SKU, o.MerchantID, l.Quantity)
	}
}

// notNullViolation is PostgreSQL's code for it.
const notNullViolation = "23502"

// isNotReserved tells whether a batch failed because a product ran short, has another
// price, or is gone.
func isNotReserved(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return postgres.Violates(err, "products_not_oversold") || ok && pgErr.Code == notNullViolation && pgErr.TableName == "order_lines"
}
