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

// The order is committed, and then its message cannot be published: the broker is away. For the
// outbox this is the same as a process that dies after the commit.
//
// Pattern: transactional-outbox
func Example() {
	db, drop := testenv.ExampleDB(outbox.Schema + orders)
	defer drop()
	channel, done := testenv.ExampleRabbit("orders.placed")
	defer done()
	const sender, writer = "/orders", "orders-1"
	ctx, messages := context.Background(), outbox.New(sender, writer)

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
		var row int64
		var queue string
		message := amqp.Publishing{AppId: sender, DeliveryMode: amqp.Persistent} // sender and id: the receiver's change record needs them
		err := db.QueryRow(ctx, `SELECT id, message_id::text, type, body FROM outbox ORDER BY id LIMIT 1`).
			Scan(&row, &message.MessageId, &queue, &message.Body)
		if err != nil {
			return err
		}
		returned := ch.NotifyReturn(make(chan amqp.Return, 1))
		confirm, err := ch.PublishWithDeferredConfirm("", queue, true, false, message) // true: mandatory
		if err != nil {
			return err
		}
		if !confirm.Wait() || len(returned) > 0 { // ④ a message without a queue is returned, and confirmed all the same
			return errRefused
		}
		_, err = db.Exec(ctx, `DELETE FROM outbox WHERE id = $1`, row) // ⑤ what was confirmed, and only that
		return err
	}

	away := channel()
	_ = away.Close()
	fmt.Println("place:", place("ord_1"))
	id := testenv.Read(db, `SELECT message_id::text FROM outbox`)
	fmt.Println("publish:", relay(away), "| in the outbox:", testenv.Read(db, `SELECT type FROM outbox`))
	fmt.Println("publish:", relay(channel()), "| in the outbox:", testenv.Read(db, `SELECT count(*) FROM outbox`))
	d, ok, _ := channel().Get("orders.placed", true)
	fmt.Println("orders:", testenv.Read(db, `SELECT id FROM orders`)+", published:", ok, "by", d.AppId+", with the message_id of its row:", d.MessageId == id)
	// Output:
	// place: <nil>
	// publish: Exception (504) Reason: "channel/connection is not open" | in the outbox: orders.placed
	// publish: <nil> | in the outbox: 0
	// orders: ord_1, published: true by /orders, with the message_id of its row: true
}

// The order is committed, and then the message is published: nothing remembers that it is owed.
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
