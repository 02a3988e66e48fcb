package callback_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/jackc/pgx/v5"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/platform/postgres"
)

// The news is written with the change that it reports, and sent after the
// commit, until the merchant takes it.
func Example() {
	db, done := exampleDB()
	defer done()

	// The merchant: it fails at the first try and checks the signature.
	down, told := true, make(chan struct{})
	merchant := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		receiver, _ := standardwebhooks.NewWebhook(acmeSecret)
		switch err := receiver.Verify(body, r.Header); {
		case err != nil:
			http.Error(w, err.Error(), http.StatusUnauthorized)
		case down:
			down = false
			http.Error(w, "back in a moment", http.StatusServiceUnavailable)
		default:
			fmt.Printf("the merchant is told: %s\n", body)
			close(told)
		}
	}))
	defer merchant.Close()

	ctx, cancel := context.WithCancel(context.Background())
	worker := callback.NewWorker(callback.Config{
		DB: db, Logger: slog.New(slog.DiscardHandler), Poll: 10 * time.Millisecond,
		Delays: []time.Duration{0, 10 * time.Millisecond, time.Minute},
		Filter: lab, // the merchant of this example is on loopback
	})
	stopped := make(chan struct{})
	go func() { worker.Run(ctx); close(stopped) }()

	id, err := callback.NewID()
	if err == nil {
		err = postgres.Write(ctx, db, func(b *pgx.Batch) {
			// Here stands the change that the merchant is to hear of.
			callback.Enqueue(b, callback.Delivery{
				ID: id, MerchantID: "acme", Subject: "ord_7", URL: merchant.URL,
				Payload: []byte(`{"type":"order.completed","order":"ord_7"}`),
			})
		})
	}
	if err != nil {
		fmt.Println("not written, and no callback is sent:", err)
		close(told)
	}
	worker.Wake()

	<-told
	cancel()
	<-stopped // it finishes what it has begun
	var state string
	var tries int
	err = db.QueryRow(context.Background(), `SELECT state, attempts FROM callbacks`).Scan(&state, &tries)
	fmt.Println(state, "after", tries, "tries,", err)
	// Output:
	// the merchant is told: {"type":"order.completed","order":"ord_7"}
	// delivered after 2 tries, <nil>
}
