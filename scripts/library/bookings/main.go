// Command bookings takes three patterns as a library: in a module of its own, with
// net/http and pgx's transactions, and without the services' platform.
package main

import (
	"context"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/platform/problem"
)

type app struct{ db *pgxpool.Pool }

var messages = outbox.New("/bookings", "bookings-1")

// book makes one booking and one message, however often the request is sent.
func (a app) book(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	request, err := idempotency.FromRequest(r, "acme", r.Pattern, body, 24*time.Hour)
	if err != nil {
		return err
	}
	message, err := messages.Envelope(r.Context(), outbox.Message{Type: "bookings.made", Data: request.Key})
	if err != nil {
		return err
	}
	var recorded idempotency.Recorded
	for again := true; again; again = idempotency.IsDuplicate(err) { // another request was faster
		err = pgx.BeginFunc(r.Context(), a.db, func(tx pgx.Tx) error {
			if recorded, err = request.LookupTx(r.Context(), tx); err != nil || recorded.Exists {
				return err
			}
			recorded = idempotency.Fresh(idempotency.Response{Status: http.StatusCreated, Body: body})
			if err := request.RecordTx(r.Context(), tx, recorded.Response); err != nil {
				return err
			}
			if _, err := tx.Exec(r.Context(), `INSERT INTO bookings VALUES ($1)`, body); err != nil {
				return err
			}
			return message.AppendTx(r.Context(), tx)
		})
	}
	if err != nil {
		return err
	}
	return recorded.Answer(w)
}

// receive counts a booking once, however often its message is delivered.
func (a app) receive(_ http.ResponseWriter, r *http.Request) error {
	message, err := changerecord.Of(r.Header.Get("ce-source"), r.Header.Get("ce-id"))
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(r.Context(), a.db, func(tx pgx.Tx) error {
		if err := message.RecordTx(r.Context(), tx); err != nil {
			return err
		}
		_, err := tx.Exec(r.Context(), `UPDATE counted SET bookings = bookings + 1`)
		return err
	})
	if changerecord.IsDuplicate(err) {
		return nil // acknowledged: the message has made its change before
	}
	return err
}

func main() {
	db, err := pgxpool.New(context.Background(), os.Getenv("DATABASE_URL"))
	if err == nil {
		http.Handle("POST /bookings", problem.HandlerFunc(app{db}.book))
		http.Handle("POST /messages", problem.HandlerFunc(app{db}.receive))
		err = http.ListenAndServe(os.Getenv("HTTP_ADDR"), nil)
	}
	log.Fatal(err)
}
