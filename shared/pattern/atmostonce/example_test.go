package atmostonce_test

import (
	"context"
	"fmt"
	"net/http"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/atmostonce"
	"example.com/failwell/shared/testenv"
)

// The bank takes no key: two requests are two transfers. It makes the transfer and its answer
// is lost; then the payout is run again.
//
// Pattern: at-most-once-guard
func Example() {
	db, done := testenv.ExampleDB(atmostonce.Schema)
	defer done()
	bank := testenv.NewOutside()
	defer bank.Close()
	bank.Lose = 1 // the first answer gets lost
	ctx := context.Background()

	payOut := func(payout string) (outcome string) {
		var first bool
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) (err error) {
			// ① INSERT INTO guards (name) VALUES ($1) ON CONFLICT DO NOTHING: one row, or none
			first, err = atmostonce.Enter(ctx, tx, "bank-transfer:"+payout)
			return err
		})
		if err != nil {
			return "not paid" // ② also when the answer to COMMIT was lost: then the guard may stand, and the call is not made
		}
		if !first {
			return "unknown" // ③ another run has entered: whether it made the call cannot be known here
		}
		if _, err := bank.Ask(ctx, http.DefaultClient, "transfer-"+payout, ""); err != nil {
			return "unknown" // ④ looked up at the bank, by reconciliation or by a person; never asked again
		}
		return "sent"
	}

	fmt.Println("first run:", payOut("pyo_1"))
	fmt.Println("second run:", payOut("pyo_1"))
	fmt.Println("the bank has made:", bank.Done())
	// Output:
	// first run: unknown
	// second run: unknown
	// the bank has made: [transfer-pyo_1]
}

// No guard: what has failed is tried again.
//
// Pattern: at-most-once-guard
func Example_without() {
	bank := testenv.NewOutside()
	defer bank.Close()
	bank.Lose = 1 // the first answer gets lost
	ctx := context.Background()

	payOut := func(payout string) (outcome string) {
		if _, err := bank.Ask(ctx, http.DefaultClient, "transfer-"+payout, ""); err != nil {
			return "not paid"
		}
		return "sent"
	}

	fmt.Println("first run:", payOut("pyo_1"))
	fmt.Println("second run:", payOut("pyo_1"))
	fmt.Println("the bank has made:", bank.Done())
	// Output:
	// first run: not paid
	// second run: sent
	// the bank has made: [transfer-pyo_1 transfer-pyo_1]
}
