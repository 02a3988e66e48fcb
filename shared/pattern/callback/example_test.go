package callback_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/testenv"
)

const order = `
	CREATE TABLE orders (id text PRIMARY KEY, status text NOT NULL);
	INSERT INTO orders VALUES ('ord_7', 'pending');`

// merchant is closed for the first two requests; told is what it has heard, by webhook-id.
func merchant() (server *httptest.Server, told map[string]string) {
	told, refusals := map[string]string{}, 2
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, err := body.ReadFrom(r.Body)
		receiver, _ := standardwebhooks.NewWebhook(acmeSecret)
		if refusals > 0 || err != nil || receiver.Verify(body.Bytes(), r.Header) != nil {
			refusals--
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		told[r.Header.Get("webhook-id")] = body.String()
	})), told
}

// post is one try: signed, with the id of the news.
func post(url string, id uuid.UUID, payload []byte) (status int) {
	sender, _ := standardwebhooks.NewWebhook(acmeSecret)
	r, _ := http.NewRequest(http.MethodPost, url, bytes.NewReader(payload))
	now := time.Now()
	signature, _ := sender.Sign(id.String(), now, payload)
	r.Header.Set("webhook-id", id.String())
	r.Header.Set("webhook-timestamp", fmt.Sprint(now.Unix()))
	r.Header.Set("webhook-signature", signature)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// An order ends while the merchant's endpoint is being deployed: it answers two requests with 503.
//
// Pattern: callback
func Example() {
	db, done := testenv.ExampleDB(callback.Schema + order)
	defer done()
	endpoint, told := merchant()
	defer endpoint.Close()
	ctx := context.Background()

	confirm := func() error {
		id := uuid.Must(uuid.NewV7()) // ① of the news, not of the try
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			b := &pgx.Batch{}
			b.Queue(`UPDATE orders SET status = 'confirmed' WHERE id = 'ord_7'`)
			// ② INSERT INTO callbacks, with the end of the order
			callback.Enqueue(b, callback.Delivery{ID: id, MerchantID: "acme", Subject: "ord_7", URL: endpoint.URL, Payload: []byte(`{"status":"confirmed"}`)})
			return tx.SendBatch(ctx, b).Close()
		})
	}
	send := func() error { // one look for what is due
		var d callback.Delivery
		err := db.QueryRow(ctx, `
			UPDATE callbacks
			   SET attempts = attempts + 1, next_attempt_at = now() + interval '25 s' -- ③ claimed for as long as a try takes
			 WHERE id = (SELECT id FROM callbacks WHERE state = 'pending' AND next_attempt_at <= now() LIMIT 1 FOR UPDATE SKIP LOCKED)
			RETURNING id, url, payload`).Scan(&d.ID, &d.URL, &d.Payload)
		if err != nil {
			return err
		}
		if status := post(d.URL, d.ID, d.Payload); status < 200 || status > 299 { // ④ the same id at each try, and no transaction is open
			_, err = db.Exec(ctx, `UPDATE callbacks SET next_attempt_at = now() WHERE id = $1`, d.ID) // ⑤ here at once
			return err
		}
		_, err = db.Exec(ctx, `UPDATE callbacks SET state = 'delivered' WHERE id = $1`, d.ID)
		return err
	}

	fmt.Println("confirm:", confirm(), "| send:", send(), send(), send(), send())
	fmt.Println("callback, tries:", testenv.Read(db, `SELECT state, attempts FROM callbacks`))
	fmt.Println("the merchant was told:", told[testenv.Read(db, `SELECT id::text FROM callbacks`)])
	// Output:
	// confirm: <nil> | send: <nil> <nil> <nil> no rows in result set
	// callback, tries: delivered 3
	// the merchant was told: {"status":"confirmed"}
}

// The merchant is told once, after the commit.
//
// Pattern: callback
func Example_without() {
	db, done := testenv.ExampleDB(order)
	defer done()
	endpoint, told := merchant()
	defer endpoint.Close()
	ctx := context.Background()

	confirm := func() (status int, err error) {
		if _, err := db.Exec(ctx, `UPDATE orders SET status = 'confirmed' WHERE id = 'ord_7'`); err != nil {
			return 0, err
		}
		return post(endpoint.URL, uuid.New(), []byte(`{"status":"confirmed"}`)), nil
	}

	status, err := confirm()
	fmt.Println("confirm:", err, "| the merchant answers:", status)
	fmt.Println("the order is", testenv.Read(db, `SELECT status FROM orders`)+", the merchant was told:", told)
	// Output:
	// confirm: <nil> | the merchant answers: 503
	// the order is confirmed, the merchant was told: map[]
}
