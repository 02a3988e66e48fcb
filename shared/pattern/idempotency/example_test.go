package idempotency_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/postgres"
)

// Look for a recorded answer; when there is none, do the work and record its
// answer in one transaction; when another request was faster, look again.
func Example() {
	db, done := exampleDB()
	defer done()

	accept := func(r *http.Request) (recorded idempotency.Recorded, err error) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return recorded, err
		}
		request, err := idempotency.FromRequest(r, "mer_acme", "POST /v1/orders", body, 24*time.Hour)
		if err != nil {
			return recorded, err
		}
		err = postgres.RetryStale(r.Context(), func() error {
			err := postgres.Read(r.Context(), db, func(b *pgx.Batch) { request.Lookup(b, &recorded) })
			if err != nil || recorded.Exists {
				return err
			}
			response := idempotency.Response{Status: http.StatusCreated, Body: []byte("thank you")}
			err = postgres.Write(r.Context(), db, func(b *pgx.Batch) {
				request.Record(b, response) // first: a second request with this key waits here
				b.Queue(`INSERT INTO orders VALUES ($1, 'mer_acme', $2)`, uuid.New(), string(body))
			})
			if idempotency.IsDuplicate(err) {
				return postgres.ErrStale
			}
			recorded = idempotency.Fresh(response)
			return err
		})
		return recorded, err
	}

	for _, body := range []string{`{"item":"tea"}`, `{"item":"tea"}`, `{"item":"coffee"}`} {
		r := httptest.NewRequest(http.MethodPost, "/v1/orders", strings.NewReader(body))
		r.Header.Set(idempotency.HeaderKey, "basket-7")
		recorded, err := accept(r)
		if err != nil {
			fmt.Println(err)
			continue
		}
		w := httptest.NewRecorder()
		err = recorded.Answer(w)
		fmt.Printf("%d %s, replayed: %q %v\n", w.Code, w.Body, w.Header().Get(idempotency.HeaderReplayed), err)
	}
	// Output:
	// 201 thank you, replayed: "" <nil>
	// 201 thank you, replayed: "true" <nil>
	// 422 Idempotency-Key used for another request: This key was used for a request with other content. Use a new key for a new request.
}
