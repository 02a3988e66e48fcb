package atmostonce_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/atmostonce"
	"example.com/failwell/shared/testenv"
)

const payouts = `
	CREATE TABLE payouts (id text PRIMARY KEY, outcome text NOT NULL);
	INSERT INTO payouts VALUES ('pyo_1', 'booked');`

var errKilled = errors.New("killed")

// The bank takes no key: two requests are two transfers. The process dies when the bank has made
// the transfer, before it has written that down; then the payout is run again.
//
// Pattern: at-most-once-guard
func Example() {
	db, done := testenv.ExampleDB(atmostonce.Schema + payouts)
	defer done()
	bank := testenv.NewOutside()
	defer bank.Close()
	ctx := context.Background()

	payOut := func(payout string, dies bool) error {
		var first bool
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) (err error) {
			// ① INSERT INTO guards (name) VALUES ($1) ON CONFLICT DO NOTHING: one row, or none
			first, err = atmostonce.Enter(ctx, tx, "bank-transfer:"+payout)
			return err
		})
		if err != nil {
			return err // ② also when only the answer to COMMIT was lost: this run does not call, and the guard may stand
		}
		outcome := "unknown" // ③ an earlier run has entered: it may have made the call, so this one does not
		if first {
			_, err := bank.Ask(ctx, http.DefaultClient, "transfer-"+payout, "")
			if dies {
				return errKilled
			}
			if err == nil { // ④ without an answer it stays unknown, and no run asks again
				outcome = "sent"
			}
		}
		_, err = db.Exec(ctx, `UPDATE payouts SET outcome = $2 WHERE id = $1 AND outcome IN ('booked', 'unknown')`, payout, outcome) // ⑤
		return err
	}

	fmt.Println("first run:", payOut("pyo_1", true), "| the row says:", testenv.Read(db, `SELECT outcome FROM payouts`))
	fmt.Println("second run:", payOut("pyo_1", false), "| the row says:", testenv.Read(db, `SELECT outcome FROM payouts`))
	fmt.Println("the bank has made:", bank.Done())
	// Output:
	// first run: killed | the row says: booked
	// second run: <nil> | the row says: unknown
	// the bank has made: [transfer-pyo_1]
}

// No guard: the row says booked, so the second run asks the bank.
//
// Pattern: at-most-once-guard
func Example_without() {
	db, done := testenv.ExampleDB(payouts)
	defer done()
	bank := testenv.NewOutside()
	defer bank.Close()
	ctx := context.Background()

	payOut := func(payout string, dies bool) error {
		_, err := bank.Ask(ctx, http.DefaultClient, "transfer-"+payout, "")
		if dies {
			return errKilled
		}
		if err == nil {
			_, err = db.Exec(ctx, `UPDATE payouts SET outcome = 'sent' WHERE id = $1`, payout)
		}
		return err
	}

	fmt.Println("first run:", payOut("pyo_1", true), "| the row says:", testenv.Read(db, `SELECT outcome FROM payouts`))
	fmt.Println("second run:", payOut("pyo_1", false), "| the row says:", testenv.Read(db, `SELECT outcome FROM payouts`))
	fmt.Println("the bank has made:", bank.Done())
	// Output:
	// first run: killed | the row says: booked
	// second run: <nil> | the row says: sent
	// the bank has made: [transfer-pyo_1 transfer-pyo_1]
}
