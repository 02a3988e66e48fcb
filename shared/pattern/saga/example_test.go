package saga_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/testenv"
)

// What the steps do, each in a transaction of its own. In a real system each is in another
// database; the order's id is $1.
const steps = `
	CREATE TABLE sagas (id text PRIMARY KEY, phase text NOT NULL, step text NOT NULL);
	CREATE TABLE commands (id bigserial PRIMARY KEY, saga text NOT NULL, step text NOT NULL);
	CREATE TABLE holds (id text PRIMARY KEY, captured bool NOT NULL DEFAULT false);
	CREATE TABLE sales (id text PRIMARY KEY);`

var work = map[string]string{
	"authorise": `INSERT INTO holds VALUES ($1)`, "void": `DELETE FROM holds WHERE id = $1`,
	"post-sale": `INSERT INTO sales VALUES ($1)`, "reverse-sale": `DELETE FROM sales WHERE id = $1`,
	"capture": `UPDATE holds SET captured = true WHERE id = $1 AND id <> 'ord_2'`, // this card refuses the capture
}

// start writes a saga and its first command, in one transaction.
func start(db *pgxpool.Pool, order string, s saga.State) {
	ctx := context.Background()
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO sagas VALUES ($1, $2, $3)`, order, s.Phase, s.Step)
		if err == nil {
			_, err = tx.Exec(ctx, `INSERT INTO commands (saga, step) VALUES ($1, $2)`, order, s.Step)
		}
		return err
	})
	if err != nil {
		panic(err)
	}
}

// obey carries out each command and hands in the reply, until there is no command left.
func obey(db *pgxpool.Pool, reply func(order, step string, outcome saga.Outcome) error) {
	ctx := context.Background()
	for next := 1; ; next++ {
		var order, step string
		err := db.QueryRow(ctx, `SELECT saga, step FROM commands WHERE id = $1`, next).Scan(&order, &step)
		if errors.Is(err, pgx.ErrNoRows) {
			return
		}
		outcome := saga.Done
		tag, workErr := db.Exec(ctx, work[step], order)
		if tag.RowsAffected() == 0 {
			outcome = saga.Refused
		}
		for range 2 { // each reply comes twice
			if err := errors.Join(err, workErr, reply(order, step, outcome)); err != nil {
				panic(err)
			}
		}
	}
}

// Two orders: the card is authorised, the sale is booked, the money is captured. The second
// card refuses the capture.
//
// Pattern: saga
func Example() {
	db, done := testenv.ExampleDB(steps)
	defer done()
	ctx := context.Background()
	plan := saga.Plan{ // ① what takes each step back
		{Participant: "payments", Action: "authorise", Compensation: "void"},
		{Participant: "ledger", Action: "post-sale", Compensation: "reverse-sale"},
		{Participant: "payments", Action: "capture"}, // ② the pivot: once it is done, there is no way back
	}

	advance := func(order, step string, outcome saga.Outcome) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			var s saga.State
			err := tx.QueryRow(ctx, `SELECT phase, step FROM sagas WHERE id = $1 FOR UPDATE`, order).Scan(&s.Phase, &s.Step)
			if err != nil {
				return err
			}
			next, expected := plan.Next(s, step, outcome)
			if !expected {
				return nil // ③ a reply that comes twice or late, or a refused compensation
			}
			_, err = tx.Exec(ctx, `UPDATE sagas SET phase = $2, step = $3 WHERE id = $1`, order, next.Phase, next.Step)
			if err != nil || next.Ended() {
				return err
			}
			_, err = tx.Exec(ctx, `INSERT INTO commands (saga, step) VALUES ($1, $2)`, order, next.Step) // ④ state and command: one transaction
			return err
		})
	}

	for _, order := range []string{"ord_1", "ord_2"} {
		start(db, order, plan.Begin())
	}
	obey(db, advance)
	fmt.Println("sagas:", testenv.Read(db, `SELECT id, phase FROM sagas ORDER BY id`))
	fmt.Println("commands for ord_2:", testenv.Read(db, `SELECT step FROM commands WHERE saga = 'ord_2' ORDER BY id`))
	fmt.Println("paid:", testenv.Read(db, `SELECT id FROM holds WHERE captured`))
	fmt.Println("held:", testenv.Read(db, `SELECT id FROM holds WHERE NOT captured`), "booked:", testenv.Read(db, `SELECT id FROM sales`))
	// Output:
	// sagas: ord_1 completed, ord_2 compensated
	// commands for ord_2: authorise, post-sale, capture, reverse-sale, void
	// paid: ord_1
	// held:  booked: ord_1
}

// The steps follow one another, and a refusal cancels the order.
//
// Pattern: saga
func Example_without() {
	db, done := testenv.ExampleDB(steps)
	defer done()
	ctx := context.Background()
	plan := []string{"authorise", "post-sale", "capture"}

	advance := func(order, step string, outcome saga.Outcome) error {
		at := slices.Index(plan, step)
		phase, next := "forward", ""
		switch {
		case outcome == saga.Refused:
			phase = "cancelled"
		case at == len(plan)-1:
			phase = "completed"
		default:
			next = plan[at+1]
		}
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, `UPDATE sagas SET phase = $2, step = $3 WHERE id = $1 AND step = $4`, order, phase, next, step)
			if err != nil || next == "" || tag.RowsAffected() == 0 {
				return err
			}
			_, err = tx.Exec(ctx, `INSERT INTO commands (saga, step) VALUES ($1, $2)`, order, next)
			return err
		})
	}

	for _, order := range []string{"ord_1", "ord_2"} {
		start(db, order, saga.State{Phase: saga.Forward, Step: "authorise"})
	}
	obey(db, advance)
	fmt.Println("sagas:", testenv.Read(db, `SELECT id, phase FROM sagas ORDER BY id`))
	fmt.Println("commands for ord_2:", testenv.Read(db, `SELECT step FROM commands WHERE saga = 'ord_2' ORDER BY id`))
	fmt.Println("paid:", testenv.Read(db, `SELECT id FROM holds WHERE captured`))
	fmt.Println("held:", testenv.Read(db, `SELECT id FROM holds WHERE NOT captured`), "booked:", testenv.Read(db, `SELECT id FROM sales`))
	// Output:
	// sagas: ord_1 completed, ord_2 cancelled
	// commands for ord_2: authorise, post-sale, capture
	// paid: ord_1
	// held: ord_2 booked: ord_1, ord_2
}
