package changerecord_test

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/platform/postgres"
)

// The record goes first, the change follows in the same transaction. A
// duplicate is a success: the change has been made, acknowledge the message.
func Example() {
	db, done := exampleDB()
	defer done()
	message := changerecord.Message{Source: "/payments", ID: uuid.MustParse("0198a3f0-5d2c-7c11-8d3e-0d9f7b1c2a34")}

	for range 2 { // the broker delivers it twice
		err := postgres.Write(context.Background(), db, func(b *pgx.Batch) {
			message.Record(b)
			b.Queue(`UPDATE accounts SET balance = balance + 4990 WHERE name = 'acme'`)
		})
		switch {
		case changerecord.IsDuplicate(err):
			fmt.Println("changed before: acknowledge")
		case err != nil:
			fmt.Println("not changed: deliver again", err)
		default:
			fmt.Println("changed: acknowledge")
		}
	}
	var balance int
	err := db.QueryRow(context.Background(), `SELECT balance FROM accounts WHERE name = 'acme'`).Scan(&balance)
	fmt.Println("balance", balance, err)
	// Output:
	// changed: acknowledge
	// changed before: acknowledge
	// balance 4990 <nil>
}
