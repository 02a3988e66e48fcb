package outbox_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/testenv"
)

const orders = `CREATE TABLE orders (id text PRIMARY KEY);`

var errRefused = errors.New("refused by the broker")

// An order is placed while the broker is away.
//
// Pattern: transactional-outbox
func Example() {
	db, drop := testenv.ExampleDB(outbox.Schema + orders)
	defer drop()
	channel, done := testenv.ExampleRabbit("orders.placed")
	defer done()
	ctx, messages := context.Background(), outbox.New("/orders", "orders-1")

	place := func(order string) error {
		placed, err := messages.Envelope(ctx, outbox.Message{Type: "orders.placed", Subject: order}) // ① the id, once
		if err != nil {
			return err
		}
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `INSERT INTO orders VALUES ($1)`, order); err != nil {
				return err
			}
			return placed.AppendTx(ctx, tx) // ② INSERT INTO outbox: with the order, or not at all
		})
	}
	relay := func(ch *amqp.Channel) error { // ③ later, and again after each failure; no transaction is open
		var id int64
		var kind string
		var body []byte
		err := db.QueryRow(ctx, `SELECT id, type, body FROM outbox ORDER BY id LIMIT 1`).Scan(&id, &kind, &body)
		if err != nil {
			return err
		}
		unroutable := ch.NotifyReturn(make(chan amqp.Return, 1))
		confirm, err := ch.PublishWithDeferredConfirm("", kind, true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body})
		if err != nil {
			return err
		}
		if !confirm.Wait() || len(unroutable) > 0 { // ④ a message without a queue is returned, and confirmed all the same
			return errRefused
		}
		_, err = db.Exec(ctx, `DELETE FROM outbox WHERE id = $1`, id) // ⑤ what was confirmed, and only that
		return err
	}

	away := channel()
	_ = away.Close()
	fmt.Println("place:", place("ord_1"))
	fmt.Println("publish:", relay(away), "| in the outbox:", testenv.Read(db, `SELECT type FROM outbox`))
	fmt.Println("publish:", relay(channel()), "| in the outbox:", testenv.Read(db, `SELECT count(*) FROM outbox`))
	_, ok, _ := channel().Get("orders.placed", true)
	fmt.Println("orders:", testenv.Read(db, `SELECT id FROM orders`)+", published:", ok)
	// Output:
	// place: <nil>
	// publish: Exception (504) Reason: "channel/connection is not open" | in the outbox: orders.placed
	// publish: <nil> | in the outbox: 0
	// orders: ord_1, published: true
}

// The order is committed, and then the message is published.
//
// Pattern: transactional-outbox
func Example_without() {
	db, drop := testenv.ExampleDB(orders)
	defer drop()
	channel, done := testenv.ExampleRabbit("orders.placed")
	defer done()
	ctx := context.Background()

	place := func(ch *amqp.Channel, order string) error {
		if _, err := db.Exec(ctx, `INSERT INTO orders VALUES ($1)`, order); err != nil {
			return err
		}
		confirm, err := ch.PublishWithDeferredConfirm("", "orders.placed", true, false, amqp.Publishing{DeliveryMode: amqp.Persistent})
		if err != nil {
			return err
		}
		if !confirm.Wait() {
			return errRefused
		}
		return nil
	}

	away := channel()
	_ = away.Close()
	fmt.Println("place:", place(away, "ord_1"))
	fmt.Println("tried again:", place(channel(), "ord_1"))
	_, ok, _ := channel().Get("orders.placed", true)
	fmt.Println("orders:", testenv.Read(db, `SELECT id FROM orders`)+", published:", ok)
	// Output:
	// place: Exception (504) Reason: "channel/connection is not open"
	// tried again: ERROR: duplicate key value violates unique constraint "orders_pkey" (SQLSTATE 23505)
	// orders: ord_1, published: false
}
