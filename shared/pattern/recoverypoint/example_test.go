package recoverypoint_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/pattern/recoverypoint"
	"example.com/failwell/shared/testenv"
)

const refund = `
	CREATE TABLE refunds (id text PRIMARY KEY, recovery_point text NOT NULL, receipt text);
	INSERT INTO refunds VALUES ('rfd_1', 'started');`

// A refund gives money back at the processor and then books that in the ledger. The ledger's
// answer gets lost, and the refund is run again. This processor forgets keys.
//
// Pattern: recovery-point
func Example_recoveryPoint() {
	db, done := testenv.ExampleDB(refund)
	defer done()
	processor, ledger := testenv.NewOutside(), testenv.NewOutside()
	defer processor.Close()
	defer ledger.Close()
	ledger.Lose, ledger.Keys = 1, true // its first answer gets lost; it remembers keys
	ctx := context.Background()

	run := func() error {
		var point string
		err := db.QueryRow(ctx, `SELECT recovery_point FROM refunds WHERE id = 'rfd_1'`).Scan(&point) // ① what is done
		if err == nil && point == "started" {
			receipt, err := processor.Ask(ctx, http.DefaultClient, "refund-5.00", "rfd_1") // ② one call, and no transaction is open
			if err != nil {
				return err // not known: the next run asks again, with the same key
			}
			_, err = db.Exec(ctx, `
				UPDATE refunds
				   SET recovery_point = 'decided', -- ③ what the call has answered, and the next point: one commit
				       receipt        = $1
				 WHERE id = 'rfd_1'`,
				receipt)
			if err != nil {
				return err
			}
		}
		if err == nil && point != "posted" {
			_, err = ledger.Ask(ctx, http.DefaultClient, "post-5.00", "rfd_1") // ④ a run that finds 'decided' begins here
		}
		if err == nil {
			_, err = db.Exec(ctx, `UPDATE refunds SET recovery_point = 'posted' WHERE id = 'rfd_1'`)
		}
		return err
	}

	fmt.Println("first run failed:", run() != nil, "| it stands at:", testenv.Read(db, `SELECT recovery_point, receipt FROM refunds`))
	fmt.Println("second run failed:", run() != nil, "| it stands at:", testenv.Read(db, `SELECT recovery_point, receipt FROM refunds`))
	fmt.Println("processor:", processor.Done(), "ledger:", ledger.Done())
	// Output:
	// first run failed: true | it stands at: decided receipt 1
	// second run failed: false | it stands at: posted receipt 1
	// processor: [refund-5.00] ledger: [post-5.00]
}

// Each run begins at the beginning.
//
// Pattern: recovery-point
func Example_recoveryPoint_without() {
	db, done := testenv.ExampleDB(`
		CREATE TABLE refunds (id text PRIMARY KEY, finished bool NOT NULL, receipt text);
		INSERT INTO refunds VALUES ('rfd_1', false);`)
	defer done()
	processor, ledger := testenv.NewOutside(), testenv.NewOutside()
	defer processor.Close()
	defer ledger.Close()
	ledger.Lose, ledger.Keys = 1, true // its first answer gets lost; it remembers keys
	ctx := context.Background()

	run := func() error {
		receipt, err := processor.Ask(ctx, http.DefaultClient, "refund-5.00", "rfd_1")
		if err == nil {
			_, err = ledger.Ask(ctx, http.DefaultClient, "post-5.00", "rfd_1")
		}
		if err == nil {
			_, err = db.Exec(ctx, `UPDATE refunds SET finished = true, receipt = $1 WHERE id = 'rfd_1'`, receipt)
		}
		return err
	}

	fmt.Println("first run failed:", run() != nil)
	fmt.Println("second run failed:", run() != nil)
	fmt.Println("processor:", processor.Done(), "ledger:", ledger.Done())
	// Output:
	// first run failed: true
	// second run failed: false
	// processor: [refund-5.00 refund-5.00] ledger: [post-5.00]
}

const refunds = `CREATE TABLE refunds (id uuid PRIMARY KEY, recovery_point text NOT NULL, receipt text);`

// resumed is the refund that a client asks for, and asks for again.
var resumed = idempotency.Request{Merchant: "acme", Operation: "POST /v1/refunds", Key: "k-1", Retention: 24 * time.Hour}

// begin writes the row that the work begins with.
func begin(ctx context.Context, tx pgx.Tx) (uuid.UUID, error) {
	id := uuid.New()
	_, err := tx.Exec(ctx, `INSERT INTO refunds VALUES ($1, 'started')`, id)
	return id, err
}

// moveTo is what a transaction writes at the end of a phase.
func moveTo(id uuid.UUID, point, receipt string) func(ctx context.Context, tx pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE refunds SET recovery_point = $2, receipt = $3 WHERE id = $1`, id, point, receipt)
		return err
	}
}

// The processor does its work and the answer gets lost; the client asks again, with its key.
// The point has not moved, so the processor is asked again too, under the key that it remembers.
//
// Pattern: resumable-operation
func Example_resumableOperation() {
	db, done := testenv.ExampleDB(idempotency.Schema + refunds)
	defer done()
	processor := testenv.NewOutside()
	defer processor.Close()
	processor.Lose, processor.Keys = 1, true // the first answer gets lost; keys are remembered
	ctx := context.Background()

	refund := func() (answer idempotency.Response, err error) {
		// ① A new key: begin writes the row. A known one: its row, wherever the run before has stopped.
		recorded, lock, err := resumed.Acquire(ctx, db, idempotency.LockOptions{Lease: 30 * time.Second}, begin)
		if err != nil || recorded.Exists {
			return recorded.Response, err
		}
		defer lock.Release(ctx, db) //nolint:errcheck // a key that is not given back is free when its lease ends
		id, point, receipt := lock.OperationID, "", ""
		for {
			err := db.QueryRow(ctx, `SELECT recovery_point, COALESCE(receipt, '') FROM refunds WHERE id = $1`, id).Scan(&point, &receipt)
			switch {
			case err != nil:
			case point == "started": // ② a phase: one call, then one transaction that moves the point
				if receipt, err = processor.Ask(ctx, http.DefaultClient, "refund-5.00", id.String()); err == nil {
					err = recoverypoint.Commit(ctx, db, lock, "", moveTo(id, "refunded", receipt))
				}
			case point == "refunded": // ③ the last phase makes no call: it records the answer under the key
				answer = idempotency.Response{Status: http.StatusCreated, Body: []byte(receipt)}
				return answer, recoverypoint.Finish(ctx, db, lock, answer, "", moveTo(id, "finished", receipt))
			default: // finished by a run that took over, or a point of a newer version
				err = fmt.Errorf("a refund at %q is not ours to resume", point)
			}
			if err != nil {
				return answer, err // ④ it stays where it is: the retry goes on, or the completer
			}
		}
	}

	for range 3 {
		answer, err := refund()
		fmt.Println(err != nil, answer.Status, string(answer.Body), "| refunds:", testenv.Read(db, `SELECT recovery_point FROM refunds`))
	}
	fmt.Println("processor:", processor.Done())
	// Output:
	// true 0  | refunds: started
	// false 201 receipt 1 | refunds: finished
	// false 201 receipt 1 | refunds: finished
	// processor: [refund-5.00]
}

// A retry finds that the refund exists already, and that is all it can say.
//
// Pattern: resumable-operation
func Example_resumableOperation_without() {
	db, done := testenv.ExampleDB(`CREATE TABLE refunds (key text PRIMARY KEY, status text NOT NULL, receipt text);`)
	defer done()
	processor := testenv.NewOutside()
	defer processor.Close()
	processor.Lose, processor.Keys = 1, true // the first answer gets lost; keys are remembered
	ctx := context.Background()

	refund := func(key string) (status int) {
		tag, err := db.Exec(ctx, `INSERT INTO refunds VALUES ($1, 'pending') ON CONFLICT DO NOTHING`, key)
		if err == nil && tag.RowsAffected() == 0 {
			return http.StatusConflict
		}
		receipt := ""
		if err == nil {
			receipt, err = processor.Ask(ctx, http.DefaultClient, "refund-5.00", key)
		}
		if err == nil {
			_, err = db.Exec(ctx, `UPDATE refunds SET status = 'finished', receipt = $2 WHERE key = $1`, key, receipt)
		}
		if err != nil {
			return http.StatusInternalServerError
		}
		return http.StatusCreated
	}

	for range 3 {
		fmt.Println(refund("k-1"), "| refunds:", testenv.Read(db, `SELECT status FROM refunds`))
	}
	fmt.Println("processor:", processor.Done())
	// Output:
	// 500 | refunds: pending
	// 409 | refunds: pending
	// 409 | refunds: pending
	// processor: [refund-5.00]
}
