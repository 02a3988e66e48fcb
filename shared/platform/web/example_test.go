package web_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
	"example.com/failwell/shared/testenv"
)

const payments = `CREATE TABLE payments (id text PRIMARY KEY, status text NOT NULL);`

// slow is a processor that holds no amount before answer is called. Each call that waits
// for it is in waiting.
func slow() (processor *httptest.Server, waiting chan string, answer func()) {
	ctx, answer := context.WithCancel(context.Background())
	waiting = make(chan string)
	return httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		waiting <- r.Header.Get("Idempotency-Key")
		<-ctx.Done()
	})), waiting, answer
}

// hold asks the processor to hold the amount of a payment.
func hold(ctx context.Context, client *http.Client, url, key string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Idempotency-Key", key)
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// rush runs one authorisation for each connection of the pool, and waits until all of
// them wait for the processor.
func rush(db *pgxpool.Pool, waiting chan string, authorise func(id string) error) (wait func()) {
	var all sync.WaitGroup
	crowd := int(db.Config().MaxConns)
	for n := range crowd {
		all.Go(func() { _ = authorise(fmt.Sprint("pay_", n)) })
	}
	for range crowd {
		<-waiting
	}
	return all.Wait
}

// read is another client, which has nothing to do with the processor.
func read(db *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := db.Exec(ctx, `SELECT FROM payments`)
	return err
}

// As many payments as the pool has connections wait for a slow processor, and another client
// wants to read one.
//
// Pattern: io-inside-transaction
func Example_ioInsideTransaction() {
	db, done := testenv.ExampleDB(payments)
	defer done()
	processor, waiting, answer := slow()
	defer processor.Close()
	ctx, client := context.Background(), web.Client(time.Minute)

	authorise := func(id string) error {
		// ① The intent, committed before the call.
		_, err := db.Exec(ctx, `INSERT INTO payments VALUES ($1, 'authorising') ON CONFLICT DO NOTHING`, id)
		if err != nil {
			return err
		}
		if err := hold(ctx, client, processor.URL, id); err != nil { // ② the call: no transaction is open, no connection is kept
			return err
		}
		return postgres.InTx(ctx, db, func(ctx context.Context, tx pgx.Tx) error { // ③ what it has answered
			_, err := tx.Exec(ctx, `UPDATE payments SET status = 'authorised' WHERE id = $1`, id)
			return err
		})
	}
	inside := postgres.InTx(ctx, db, func(ctx context.Context, _ pgx.Tx) error {
		return hold(ctx, client, processor.URL, "pay_0") // ④ InTx has marked this ctx: a transaction is open
	})

	fmt.Println("a call inside is refused:", errors.Is(inside, web.ErrInTransaction))
	wait := rush(db, waiting, authorise)
	fmt.Println("while all wait, a read gets an error:", read(db))
	answer()
	wait()
	fmt.Println("not authorised:", testenv.Read(db, `SELECT count(*) FROM payments WHERE status <> 'authorised'`))
	// Output:
	// a call inside is refused: true
	// while all wait, a read gets an error: <nil>
	// not authorised: 0
}

// The antipattern: the call is made while the transaction is open.
//
// Pattern: io-inside-transaction
func Example_ioInsideTransaction_without() {
	db, done := testenv.ExampleDB(payments)
	defer done()
	processor, waiting, answer := slow()
	defer processor.Close()
	ctx, client := context.Background(), web.Client(time.Minute)

	authorise := func(id string) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { // which marks no context
			if _, err := tx.Exec(ctx, `INSERT INTO payments VALUES ($1, 'authorising')`, id); err != nil {
				return err
			}
			if err := hold(ctx, client, processor.URL, id); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `UPDATE payments SET status = 'authorised' WHERE id = $1`, id)
			return err
		})
	}

	wait := rush(db, waiting, authorise)
	fmt.Println("while all wait, a read gets an error:", read(db))
	answer()
	wait()
	fmt.Println("not authorised:", testenv.Read(db, `SELECT count(*) FROM payments WHERE status <> 'authorised'`))
	// Output:
	// while all wait, a read gets an error: context deadline exceeded
	// not authorised: 0
}
