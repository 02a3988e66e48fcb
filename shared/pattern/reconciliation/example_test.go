package reconciliation_test

import (
	"context"
	"fmt"

	"example.com/failwell/shared/testenv"
)

// books are what we have noted, in pence, and the bank's statement.
const books = `
	CREATE TABLE payouts (id text PRIMARY KEY, minor int NOT NULL, status text NOT NULL, at timestamptz NOT NULL DEFAULT now() - interval '1 day');
	INSERT INTO payouts (id, minor, status) VALUES ('pyo_1', 500, 'sent'), ('pyo_2', 1250, 'unknown'), ('pyo_4', 700, 'sent');
	INSERT INTO payouts VALUES ('pyo_3', 300, 'sent', now());
	CREATE TABLE statement (reference text PRIMARY KEY, minor int NOT NULL);
	INSERT INTO statement VALUES ('pyo_1', 500), ('pyo_2', 1250), ('pyo_4', 7000), ('x_5', 99);`

// Four payouts are noted, and the bank has sent its statement. The answer to pyo_2 got lost, pyo_3
// was made this minute, the bank has another amount for pyo_4, and x_5 is nothing of ours.
//
// Pattern: reconciliation
func Example() {
	db, done := testenv.ExampleDB(books)
	defer done()
	ctx := context.Background()

	const differences = `
		SELECT COALESCE(o.id, t.reference),
		       CASE WHEN o.at > now() - interval '1 hour' AND t.reference IS NULL
		            THEN 'pending'            -- ② may be a matter of time: looked at again in the next run
		            WHEN o.status = 'unknown' AND o.minor = t.minor
		            THEN 'resolved'           -- ③ the other side knows what we do not
		            ELSE 'unresolvable'       -- ④ a person must look
		       END AS verdict
		  FROM payouts o
		  FULL JOIN statement t ON t.reference = o.id       -- ① what either side has
		 WHERE o.minor IS DISTINCT FROM t.minor
		    OR o.status = 'unknown'
		 ORDER BY 1`
	reconcile := func() (report string, err error) {
		report = testenv.Read(db, differences)
		// In a service this is the function that notes the bank's answer, so that the ledger is told too.
		_, err = db.Exec(ctx, `
			UPDATE payouts
			   SET status = 'sent'
			 WHERE status = 'unknown'
			   AND id IN (SELECT id FROM (`+differences+`) AS d (id, verdict) WHERE verdict = 'resolved')`)
		return report, err
	}

	fmt.Println(reconcile())
	fmt.Println(reconcile())
	fmt.Println("pyo_2 is", testenv.Read(db, `SELECT status FROM payouts WHERE id = 'pyo_2'`))
	// Output:
	// pyo_2 resolved, pyo_3 pending, pyo_4 unresolvable, x_5 unresolvable <nil>
	// pyo_3 pending, pyo_4 unresolvable, x_5 unresolvable <nil>
	// pyo_2 is sent
}

// Each side believes its own books. Their sums are read, and the differences are not.
//
// Pattern: reconciliation
func Example_without() {
	db, done := testenv.ExampleDB(books)
	defer done()

	fmt.Println("we have sent:", testenv.Read(db, `SELECT sum(minor) FROM payouts WHERE status = 'sent'`))
	fmt.Println("the bank has paid:", testenv.Read(db, `SELECT sum(minor) FROM statement`))
	fmt.Println("pyo_2 is", testenv.Read(db, `SELECT status FROM payouts WHERE id = 'pyo_2'`))
	// Output:
	// we have sent: 1500
	// the bank has paid: 8849
	// pyo_2 is unknown
}
