package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/testenv"
)

// The processor holds the money, and its answer gets lost.
//
// Pattern: idempotency-key-external
func Example_idempotencyKeyExternal() {
	db, done := testenv.ExampleDB(`
		CREATE TABLE payments (id text PRIMARY KEY, status text NOT NULL, receipt text);
		INSERT INTO payments VALUES ('pay_1', 'authorising');`)
	defer done()
	processor := testenv.NewOutside()
	defer processor.Close()
	processor.Keys, processor.Lose = true, 1 // keys are remembered; the first answer gets lost
	ctx := context.Background()

	hold := func(payment string) error {
		key := payment + ":authorise" // ① of what was stored before the call: the same after a restart
		receipt, err := processor.Ask(ctx, http.DefaultClient, "hold-12.50", key)
		if err != nil {
			return err // ② not known: nothing is noted, and the same call is made again
		}
		_, err = db.Exec(ctx, `
			UPDATE payments
			   SET status  = 'authorised', -- ③ only an answer ends it
			       receipt = $2
			 WHERE id = $1`,
			payment, receipt)
		return err
	}

	for err := hold("pay_1"); err != nil; err = hold("pay_1") { // ④ until the answer is definite
		fmt.Println("not known | noted:", testenv.Read(db, `SELECT status FROM payments`))
	}
	fmt.Println("noted:", testenv.Read(db, `SELECT status, receipt FROM payments`), "| processor:", processor.Done())
	// Output:
	// not known | noted: authorising
	// noted: authorised receipt 1 | processor: [hold-12.50]
}

// Each try has a key of its own.
//
// Pattern: idempotency-key-external
func Example_idempotencyKeyExternal_without() {
	db, done := testenv.ExampleDB(`
		CREATE TABLE payments (id text PRIMARY KEY, status text NOT NULL, receipt text);
		INSERT INTO payments VALUES ('pay_1', 'authorising');`)
	defer done()
	processor := testenv.NewOutside()
	defer processor.Close()
	processor.Keys, processor.Lose = true, 1 // keys are remembered; the first answer gets lost
	ctx := context.Background()

	hold := func(payment string) error {
		receipt, err := processor.Ask(ctx, http.DefaultClient, "hold-12.50", uuid.NewString())
		if err != nil {
			return err
		}
		_, err = db.Exec(ctx, `UPDATE payments SET status = 'authorised', receipt = $2 WHERE id = $1`, payment, receipt)
		return err
	}

	for err := hold("pay_1"); err != nil; err = hold("pay_1") {
		fmt.Println("not known | noted:", testenv.Read(db, `SELECT status FROM payments`))
	}
	fmt.Println("noted:", testenv.Read(db, `SELECT status, receipt FROM payments`), "| processor:", processor.Done())
	// Output:
	// not known | noted: authorising
	// noted: authorised receipt 2 | processor: [hold-12.50 hold-12.50]
}

// tokenBook is the processor's: a token may be redeemed once, by one reference.
type tokenBook struct{ *pgxpool.Pool }

var errTokenUsed = errors.New("the token was used")

const tokens = `
	CREATE TABLE tokens (token text PRIMARY KEY, method text NOT NULL, redeemed_for text);
	INSERT INTO tokens VALUES ('tok_1', 'pm_visa');`

func (b tokenBook) redeem(ctx context.Context, token, reference string) (string, error) {
	return b.method(ctx, `UPDATE tokens SET redeemed_for = $2 WHERE token = $1 AND redeemed_for IS NULL RETURNING method`, token, reference)
}

func (b tokenBook) redeemedFor(ctx context.Context, reference string) (string, error) {
	return b.method(ctx, `SELECT method FROM tokens WHERE redeemed_for = $1`, reference)
}

func (b tokenBook) method(ctx context.Context, query string, args ...any) (method string, err error) {
	err = b.QueryRow(ctx, query, args...).Scan(&method)
	if errors.Is(err, pgx.ErrNoRows) {
		err = errTokenUsed
	}
	return method, err
}

// The token is redeemed, and the answer is lost. The payment tries again; then another payment
// tries the same token.
//
// Pattern: single-use-token-recovery
func Example_singleUseTokenRecovery() {
	db, done := testenv.ExampleDB(`CREATE TABLE payments (id text PRIMARY KEY, method text);`)
	defer done()
	books, drop := testenv.ExampleDB(tokens)
	defer drop()
	ctx, processor := context.Background(), tokenBook{books}

	authorise := func(payment, token string) (method string, err error) {
		method, err = processor.redeem(ctx, token, payment) // ① our own reference goes along
		if errors.Is(err, errTokenUsed) {
			method, err = processor.redeemedFor(ctx, payment) // ② by this payment? a read, which may be repeated
		}
		switch {
		case errors.Is(err, errTokenUsed):
			return "refused", nil // ③ used by another payment: this is definite
		case err != nil:
			return "", err // not known: try again
		}
		_, err = db.Exec(ctx, `INSERT INTO payments VALUES ($1, $2) ON CONFLICT DO NOTHING`, payment, method) // ④ ours: go on with it
		return method, err
	}

	_, _ = processor.redeem(ctx, "tok_1", "pay_1") // the answer does not arrive
	fmt.Println("redeemed for:", testenv.Read(books, `SELECT redeemed_for FROM tokens`), "| payments:", testenv.Read(db, `SELECT count(*) FROM payments`))
	fmt.Println(authorise("pay_1", "tok_1"))
	fmt.Println(authorise("pay_2", "tok_1"))
	fmt.Println("payments:", testenv.Read(db, `SELECT id, method FROM payments`))
	// Output:
	// redeemed for: pay_1 | payments: 0
	// pm_visa <nil>
	// refused <nil>
	// payments: pay_1 pm_visa
}

// A token that was used is a refusal, also when it was ours.
//
// Pattern: single-use-token-recovery
func Example_singleUseTokenRecovery_without() {
	db, done := testenv.ExampleDB(`CREATE TABLE payments (id text PRIMARY KEY, method text);`)
	defer done()
	books, drop := testenv.ExampleDB(tokens)
	defer drop()
	ctx, processor := context.Background(), tokenBook{books}

	authorise := func(payment, token string) (method string, err error) {
		method, err = processor.redeem(ctx, token, payment)
		switch {
		case errors.Is(err, errTokenUsed):
			return "refused", nil
		case err != nil:
			return "", err
		}
		_, err = db.Exec(ctx, `INSERT INTO payments VALUES ($1, $2) ON CONFLICT DO NOTHING`, payment, method)
		return method, err
	}

	_, _ = processor.redeem(ctx, "tok_1", "pay_1") // the answer does not arrive
	fmt.Println("redeemed for:", testenv.Read(books, `SELECT redeemed_for FROM tokens`), "| payments:", testenv.Read(db, `SELECT count(*) FROM payments`))
	fmt.Println(authorise("pay_1", "tok_1"))
	fmt.Println("payments:", testenv.Read(db, `SELECT count(*) FROM payments`))
	// Output:
	// redeemed for: pay_1 | payments: 0
	// refused <nil>
	// payments: 0
}
