package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/testenv"
)

// The shop of these examples has one mug.
const shop = `
	CREATE TABLE products (sku text PRIMARY KEY, available int NOT NULL CHECK (available >= 0));
	CREATE TABLE orders (id int PRIMARY KEY, sku text NOT NULL);
	INSERT INTO products VALUES ('mug', 1);`

// What happens between two statements. death ends the connection, as the death of the process does.
const (
	death   = `SELECT pg_terminate_backend(pg_backend_pid())`
	nothing = `SELECT`
)

var errNoSuchProduct = errors.New("no such product")

// An order is written down and takes a mug from the shelf. The process dies between the two.
//
// Pattern: acid-transaction
func Example_acidTransaction() {
	db, done := testenv.ExampleDB(shop)
	defer done()
	ctx := context.Background()

	place := func(order int, sku, between string) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { // ① BEGIN
			_, err := tx.Exec(ctx, `INSERT INTO orders VALUES ($1, $2)`, order, sku) // ② all that belongs together
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, between); err != nil { // here the process may die
				return err
			}
			tag, err := tx.Exec(ctx, `
				UPDATE products
				   SET available = available - 1 -- ③ CHECK (available >= 0) may refuse it
				 WHERE sku = $1`,
				sku)
			if err == nil && tag.RowsAffected() == 0 {
				err = errNoSuchProduct // ④ no row was changed: PostgreSQL would commit the order without a mug
			}
			return err // ⑤ nil: COMMIT; an error: ROLLBACK
		})
	}
	show := func(what string) {
		fmt.Println(what+": orders", testenv.Read(db, `SELECT count(*) FROM orders`)+", on the shelf", testenv.Read(db, `SELECT available FROM products`))
	}

	_ = place(1, "mug", death) // its connection ends
	show("after the death of the process")
	_ = place(1, "mug", nothing)
	show("the client tries again")
	_ = place(2, "mug", nothing)
	show("another order, and no mug is left")
	_ = place(3, "teapot", nothing)
	show("an order of what the shop does not have")
	// Output:
	// after the death of the process: orders 0, on the shelf 1
	// the client tries again: orders 1, on the shelf 0
	// another order, and no mug is left: orders 1, on the shelf 0
	// an order of what the shop does not have: orders 1, on the shelf 0
}

// Each statement is committed by itself. The retry finds the order, and takes no mug.
//
// Pattern: acid-transaction
func Example_acidTransaction_without() {
	db, done := testenv.ExampleDB(shop)
	defer done()
	ctx := context.Background()

	place := func(order int, between string) error {
		_, err := db.Exec(ctx, `INSERT INTO orders VALUES ($1, 'mug')`, order)
		if err != nil {
			return err
		}
		if _, err := db.Exec(ctx, between); err != nil { // here the process may die
			return err
		}
		_, err = db.Exec(ctx, `
			UPDATE products
			   SET available = available - 1
			 WHERE sku = 'mug'`)
		return err
	}
	show := func(what string) {
		fmt.Println(what+": orders", testenv.Read(db, `SELECT count(*) FROM orders`)+", on the shelf", testenv.Read(db, `SELECT available FROM products`))
	}

	_ = place(1, death) // its connection ends
	show("after the death of the process")
	_ = place(1, nothing) // there is an order 1 already
	show("the client tries again")
	// Output:
	// after the death of the process: orders 1, on the shelf 1
	// the client tries again: orders 1, on the shelf 1
}

var errSoldOut = errors.New("sold out")

// Two buyers want the last mug at the same moment.
//
// Pattern: atomic-read-then-write
func Example_atomicReadThenWrite() {
	db, done := testenv.ExampleDB(shop)
	defer done()
	ctx := context.Background()

	buy := func(buyer int) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			// ① The condition and the change are one statement. ② A second buyer waits here
			// for the first one's commit, and then the condition is looked at again.
			tag, err := tx.Exec(ctx, `
				UPDATE products
				   SET available = available - 1
				 WHERE sku = 'mug'
				   AND available >= 1`)
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 0 { // ③ no row: there is none left
				return errSoldOut
			}
			_, err = tx.Exec(ctx, `INSERT INTO orders VALUES ($1, 'mug')`, buyer)
			return err
		})
	}

	var buyers sync.WaitGroup
	for buyer := range 2 {
		buyers.Go(func() { _ = buy(buyer) })
	}
	buyers.Wait()
	fmt.Println("sold", testenv.Read(db, `SELECT count(*) FROM orders`)+", on the shelf", testenv.Read(db, `SELECT available FROM products`))
	// Output:
	// sold 1, on the shelf 0
}

// Each buyer reads, decides in Go, and then subtracts. No constraint refuses the second.
//
// Pattern: atomic-read-then-write
func Example_atomicReadThenWrite_without() {
	db, done := testenv.ExampleDB(shop + `ALTER TABLE products DROP CONSTRAINT products_available_check;`)
	defer done()
	ctx := context.Background()

	var reading sync.WaitGroup // all have read before the first one writes
	reading.Add(2)
	buy := func(buyer int) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			var available int
			err := tx.QueryRow(ctx, `SELECT available FROM products WHERE sku = 'mug'`).Scan(&available)
			reading.Done()
			reading.Wait()
			if err != nil {
				return err
			}
			if available == 0 {
				return errSoldOut
			}
			if _, err := tx.Exec(ctx, `UPDATE products SET available = available - 1 WHERE sku = 'mug'`); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `INSERT INTO orders VALUES ($1, 'mug')`, buyer)
			return err
		})
	}

	var buyers sync.WaitGroup
	for buyer := range 2 {
		buyers.Go(func() { _ = buy(buyer) })
	}
	buyers.Wait()
	fmt.Println("sold", testenv.Read(db, `SELECT count(*) FROM orders`)+", on the shelf", testenv.Read(db, `SELECT available FROM products`))
	// Output:
	// sold 2, on the shelf -1
}
