package distributedtx_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/distributedtx"
	"example.com/failwell/shared/testenv"
)

const book = `CREATE TABLE book (payout text NOT NULL, minor int NOT NULL);`

func show(ledger, payments *pgxpool.Pool) string {
	count := `SELECT count(*) FROM book`
	return "| payouts in the ledger: " + testenv.Read(ledger, count) + ", in payments: " + testenv.Read(payments, count)
}

// A payout of 5.00 belongs in two books, each in a database of its own. Payments, the
// coordinator, dies when the ledger has done its half.
//
// Pattern: distributed-transaction
func Example() {
	ledger, drop := testenv.ExampleDB(book)
	defer drop()
	payments, drop2 := testenv.ExampleDB(book + distributedtx.Schema)
	defer drop2()
	ctx, payout := context.Background(), uuid.NewString()
	note := func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO book VALUES ($1, 500)`, payout)
		return err
	}

	// ② One insert decides: the first decision stands, and every later one reads it.
	end := func(gid, wanted string) error {
		decision := testenv.Read(payments, `
			INSERT INTO twophase_decisions AS d (gid, decision) VALUES ($1, $2)
			ON CONFLICT (gid) DO UPDATE SET gid = d.gid RETURNING decision`, gid, wanted)
		// ③ All are told: COMMIT PREPARED or ROLLBACK PREPARED. Both calls may be repeated.
		tell := distributedtx.Rollback
		if decision == "commit" {
			tell = distributedtx.Commit
		}
		return errors.Join(tell(ctx, ledger, "ledger:"+gid), tell(ctx, payments, "payments:"+gid))
	}
	attempt := func(gid string, dies bool) error {
		// ① Each does its work and votes: PREPARE TRANSACTION. From here on it survives the
		// death of the process and of the database, and holds its locks.
		err := distributedtx.Prepare(ctx, ledger, "ledger:"+gid, note)
		if err == nil && !dies {
			err = distributedtx.Prepare(ctx, payments, "payments:"+gid, note)
		}
		if err != nil || dies {
			return err
		}
		return end(gid, "commit")
	}

	prepared := func() string {
		return testenv.Read(ledger, `SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE '%' || $1 || '%'`, payout)
	}
	fmt.Println("payments dies, error:", attempt(payout+".1", true), show(ledger, payments), "| in doubt:", prepared())
	fmt.Println("recovered, error:", end(payout+".1", "abort"), show(ledger, payments), "| in doubt:", prepared()) // ④ not decided: abort
	fmt.Println("run again, error:", attempt(payout+".2", false), show(ledger, payments), "| in doubt:", prepared())
	// Output:
	// payments dies, error: <nil> | payouts in the ledger: 0, in payments: 0 | in doubt: 1
	// recovered, error: <nil> | payouts in the ledger: 0, in payments: 0 | in doubt: 0
	// run again, error: <nil> | payouts in the ledger: 1, in payments: 1 | in doubt: 0
}

// Two transactions, one after the other.
//
// Pattern: distributed-transaction
func Example_without() {
	ledger, drop := testenv.ExampleDB(book)
	defer drop()
	payments, drop2 := testenv.ExampleDB(book)
	defer drop2()

	_, err := ledger.Exec(context.Background(), `INSERT INTO book VALUES ('pyo_1', 500)`)
	// Here would stand payments' transaction.
	fmt.Println("payments dies, error:", err, show(ledger, payments))
	// Output:
	// payments dies, error: <nil> | payouts in the ledger: 1, in payments: 0
}
