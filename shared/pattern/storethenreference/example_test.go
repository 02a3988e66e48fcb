package storethenreference_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"gocloud.dev/blob/memblob"

	"example.com/failwell/shared/pattern/storethenreference"
	"example.com/failwell/shared/testenv"
)

const receipts = `
	CREATE TABLE payments (id text PRIMARY KEY, receipt text NOT NULL DEFAULT '');
	INSERT INTO payments VALUES ('pay_1');`

// death ends the connection, as the death of the process does.
const death = `SELECT pg_terminate_backend(pg_backend_pid())`

// show is the document that the row leads to.
func show(db *pgxpool.Pool, store storethenreference.Store) string {
	name := testenv.Read(db, `SELECT receipt FROM payments`)
	if name == "" {
		return "no receipt yet"
	}
	document, err := store.Get(context.Background(), name)
	if err != nil {
		return err.Error()
	}
	return string(document)
}

var errRefused = errors.New("no reference written: there is one already, or it is too late")

// A receipt goes into the document store and its name into a row. The process dies between
// the two. Later one writer is too slow, and another has a second text for the same payment.
//
// Pattern: store-then-reference
func Example() {
	db, done := testenv.ExampleDB(storethenreference.Schema + receipts)
	defer done()
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close() //nolint:errcheck // it is memory
	store := storethenreference.New(storethenreference.Config{Bucket: bucket, Dir: "receipts", Grace: time.Hour})
	ctx := context.Background()

	issue := func(store storethenreference.Store, then, receipt string) error {
		now := storethenreference.ClockReading{Read: time.Now()} // the time of the database, and when we asked for it
		if err := db.QueryRow(ctx, `SELECT now()`).Scan(&now.Database); err != nil {
			return err
		}
		ref, err := store.Put(ctx, now, "text/plain", []byte(receipt)) // ① the document first, under a name that is new
		if err != nil {
			return err
		}
		if _, err := db.Exec(ctx, then); err != nil { // here the process may die, or be slow
			return err
		}
		tag, err := db.Exec(ctx, `
			UPDATE payments
			   SET receipt = $1                -- ② the reference last
			 WHERE id = 'pay_1'
			   AND receipt = ''                -- ③ and never another one
			   AND clock_timestamp() <= $2`, // ④ not after half of the grace: the sweep removes the document at its end
			ref.Name, ref.CommitBy)
		if err == nil && tag.RowsAffected() == 0 {
			err = errRefused // ③ or ④
		}
		return err
	}
	hasty := store
	hasty.Grace = 100 * time.Millisecond

	fmt.Println("the process dies:", issue(store, death, "12.50 for a mug") != nil, "|", show(db, store))
	fmt.Println("too slow:", issue(hasty, `SELECT pg_sleep(0.1)`, "12.50 for a mug") != nil, "|", show(db, store))
	fmt.Println("tried again:", issue(store, `SELECT 1`, "12.50 for a mug"), "|", show(db, store))
	fmt.Println("another text:", issue(store, `SELECT 1`, "13.50 for a mug"), "|", show(db, store))
	// Output:
	// the process dies: true | no receipt yet
	// too slow: true | no receipt yet
	// tried again: <nil> | 12.50 for a mug
	// another text: no reference written: there is one already, or it is too late | 12.50 for a mug
}

// The reference is written first.
//
// Pattern: store-then-reference
func Example_without() {
	db, done := testenv.ExampleDB(receipts)
	defer done()
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close() //nolint:errcheck // it is memory
	ctx := context.Background()

	issue := func(then, receipt string) error {
		if _, err := db.Exec(ctx, `UPDATE payments SET receipt = 'receipts/pay_1' WHERE id = 'pay_1'`); err != nil {
			return err
		}
		if _, err := db.Exec(ctx, then); err != nil { // here the process may die
			return err
		}
		return bucket.WriteAll(ctx, "receipts/pay_1", []byte(receipt), nil)
	}

	fmt.Println("the process dies:", issue(death, "12.50 for a mug") != nil)
	_, err := bucket.ReadAll(ctx, testenv.Read(db, `SELECT receipt FROM payments`))
	fmt.Println("the receipt:", err)
	// Output:
	// the process dies: true
	// the receipt: blob (key "receipts/pay_1") (code=NotFound): blob not found
}
