package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/testenv"
)

// The processor captures the money, and its answer gets lost.
//
// Pattern: idempotency-key-external
func Example_idempotencyKeyExternal() {
	db, done := testenv.ExampleDB(`
		CREATE TABLE payments (id text PRIMARY KEY, status text NOT NULL, receipt text);
		INSERT INTO payments VALUES ('pay_1', 'authorised');`)
	defer done()
	processor := testenv.NewOutside()
	defer processor.Close()
	processor.Keys, processor.Lose = true, 1
	ctx := context.Background()

	capture := func(payment string) error {
		key := payment + ":capture" // ① of what was stored before the call: the same after a restart
		receipt, err := processor.Ask(ctx, http.DefaultClient, "capture-12.50", key)
		if err != nil {
			return err // ② not known: nothing is noted, and the same call is made again
		}
		_, err = db.Exec(ctx, `
			UPDATE payments
			   SET status  = 'captured', -- ③ only an answer ends it
			       receipt = $2
			 WHERE id = $1`,
			payment, receipt)
		return err
	}

	for err := capture("pay_1"); err != nil; err = capture("pay_1") { // ④ until the answer is definite
		fmt.Println("not known | noted:", testenv.Read(db, `SELECT status FROM payments`))
	}
	fmt.Println("noted:", testenv.Read(db, `SELECT status, receipt FROM payments`), "| processor:", processor.Done())
	// Output:
	// not known | noted: authorised
	// noted: captured receipt 1 | processor: [capture-12.50]
}

// Each try has a key of its own.
//
// Pattern: idempotency-key-external
func Example_idempotencyKeyExternal_without() {
	db, done := testenv.ExampleDB(`
		CREATE TABLE payments (id text PRIMARY KEY, status text NOT NULL, receipt text);
		INSERT INTO payments VALUES ('pay_1', 'authorised');`)
	defer done()
	processor := testenv.NewOutside()
	defer processor.Close()
	processor.Keys, processor.Lose = true, 1
	ctx := context.Background()

	capture := func(payment string) error {
		receipt, err := processor.Ask(ctx, http.DefaultClient, "capture-12.50", uuid.NewString())
		if err != nil {
			return err
		}
		_, err = db.Exec(ctx, `UPDATE payments SET status = 'captured', receipt = $2 WHERE id = $1`, payment, receipt)
		return err
	}

	for err := capture("pay_1"); err != nil; err = capture("pay_1") {
		fmt.Println("not known | noted:", testenv.Read(db, `SELECT status FROM payments`))
	}
	fmt.Println("noted:", testenv.Read(db, `SELECT status, receipt FROM payments`), "| processor:", processor.Done())
	// Output:
	// not known | noted: authorised
	// noted: captured receipt 2 | processor: [capture-12.50 capture-12.50]
}

// The processor's books: a token may be redeemed once, by one reference.
const tokens = `
	CREATE TABLE tokens (token text PRIMARY KEY, method text NOT NULL, redeemed_for text);
	INSERT INTO tokens VALUES ('tok_1', 'pm_visa');`

// redeem is the processor's half: "" means that the token was used before.
const redeem = `
	UPDATE tokens
	   SET redeemed_for = $2
	 WHERE token = $1
	   AND redeemed_for IS NULL
	RETURNING method`

// The token is redeemed, and the process dies before the payment method is noted. Then another
// payment tries its luck with the same token.
//
// Pattern: single-use-token-recovery
func Example_singleUseTokenRecovery() {
	db, done := testenv.ExampleDB(`CREATE TABLE payments (id text PRIMARY KEY, method text);`)
	defer done()
	processor, drop := testenv.ExampleDB(tokens)
	defer drop()
	ctx := context.Background()

	authorise := func(payment, token string, dies bool) string {
		method := testenv.Read(processor, redeem, token, payment) // ① our own reference goes along
		if dies {
			return "the process dies"
		}
		if method == "" {
			// ② Used: by whom? This is a read, and may be repeated.
			method = testenv.Read(processor, `SELECT method FROM tokens WHERE token = $1 AND redeemed_for = $2`, token, payment)
		}
		if method == "" {
			return "refused: the token was used" // ③ by another: a definite answer
		}
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO payments VALUES ($1, $2) ON CONFLICT DO NOTHING`, payment, method) // ④ by us: go on with it
			return err
		})
		if err != nil {
			return err.Error()
		}
		return "authorised with " + method
	}

	fmt.Println("pay_1:", authorise("pay_1", "tok_1", true))
	fmt.Println("pay_1:", authorise("pay_1", "tok_1", false))
	fmt.Println("pay_2:", authorise("pay_2", "tok_1", false))
	fmt.Println("payments:", testenv.Read(db, `SELECT id, method FROM payments`))
	// Output:
	// pay_1: the process dies
	// pay_1: authorised with pm_visa
	// pay_2: refused: the token was used
	// payments: pay_1 pm_visa
}

// A token that was used is a refusal, also when it was ours.
//
// Pattern: single-use-token-recovery
func Example_singleUseTokenRecovery_without() {
	db, done := testenv.ExampleDB(`CREATE TABLE payments (id text PRIMARY KEY, method text);`)
	defer done()
	processor, drop := testenv.ExampleDB(tokens)
	defer drop()
	ctx := context.Background()

	authorise := func(payment, token string, dies bool) string {
		method := testenv.Read(processor, redeem, token, payment)
		if dies {
			return "the process dies"
		}
		if method == "" {
			return "refused: the token was used"
		}
		if _, err := db.Exec(ctx, `INSERT INTO payments VALUES ($1, $2) ON CONFLICT DO NOTHING`, payment, method); err != nil {
			return err.Error()
		}
		return "authorised with " + method
	}

	fmt.Println("pay_1:", authorise("pay_1", "tok_1", true))
	fmt.Println("pay_1:", authorise("pay_1", "tok_1", false))
	fmt.Println("payments:", testenv.Read(db, `SELECT id, method FROM payments`), "| redeemed for:", testenv.Read(processor, `SELECT redeemed_for FROM tokens`))
	// Output:
	// pay_1: the process dies
	// pay_1: refused: the token was used
	// payments:  | redeemed for: pay_1
}
