package garbagecollection_test

import (
	"context"
	"fmt"

	"example.com/failwell/shared/testenv"
)

const keys = `
	CREATE TABLE keys (key text PRIMARY KEY, status int, expires_at timestamptz NOT NULL);
	INSERT INTO keys SELECT 'old-' || n, 201, now() - interval '1 hour' FROM generate_series(1, 2000) n;
	INSERT INTO keys VALUES ('unfinished', NULL, now() - interval '1 hour'), ('today', 201, now() + interval '1 day');`

// Two thousand keys have expired. One more has, and its work is not finished; one is of today. A
// client uses one of the old keys again while the collector runs.
//
// Pattern: garbage-collection
func Example() {
	db, done := testenv.ExampleDB(keys)
	defer done()
	ctx := context.Background()
	request, _ := db.Begin(ctx) // an expired key is as good as new: this request is about to take its row over
	_, _ = request.Exec(ctx, `SELECT FROM keys WHERE key = 'old-7' FOR UPDATE`)

	collect := func() (batches []int64, err error) { // every minute, in one replica
		for full := true; full; {
			tag, err := db.Exec(ctx, `
				DELETE FROM keys
				 WHERE ctid = ANY(ARRAY(
				       SELECT ctid
				         FROM keys
				        WHERE expires_at < now()
				          AND status IS NOT NULL     -- ① old, and never what is unfinished
				        LIMIT 500                    -- ② a short transaction; the rest in the next one
				          FOR UPDATE SKIP LOCKED))   -- ③ it does not wait for traffic`)
			if err != nil {
				return batches, err
			}
			batches = append(batches, tag.RowsAffected())
			full = tag.RowsAffected() == 500 // ④ until a batch is not full; the services rest here
		}
		return batches, nil
	}

	fmt.Print("deleted, error: ")
	fmt.Println(collect())
	fmt.Println("left:", testenv.Read(db, `SELECT key FROM keys ORDER BY key`))
	_ = request.Rollback(ctx) // it gives up
	fmt.Print("deleted, error: ")
	fmt.Println(collect())
	fmt.Println("left:", testenv.Read(db, `SELECT key FROM keys ORDER BY key`))
	// Output:
	// deleted, error: [500 500 500 499] <nil>
	// left: old-7, today, unfinished
	// deleted, error: [1] <nil>
	// left: today, unfinished
}

// What is not deleted stays.
//
// Pattern: garbage-collection
func Example_without() {
	db, done := testenv.ExampleDB(keys)
	defer done()

	fmt.Println("rows:", testenv.Read(db, `SELECT count(*) FROM keys`), "| that a retry could ask for:", testenv.Read(db, `SELECT count(*) FROM keys WHERE status IS NULL OR expires_at > now()`))
	// Output:
	// rows: 2002 | that a retry could ask for: 2
}
