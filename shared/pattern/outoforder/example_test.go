package outoforder_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/outoforder"
	"example.com/failwell/shared/testenv"
)

const payment = `
	CREATE TABLE payments (id text PRIMARY KEY, status text NOT NULL);
	INSERT INTO payments VALUES ('pay_1', 'authorised');`

// news is what the processor tells us: the money is captured, and then it is settled.
type news struct {
	ID, Type string
	Rank     int
}

// arrivals come in the wrong order, and the first one twice.
var arrivals = []news{{"evt_2", "settled", 2}, {"evt_2", "settled", 2}, {"evt_1", "captured", 1}}

// buildsOn is the status that a payment must have before an event.
var buildsOn = map[string]string{"captured": "authorised", "settled": "captured"}

// The processor says "settled", says it again, and says "captured" last. A payment is settled only
// after it is captured. Here both are webhooks; in the services, the capture is our own record.
//
// Pattern: out-of-order-messages
func Example() {
	db, done := testenv.ExampleDB(outoforder.Schema + payment)
	defer done()
	ctx := context.Background()

	receive := func(e news) error {
		_, err := db.Exec(ctx, `
			INSERT INTO received_events (event_id, stream, rank, happened_at, type, body)
			VALUES ($1, 'pay_1', $2, now(), $3, '')
			    ON CONFLICT (event_id) DO NOTHING`, // ① keep it, then acknowledge; one that comes twice is known
			e.ID, e.Rank, e.Type)
		return err
	}
	apply := func() error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			// ② one run at a time for a stream; here that is a payment
			if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('pay_1', 0))`); err != nil {
				return err
			}
			rows, _ := tx.Query(ctx, `
				SELECT event_id, type, rank
				  FROM received_events
				 WHERE stream = 'pay_1'
				   AND applied_at IS NULL
				 ORDER BY rank, happened_at`) // ③ in their order, not in that of their arrival
			events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[news])
			for _, e := range events {
				tag, err := tx.Exec(ctx, `UPDATE payments SET status = $1 WHERE id = 'pay_1' AND status = $2`, e.Type, buildsOn[e.Type])
				if err != nil || tag.RowsAffected() == 0 {
					return err // ④ not yet: held, with all that follow it
				}
				if _, err := tx.Exec(ctx, `UPDATE received_events SET applied_at = now() WHERE event_id = $1`, e.ID); err != nil {
					return err
				}
			}
			return err
		})
	}

	for _, e := range arrivals {
		fmt.Println(e.Type, receive(e), apply(), "| the payment is", testenv.Read(db, `SELECT status FROM payments`))
	}
	fmt.Println("held:", testenv.Read(db, `SELECT count(*) FROM received_events WHERE applied_at IS NULL`))
	// Output:
	// settled <nil> <nil> | the payment is authorised
	// settled <nil> <nil> | the payment is authorised
	// captured <nil> <nil> | the payment is settled
	// held: 0
}

// Each is handled when it arrives.
//
// Pattern: out-of-order-messages
func Example_without() {
	db, done := testenv.ExampleDB(payment)
	defer done()
	ctx := context.Background()

	receive := func(e news) error {
		_, err := db.Exec(ctx, `UPDATE payments SET status = $1 WHERE id = 'pay_1' AND status = $2`, e.Type, buildsOn[e.Type])
		return err
	}

	for _, e := range arrivals {
		fmt.Println(e.Type, receive(e), "| the payment is", testenv.Read(db, `SELECT status FROM payments`))
	}
	// Output:
	// settled <nil> | the payment is authorised
	// settled <nil> | the payment is authorised
	// captured <nil> | the payment is captured
}
