package completer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/testenv"
)

// rfd_1 was begun a minute ago, its client has gone away; rfd_2 is being worked on.
const refunds = `
	CREATE TABLE refunds (id text PRIMARY KEY, receipt text, locked_until timestamptz NOT NULL);
	INSERT INTO refunds VALUES ('rfd_1', NULL, now() - interval '30 s'), ('rfd_2', NULL, now() + interval '30 s');`

// resume is what a retry of the client would run: it asks under the refund's id, and notes the receipt.
func resume(db *pgxpool.Pool, processor *testenv.Outside, id string) error {
	receipt, err := processor.Ask(context.Background(), http.DefaultClient, "refund-"+id, id)
	if err == nil {
		_, err = db.Exec(context.Background(), `UPDATE refunds SET receipt = $2 WHERE id = $1`, id, receipt)
	}
	return err
}

// The processor has given the money of rfd_1 back, its answer got lost, and the client does not retry.
// Our row is the same as after a crash: no receipt. A request works on rfd_2 at this moment.
//
// Pattern: completer
func Example() {
	db, done := testenv.ExampleDB(refunds)
	defer done()
	processor := testenv.NewOutside()
	defer processor.Close()
	processor.Lose, processor.Keys = 1, true // the first answer gets lost; keys are remembered
	_ = resume(db, processor, "rfd_1")       // the request: its answer is lost, and the client gives up
	ctx := context.Background()

	complete := func() error { // in each replica, every few seconds
		rows, _ := db.Query(ctx, `
			UPDATE refunds
			   SET locked_until = now() + interval '30 s'
			 WHERE id = ANY(ARRAY(
			       SELECT id
			         FROM refunds
			        WHERE receipt IS NULL                          -- ① unfinished
			          AND locked_until < now() - interval '15 s'   -- ② let go, and the client had time to retry
			        LIMIT 10
			          FOR UPDATE SKIP LOCKED))                     -- ③ replicas share the work
			RETURNING id`)
		abandoned, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, id := range abandoned { // ④ what a retry runs, with the same key
			err = errors.Join(err, resume(db, processor, id)) // found again when its new lease and the grace are over
		}
		return err
	}

	fmt.Println("before:", testenv.Read(db, `SELECT id, receipt FROM refunds ORDER BY id`))
	fmt.Println(complete(), complete())
	fmt.Println("after:", testenv.Read(db, `SELECT id, receipt FROM refunds ORDER BY id`))
	fmt.Println("processor:", processor.Done())
	// Output:
	// before: rfd_1 <nil>, rfd_2 <nil>
	// <nil> <nil>
	// after: rfd_1 receipt 1, rfd_2 <nil>
	// processor: [refund-rfd_1]
}

// Only a retry of the client would finish it.
//
// Pattern: completer
func Example_without() {
	db, done := testenv.ExampleDB(refunds)
	defer done()
	processor := testenv.NewOutside()
	defer processor.Close()
	processor.Lose, processor.Keys = 1, true // the first answer gets lost; keys are remembered
	_ = resume(db, processor, "rfd_1")       // the request: its answer is lost, and the client gives up

	fmt.Println("the client does not retry:", testenv.Read(db, `SELECT id, receipt FROM refunds WHERE id = 'rfd_1'`))
	fmt.Println("processor:", processor.Done())
	// Output:
	// the client does not retry: rfd_1 <nil>
	// processor: [refund-rfd_1]
}
