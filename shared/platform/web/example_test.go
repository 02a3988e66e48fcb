package web_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
	"example.com/failwell/shared/testenv"
)

const charges = `CREATE TABLE charges (id text PRIMARY KEY, status text NOT NULL, receipt text);`

// death ends the connection, as the death of the process does.
const death = `SELECT pg_terminate_backend(pg_backend_pid())`

// A card is charged at the processor, and the process dies before that is committed.
//
// Pattern: io-inside-transaction
func Example_ioInsideTransaction() {
	db, done := testenv.ExampleDB(charges)
	defer done()
	processor := testenv.NewOutside()
	defer processor.Close()
	processor.Keys = true // keys are remembered
	ctx, client := context.Background(), web.Client(5*time.Second)

	charge := func(then string) error {
		// ① The intent, committed before the call.
		_, err := db.Exec(ctx, `INSERT INTO charges VALUES ('pay_1', 'charging') ON CONFLICT DO NOTHING`)
		if err != nil {
			return err
		}
		receipt, err := processor.Ask(ctx, client, "charge-12.50", "pay_1") // ② the call: no transaction is open, no lock is held
		if err != nil {
			return err
		}
		return postgres.InTx(ctx, db, func(ctx context.Context, tx pgx.Tx) error { // ③ what it has answered
			if _, err := tx.Exec(ctx, then); err != nil { // here the process may die
				return err
			}
			_, err := tx.Exec(ctx, `UPDATE charges SET status = 'charged', receipt = $1 WHERE id = 'pay_1'`, receipt)
			return err
		})
	}
	inside := postgres.InTx(ctx, db, func(ctx context.Context, _ pgx.Tx) error {
		_, err := processor.Ask(ctx, client, "charge-12.50", "pay_1") // ④ ctx carries the mark of the transaction
		return err
	})

	fmt.Println("a call inside is refused:", errors.Is(inside, web.ErrInTransaction))
	fmt.Println("the process dies:", charge(death) != nil, "| noted:", testenv.Read(db, `SELECT status FROM charges`))
	fmt.Println("tried again:", charge(`SELECT 1`), "| noted:", testenv.Read(db, `SELECT status, receipt FROM charges`))
	fmt.Println("processor:", processor.Done())
	// Output:
	// a call inside is refused: true
	// the process dies: true | noted: charging
	// tried again: <nil> | noted: charged receipt 1
	// processor: [charge-12.50]
}

// The antipattern: the call is made while the transaction is open.
//
// Pattern: io-inside-transaction
func Example_ioInsideTransaction_without() {
	db, done := testenv.ExampleDB(charges)
	defer done()
	processor := testenv.NewOutside()
	defer processor.Close()
	processor.Keys = true // keys are remembered
	ctx := context.Background()

	charge := func(then string) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `INSERT INTO charges VALUES ('pay_1', 'charging')`); err != nil {
				return err
			}
			receipt, err := processor.Ask(ctx, http.DefaultClient, "charge-12.50", "pay_1")
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, then); err != nil { // here the process may die
				return err
			}
			_, err = tx.Exec(ctx, `UPDATE charges SET status = 'charged', receipt = $1 WHERE id = 'pay_1'`, receipt)
			return err
		})
	}

	fmt.Println("the process dies:", charge(death) != nil, "| noted:", testenv.Read(db, `SELECT count(*) FROM charges`))
	fmt.Println("processor:", processor.Done())
	// Output:
	// the process dies: true | noted: 0
	// processor: [charge-12.50]
}
