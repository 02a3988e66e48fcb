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
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/postgres"
)

// Look for a recorded answer; when there is none, do the work and record its
// answer in one transaction; when another request was faster, look again.
func Example() {
	db, done := exampleDB()
	defer done()

	accept := func(c echo.Context) error {
		body, err := io.ReadAll(c.Request().Body)
		if err != nil {
			return err
		}
		request, err := idempotency.FromRequest(c, "mer_acme", body, 24*time.Hour)
		if err != nil {
			return err
		}
		var answer idempotency.Recorded
		err = postgres.RetryStale(c.Request().Context(), func() error {
			err := postgres.Read(c.Request().Context(), db, func(b *pgx.Batch) { request.Lookup(b, &answer) })
			if err != nil || answer.Exists {
				return err
			}
			response := idempotency.Response{Status: http.StatusCreated, Body: []byte("thank you")}
			err = postgres.Write(c.Request().Context(), db, func(b *pgx.Batch) {
				request.Record(b, response) // first: a second request with this key waits here
				b.Queue(`INSERT INTO orders VALUES ($1, 'mer_acme', $2)`, uuid.New(), string(body))
			})
			if idempotency.IsDuplicate(err) {
				return postgres.ErrStale
			}
			answer = idempotency.Fresh(response)
			return err
		})
		if err != nil {
			return err
		}
		return request.Answer(c, answer)
	}

	e := echo.New()
	e.POST("/v1/orders", accept)
	for range 2 { // the first answer is lost on its way, and the client asks again
		r := httptest.NewRequest(http.MethodPost, "/v1/orders", strings.NewReader(`{"item":"tea"}`))
		r.Header.Set(idempotency.HeaderKey, "basket-7")
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		fmt.Printf("%d %s, replayed: %q\n", w.Code, w.Body, w.Header().Get(idempotency.HeaderReplayed))
	}
	// Output:
	// 201 thank you, replayed: ""
	// 201 thank you, replayed: "true"
}
