package idempotency_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/testenv"
)

const orders = `CREATE TABLE baskets (id int GENERATED ALWAYS AS IDENTITY, basket text NOT NULL, status text NOT NULL DEFAULT 'pending');`

// named is a request that its client names; over HTTP, FromRequest makes it.
func named(key, basket string) idempotency.Request {
	return idempotency.Request{
		Merchant: "acme", Operation: "POST /v1/orders", Key: key,
		Fingerprint: sha256.Sum256([]byte(basket)), Retention: 24 * time.Hour,
	}
}

// The answer to an order gets lost, and the client sends the same again.
//
// Pattern: idempotency-key
func Example_idempotencyKey() {
	db, done := testenv.ExampleDB(idempotency.Schema + orders)
	defer done()
	ctx := context.Background()

	place := func(key, basket string) (answer idempotency.Recorded, err error) {
		r := named(key, basket) // ① the client's name for it
		for again := true; again; again = idempotency.IsDuplicate(err) {
			err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
				if answer, err = r.LookupTx(ctx, tx); err != nil || answer.Exists {
					return err // ② known: the first answer
				}
				// ③ INSERT INTO idempotency_keys, before the work: of two requests at once one waits
				// here for the other's commit, fails as a duplicate, and looks again
				answer = idempotency.Fresh(idempotency.Response{Status: http.StatusAccepted, Body: []byte("thank you")})
				if err := r.RecordTx(ctx, tx, answer.Response); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, `INSERT INTO baskets (basket) VALUES ($1)`, basket) // ④ the work, in the same transaction
				return err
			})
		}
		return answer, err
	}

	_, _ = place("k-1", "a mug") // the answer does not arrive
	answer, err := place("k-1", "a mug")
	fmt.Println(answer.Status, string(answer.Body), err)
	fmt.Println("orders:", testenv.Read(db, `SELECT id, basket FROM baskets`))
	// Output:
	// 202 thank you <nil>
	// orders: 1 a mug
}

// The request has no name.
//
// Pattern: idempotency-key
func Example_idempotencyKey_without() {
	db, done := testenv.ExampleDB(orders)
	defer done()
	ctx := context.Background()

	place := func(basket string) (status int, body string, err error) {
		_, err = db.Exec(ctx, `INSERT INTO baskets (basket) VALUES ($1)`, basket)
		return http.StatusAccepted, "thank you", err
	}

	_, _, _ = place("a mug") // the answer does not arrive
	fmt.Println(place("a mug"))
	fmt.Println("orders:", testenv.Read(db, `SELECT id, basket FROM baskets`))
	// Output:
	// 202 thank you <nil>
	// orders: 1 a mug, 2 a mug
}

const keys = `CREATE TABLE keys (key text PRIMARY KEY, fingerprint text NOT NULL, answer text NOT NULL);`

// The client's program orders a mug, sends that again, and then uses the same key for a poster.
//
// Pattern: reject-non-identical
func Example_rejectNonIdentical() {
	db, done := testenv.ExampleDB(keys + orders)
	defer done()
	ctx := context.Background()

	place := func(key, body string) (answer string, err error) {
		content := jsontext.Value(body)
		// ① White space and the order of the fields do not count; numbers keep their text.
		if err := content.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false)); err != nil {
			return "", err
		}
		fingerprint := fmt.Sprintf("%x", sha256.Sum256([]byte("POST /v1/orders "+string(content))))
		err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			answer = "ordered: " + body
			// ② Stored with the key.
			tag, err := tx.Exec(ctx, `INSERT INTO keys VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, key, fingerprint, answer)
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 1 {
				_, err = tx.Exec(ctx, `INSERT INTO baskets (basket) VALUES ($1)`, body)
				return err
			}
			var was string
			err = tx.QueryRow(ctx, `SELECT fingerprint, answer FROM keys WHERE key = $1`, key).Scan(&was, &answer)
			if err == nil && was != fingerprint {
				return idempotency.ErrKeyReused // ③ 422: nothing is written, and the client learns of its mistake
			}
			return err // ④ the same again: the first answer
		})
		if err != nil {
			return "", err // not the other request's answer
		}
		return answer, nil
	}

	fmt.Println(place("k-1", `{"item": "mug", "quantity": 1}`))
	fmt.Println(place("k-1", `{"quantity": 1, "item": "mug"}`))
	_, err := place("k-1", `{"item": "poster", "quantity": 1}`)
	fmt.Println(err)
	fmt.Println("orders:", testenv.Read(db, `SELECT id, basket FROM baskets`))
	// Output:
	// ordered: {"item": "mug", "quantity": 1} <nil>
	// ordered: {"item": "mug", "quantity": 1} <nil>
	// 422 Idempotency-Key used for another request: This key was used for a request with other content. Use a new key for a new request.
	// orders: 1 {"item": "mug", "quantity": 1}
}

// A key that is known gets the recorded answer, with whatever content it came.
//
// Pattern: reject-non-identical
func Example_rejectNonIdentical_without() {
	db, done := testenv.ExampleDB(keys + orders)
	defer done()
	ctx := context.Background()

	place := func(key, body string) (answer string, err error) {
		err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			answer = "ordered: " + body
			tag, err := tx.Exec(ctx, `INSERT INTO keys VALUES ($1, '', $2) ON CONFLICT DO NOTHING`, key, answer)
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 1 {
				_, err = tx.Exec(ctx, `INSERT INTO baskets (basket) VALUES ($1)`, body)
				return err
			}
			return tx.QueryRow(ctx, `SELECT answer FROM keys WHERE key = $1`, key).Scan(&answer)
		})
		return answer, err
	}

	fmt.Println(place("k-1", `{"item": "mug", "quantity": 1}`))
	fmt.Println(place("k-1", `{"quantity": 1, "item": "mug"}`))
	fmt.Println(place("k-1", `{"item": "poster", "quantity": 1}`))
	fmt.Println("orders:", testenv.Read(db, `SELECT id, basket FROM baskets`))
	// Output:
	// ordered: {"item": "mug", "quantity": 1} <nil>
	// ordered: {"item": "mug", "quantity": 1} <nil>
	// ordered: {"item": "mug", "quantity": 1} <nil>
	// orders: 1 {"item": "mug", "quantity": 1}
}

// The order is cancelled between the first answer and the retry.
//
// Pattern: response-record
func Example_responseRecord() {
	db, done := testenv.ExampleDB(idempotency.Schema + orders)
	defer done()
	ctx := context.Background()

	place := func(key, basket string) (answer idempotency.Recorded, err error) {
		r := named(key, basket)
		err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			answer, err = r.LookupTx(ctx, tx) // ① SELECT status, headers, body: the bytes of the first answer
			if err != nil || answer.Exists {
				return err
			}
			var id int
			var status string
			err := tx.QueryRow(ctx, `INSERT INTO baskets (basket) VALUES ($1) RETURNING id, status`, basket).Scan(&id, &status)
			if err != nil {
				return err
			}
			// ② the finished answer, not the order's data
			answer = idempotency.Fresh(idempotency.Response{Status: http.StatusAccepted, Body: fmt.Appendf(nil, "order %d, %s", id, status)})
			return r.RecordTx(ctx, tx, answer.Response) // ③ in the transaction of the work: there is no work without its answer
		})
		return answer, err
	}

	first, err := place("k-1", "a mug")
	fmt.Println(first.Status, string(first.Body), err)
	_, _ = db.Exec(ctx, `UPDATE baskets SET status = 'cancelled'`)
	again, err := place("k-1", "a mug")
	fmt.Println(again.Status, string(again.Body), err)
	fmt.Println("orders:", testenv.Read(db, `SELECT * FROM baskets`))
	// Output:
	// 202 order 1, pending <nil>
	// 202 order 1, pending <nil>
	// orders: 1 a mug cancelled
}

// A retry is answered from the order as it stands now.
//
// Pattern: response-record
func Example_responseRecord_without() {
	db, done := testenv.ExampleDB(`CREATE TABLE baskets (id int GENERATED ALWAYS AS IDENTITY, key text UNIQUE, basket text, status text DEFAULT 'pending');`)
	defer done()
	ctx := context.Background()

	place := func(key, basket string) (status int, body string, err error) {
		var id int
		var state string
		_, err = db.Exec(ctx, `INSERT INTO baskets (key, basket) VALUES ($1, $2) ON CONFLICT DO NOTHING`, key, basket)
		if err == nil {
			err = db.QueryRow(ctx, `SELECT id, status FROM baskets WHERE key = $1`, key).Scan(&id, &state)
		}
		return http.StatusAccepted, fmt.Sprintf("order %d, %s", id, state), err
	}

	fmt.Println(place("k-1", "a mug"))
	_, _ = db.Exec(ctx, `UPDATE baskets SET status = 'cancelled'`)
	fmt.Println(place("k-1", "a mug"))
	// Output:
	// 202 order 1, pending <nil>
	// 202 order 1, cancelled <nil>
}

// The answer to an order gets lost, and the client asks again what became of it.
//
// Pattern: reject-duplicate
func Example_rejectDuplicate() {
	db, done := testenv.ExampleDB(idempotency.Schema + orders)
	defer done()
	ctx := context.Background()

	place := func(key, basket string) (answer idempotency.Recorded, err error) {
		r := named(key, basket)
		err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			if answer, err = r.LookupTx(ctx, tx); err != nil || answer.Exists {
				return err // ① a duplicate: the answer of the first one, and no error
			}
			var id int
			if err := tx.QueryRow(ctx, `INSERT INTO baskets (basket) VALUES ($1) RETURNING id`, basket).Scan(&id); err != nil {
				return err
			}
			answer = idempotency.Fresh(idempotency.Response{Status: http.StatusAccepted, Body: fmt.Appendf(nil, "order %d", id)})
			return r.RecordTx(ctx, tx, answer.Response)
		})
		return answer, err
	}

	_, _ = place("k-1", "a mug") // the answer does not arrive
	answer, err := place("k-1", "a mug")
	fmt.Println(answer.Status, string(answer.Body), err) // ② the client has its order's id
	_, err = place("k-1", "a teapot")
	fmt.Println(err) // ③ refused is only what cannot be answered
	fmt.Println("orders:", testenv.Read(db, `SELECT id, basket FROM baskets`))
	// Output:
	// 202 order 1 <nil>
	// 422 Idempotency-Key used for another request: This key was used for a request with other content. Use a new key for a new request.
	// orders: 1 a mug
}

// The antipattern: a duplicate is an error. The client does what clients do with errors: it
// tries with a new key.
//
// Pattern: reject-duplicate
func Example_rejectDuplicate_without() {
	db, done := testenv.ExampleDB(`CREATE TABLE baskets (id int GENERATED ALWAYS AS IDENTITY, key text UNIQUE, basket text);`)
	defer done()

	place := func(key, basket string) (status int, body string) {
		if testenv.Read(db, `SELECT id FROM baskets WHERE key = $1`, key) != "" {
			return http.StatusConflict, "duplicate order"
		}
		return http.StatusAccepted, testenv.Read(db, `INSERT INTO baskets (key, basket) VALUES ($1, $2) RETURNING 'order ' || id`, key, basket)
	}

	_, _ = place("k-1", "a mug") // the answer does not arrive
	fmt.Println(place("k-1", "a mug"))
	fmt.Println(place("k-2", "a mug"))
	fmt.Println("orders:", testenv.Read(db, `SELECT id, basket FROM baskets`))
	// Output:
	// 409 duplicate order
	// 202 order 2
	// orders: 1 a mug, 2 a mug
}

const locks = `CREATE TABLE locks (key text PRIMARY KEY, token uuid, locked_until timestamptz, answer text);`

// A refund calls a slow processor, which takes no key. The client's retry comes while the first request waits.
//
// Pattern: idempotency-key-lock
func Example_idempotencyKeyLock() {
	db, done := testenv.ExampleDB(locks)
	defer done()
	processor := testenv.NewOutside()
	defer processor.Close()
	ctx := context.Background()

	refund := func(meanwhile func()) (answer string, err error) {
		token, recorded, held := uuid.New(), (*string)(nil), false
		err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { // ① committed before the call
			_, err := tx.Exec(ctx, `INSERT INTO locks (key) VALUES ('k-1') ON CONFLICT DO NOTHING`)
			if err != nil {
				return err
			}
			err = tx.QueryRow(ctx, `SELECT answer, COALESCE(locked_until > now(), false) FROM locks WHERE key = 'k-1' FOR UPDATE`).Scan(&recorded, &held)
			if err != nil || recorded != nil || held {
				return err
			}
			// ② Who holds the key, and until when.
			_, err = tx.Exec(ctx, `UPDATE locks SET token = $1, locked_until = now() + interval '30 s' WHERE key = 'k-1'`, token)
			return err
		})
		switch {
		case err != nil:
			return "", err
		case recorded != nil:
			return *recorded, nil
		case held:
			return "", idempotency.ErrKeyInUse // ③ 409: come back
		}
		meanwhile()
		if answer, err = processor.Ask(ctx, http.DefaultClient, "refund-5.00", ""); err != nil { // ④ no transaction is open
			return "", err
		}
		tag, err := db.Exec(ctx, `UPDATE locks SET answer = $2, locked_until = NULL WHERE key = 'k-1' AND token = $1`, token, answer)
		if err == nil && tag.RowsAffected() == 0 {
			err = idempotency.ErrLockLost // ⑤ the fence: another has taken the key over, and nothing is written
		}
		return answer, err
	}

	first, err := refund(func() {
		_, err := refund(func() {})
		fmt.Println("second:", err)
	})
	fmt.Println("first:", first, err)
	again, err := refund(func() {})
	fmt.Println("third:", again, err)
	fmt.Println("the processor has made:", processor.Done())
	// Output:
	// second: 409 A request with this key is in progress: Another request with this key has not finished. Send it again with the same key.
	// first: receipt 1 <nil>
	// third: receipt 1 <nil>
	// the processor has made: [refund-5.00]
}

// Both look, find nothing finished, and go on.
//
// Pattern: idempotency-key-lock
func Example_idempotencyKeyLock_without() {
	db, done := testenv.ExampleDB(locks)
	defer done()
	processor := testenv.NewOutside()
	defer processor.Close()
	ctx := context.Background()

	refund := func(meanwhile func()) (answer string, err error) {
		err = db.QueryRow(ctx, `SELECT answer FROM locks WHERE key = 'k-1'`).Scan(&answer)
		if !errors.Is(err, pgx.ErrNoRows) {
			return answer, err
		}
		meanwhile()
		if answer, err = processor.Ask(ctx, http.DefaultClient, "refund-5.00", ""); err != nil {
			return "", err
		}
		_, err = db.Exec(ctx, `INSERT INTO locks (key, answer) VALUES ('k-1', $1) ON CONFLICT DO NOTHING`, answer)
		return answer, err
	}

	first, err := refund(func() {
		second, err := refund(func() {})
		fmt.Println("second:", second, err)
	})
	fmt.Println("first:", first, err)
	again, err := refund(func() {})
	fmt.Println("third:", again, err)
	fmt.Println("the processor has made:", processor.Done())
	// Output:
	// second: receipt 1 <nil>
	// first: receipt 2 <nil>
	// third: receipt 1 <nil>
	// the processor has made: [refund-5.00 refund-5.00]
}
