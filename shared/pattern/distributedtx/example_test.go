package distributedtx_test

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/distributedtx"
	"example.com/failwell/shared/testenv"
)

const money = `
	CREATE TABLE money (balance int NOT NULL);
	INSERT INTO money VALUES (1250);`

// A payout takes 12.50 out of two books, each in a database of its own. The coordinator dies
// when one has committed and the other has not.
//
// Pattern: distributed-transaction
func Example() {
	payments, drop := testenv.ExampleDB(money + distributedtx.Schema)
	defer drop()
	ledger, drop2 := testenv.ExampleDB(money)
	defer drop2()
	ctx := context.Background()
	gid := uuid.NewString()
	take := func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE money SET balance = balance - 1250`)
		return err
	}

	// ① Each does its work and votes: PREPARE TRANSACTION. From here on it survives the
	// death of the process and of the database, and holds its locks.
	err := distributedtx.Prepare(ctx, payments, "payments:"+gid, take)
	if err == nil {
		err = distributedtx.Prepare(ctx, ledger, "ledger:"+gid, take)
	}
	// ② One insert decides. Before it, a recovery rolls back; after it, a recovery commits.
	if err == nil {
		_, err = payments.Exec(ctx, `INSERT INTO twophase_decisions (gid, decision) VALUES ($1, 'commit')`, gid)
	}
	// ③ All are told: COMMIT PREPARED.
	if err == nil {
		err = distributedtx.Commit(ctx, payments, "payments:"+gid)
	}
	fmt.Println("the coordinator dies:", err, "| payments", testenv.Read(payments, `SELECT balance FROM money`), "ledger", testenv.Read(ledger, `SELECT balance FROM money`))

	// ④ The next process reads the decisions and tells everybody again: both calls may be repeated.
	decided := testenv.Read(payments, `SELECT gid FROM twophase_decisions WHERE decision = 'commit' AND finished_at IS NULL`)
	fmt.Println("recovered:", distributedtx.Commit(ctx, payments, "payments:"+decided), distributedtx.Commit(ctx, ledger, "ledger:"+decided))
	fmt.Println("payments", testenv.Read(payments, `SELECT balance FROM money`), "ledger", testenv.Read(ledger, `SELECT balance FROM money`))
	fmt.Println("left prepared:", testenv.Read(ledger, `SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE '%' || $1`, gid))
	// Output:
	// the coordinator dies: <nil> | payments 0 ledger 1250
	// recovered: <nil> <nil>
	// payments 0 ledger 0
	// left prepared: 0
}

// Two transactions, one after the other.
//
// Pattern: distributed-transaction
func Example_without() {
	payments, drop := testenv.ExampleDB(money)
	defer drop()
	ledger, drop2 := testenv.ExampleDB(money)
	defer drop2()
	ctx := context.Background()

	_, err := payments.Exec(ctx, `UPDATE money SET balance = balance - 1250`)
	fmt.Println("the process dies:", err, "| payments", testenv.Read(payments, `SELECT balance FROM money`), "ledger", testenv.Read(ledger, `SELECT balance FROM money`))
	// Here would stand the ledger's transaction, and nothing knows that it is missing.
	fmt.Println("left prepared:", testenv.Read(ledger, `SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()`))
	// Output:
	// the process dies: <nil> | payments 0 ledger 1250
	// left prepared: 0
}
