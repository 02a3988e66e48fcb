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

// settled puts a message into the queue "ledger": 12.50 are acme's.
func settled(ch *amqp.Channel) {
	confirm, err := ch.PublishWithDeferredConfirm("", "ledger", true, false, amqp.Publishing{
		MessageId: uuid.NewString(), AppId: "/payments", DeliveryMode: amqp.Persistent,
	})
	if err != nil || !confirm.Wait() {
		panic("not published")
	}
}

// The ledger books 12.50, commits, and dies before it acknowledges: the broker delivers the
// message again.
//
// Pattern: change-record
func Example() {
	db, drop := testenv.ExampleDB(changerecord.Schema + accounts)
	defer drop()
	channel, done := testenv.ExampleRabbit("ledger")
	defer done()
	ctx := context.Background()
	settled(channel())

	book := func(d amqp.Delivery) error {
		message, err := changerecord.Of(d.AppId, d.MessageId) // ① the sender, and the sender's id: the same at each delivery
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
			return nil // ④ the change was made before: no error, so the message is acknowledged
		}
		return err
	}

	for _, dies := range []bool{true, false} {
		ch := channel()
		deliveries, _ := ch.Consume("ledger", "", false, false, false, false, nil)
		d := <-deliveries
		err := book(d)
		fmt.Printf("redelivered %t, error %v, balance %s\n", d.Redelivered, err, testenv.Read(db, `SELECT balance FROM accounts`))
		if err == nil && !dies {
			_ = d.Ack(false) // ⑤ after the commit
		}
		_ = ch.Close() // as the death of the process does: what is not acknowledged goes back into the queue
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
	ctx := context.Background()
	settled(channel())

	book := func(amqp.Delivery) error {
		_, err := db.Exec(ctx, `UPDATE accounts SET balance = balance + 1250 WHERE name = 'acme'`)
		return err
	}

	for _, dies := range []bool{true, false} {
		ch := channel()
		deliveries, _ := ch.Consume("ledger", "", false, false, false, false, nil)
		d := <-deliveries
		err := book(d)
		fmt.Printf("redelivered %t, error %v, balance %s\n", d.Redelivered, err, testenv.Read(db, `SELECT balance FROM accounts`))
		if err == nil && !dies {
			_ = d.Ack(false)
		}
		_ = ch.Close()
	}
	// Output:
	// redelivered false, error <nil>, balance 1250
	// redelivered true, error <nil>, balance 2500
}
