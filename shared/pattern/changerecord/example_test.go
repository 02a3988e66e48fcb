package changerecord_test

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/testenv"
)

const accounts = `
	CREATE TABLE accounts (name text PRIMARY KEY, balance int NOT NULL);
	INSERT INTO accounts VALUES ('acme', 0);`

// sale is a message in the queue "ledger".
func sale(ch *amqp.Channel) {
	confirm, err := ch.PublishWithDeferredConfirm("", "ledger", true, false, amqp.Publishing{
		MessageId: uuid.NewString(), AppId: "/payments", DeliveryMode: amqp.Persistent,
	})
	if err != nil || !confirm.Wait() {
		panic("not published")
	}
}

// The ledger posts a sale of 12.50, and its acknowledgement gets lost: the broker delivers the
// message again.
//
// Pattern: change-record
func Example() {
	db, drop := testenv.ExampleDB(changerecord.Schema + accounts)
	defer drop()
	channel, done := testenv.ExampleRabbit("ledger")
	defer done()
	ctx, ch := context.Background(), channel()
	sale(ch)

	post := func(d amqp.Delivery) error {
		message, err := changerecord.Of(d.AppId, d.MessageId) // ① the sender's id: the same at each delivery
		if err != nil {
			return err
		}
		err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			// ② first INSERT INTO inbox (source, message_id): a second delivery at the same moment waits here
			if err := message.RecordTx(ctx, tx); err != nil {
				return err
			}
			// ③ then the change, in the same transaction
			_, err := tx.Exec(ctx, `UPDATE accounts SET balance = balance + 1250 WHERE name = 'acme'`)
			return err
		})
		if changerecord.IsDuplicate(err) {
			return nil // ④ the change was made before: a success, so acknowledge
		}
		return err
	}

	deliveries, _ := ch.Consume("ledger", "", false, false, false, false, nil)
	for range 2 {
		d := <-deliveries
		fmt.Printf("redelivered %t, error %v, balance %s\n", d.Redelivered, post(d), testenv.Read(db, `SELECT balance FROM accounts`))
		_ = d.Nack(false, true) // what the broker does with a message that is not acknowledged
	}
	// Output:
	// redelivered false, error <nil>, balance 1250
	// redelivered true, error <nil>, balance 1250
}

// Each delivery makes the change.
//
// Pattern: change-record
func Example_without() {
	db, drop := testenv.ExampleDB(accounts)
	defer drop()
	channel, done := testenv.ExampleRabbit("ledger")
	defer done()
	ctx, ch := context.Background(), channel()
	sale(ch)

	post := func(amqp.Delivery) error {
		_, err := db.Exec(ctx, `UPDATE accounts SET balance = balance + 1250 WHERE name = 'acme'`)
		return err
	}

	deliveries, _ := ch.Consume("ledger", "", false, false, false, false, nil)
	for range 2 {
		d := <-deliveries
		fmt.Printf("redelivered %t, error %v, balance %s\n", d.Redelivered, post(d), testenv.Read(db, `SELECT balance FROM accounts`))
		_ = d.Nack(false, true)
	}
	// Output:
	// redelivered false, error <nil>, balance 1250
	// redelivered true, error <nil>, balance 2500
}
