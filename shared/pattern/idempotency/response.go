package idempotency

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/problem"
)

// HeaderReplayed tells a client that it sees a recorded answer.
const HeaderReplayed = "Idempotent-Replayed"

// Response is an answer as it goes out: status, the headers that matter, and
// the very bytes of the body.
type Response struct {
	Status int
	Header map[string]string
	Body   []byte
}

// JSON composes an answer that leads to what the request has made.
func JSON(status int, location string, view any) (Response, error) {
	body, err := json.Marshal(view)
	return Response{Status: status, Header: map[string]string{"Content-Type": "application/json", "Location": location}, Body: body}, err
}

// Recorded is the answer to a request: found, or just given for the first time.
type Recorded struct {
	Response
	Exists   bool
	replayed bool
}

// Fresh makes the answer of a request that has just been worked on.
func Fresh(r Response) Recorded { return Recorded{Response: r, Exists: true} }

// ErrKeyReused refuses a request whose key stands for other content: to answer it with
// the recorded answer would drop the second basket without a word, and to work on it
// would break the promise to the first. Return it to the client.
var ErrKeyReused = problem.New(http.StatusUnprocessableEntity, "idempotency-key-reused", "Idempotency-Key used for another request",
	"This key was used for a request with other content. Use a new key for a new request.").WithField(HeaderKey)

// Lookup queues the read of the answer that is recorded for this request's key;
// found.Exists stays false when there is none yet or it has expired. When the key was
// used for other content, the batch fails with ErrKeyReused: a caller cannot get at
// the other request's answer.
//
// Pattern: reject-non-identical
func (r Request) Lookup(b *pgx.Batch, found *Recorded) {
	b.Queue(`
		SELECT fingerprint, status, headers, body
		  FROM idempotency_keys
		 WHERE merchant_id = $1
		   AND operation = $2
		   AND key = $3
		   AND status IS NOT NULL
		   AND expires_at > now()`,
		r.Merchant, r.Operation, r.Key,
	).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var fingerprint []byte
			answer := Recorded{Exists: true, replayed: true}
			if err := rows.Scan(&fingerprint, &answer.Status, &answer.Header, &answer.Body); err != nil {
				return err
			}
			if !bytes.Equal(fingerprint, r.Fingerprint[:]) {
				return ErrKeyReused
			}
			*found = answer
		}
		return rows.Err()
	})
}

// LookupTx is Lookup for a transaction that is not a batch.
func (r Request) LookupTx(ctx context.Context, tx pgx.Tx) (Recorded, error) {
	var found Recorded
	b := &pgx.Batch{}
	r.Lookup(b, &found)
	err := tx.SendBatch(ctx, b).Close()
	return found, err
}

// Record queues the record of key and answer. Queue it as the first statement
// of the transaction that does the work: a concurrent request with the same key
// then waits here until we commit, and its transaction fails before it has
// touched anything (see IsDuplicate). A record that has expired is replaced.
//
// The key and its answer are one row, written with the work: there is no moment
// at which the key is taken and the work is not done.
//
// Pattern: response-record
func (r Request) Record(b *pgx.Batch, answer Response) {
	b.Queue(`
		INSERT INTO idempotency_keys AS k (merchant_id, operation, key, fingerprint, status, headers, body, expires_at)
		VALUES ($1, $2, $3, $4, $5, COALESCE($6::jsonb, '{}'), COALESCE($7::bytea, ''), now() + $8::interval)
		ON CONFLICT (merchant_id, operation, key) DO UPDATE
		   SET status      = CASE WHEN k.expires_at <= now() THEN EXCLUDED.status ELSE -1 END,
		       fingerprint = EXCLUDED.fingerprint,
		       headers     = EXCLUDED.headers,
		       body        = EXCLUDED.body,
		       created_at  = now(),
		       expires_at  = EXCLUDED.expires_at`,
		r.Merchant, r.Operation, r.Key, r.Fingerprint[:], answer.Status, answer.Header, answer.Body, r.Retention)
}

// RecordTx is Record for a transaction that is not a batch. Call it before the work, or
// after it when the answer needs what the work has made. When the key is recorded already,
// it fails, and the transaction with it; see IsDuplicate.
func (r Request) RecordTx(ctx context.Context, tx pgx.Tx, answer Response) error {
	b := &pgx.Batch{}
	r.Record(b, answer)
	return tx.SendBatch(ctx, b).Close()
}

// DeleteExpired is the statement that forgets what has expired $1 ago, at most $2 at a time.
// A key whose work is not finished stays: the completer needs it.
const DeleteExpired = `
	DELETE FROM idempotency_keys
	 WHERE ctid = ANY(ARRAY(
	       SELECT ctid
	         FROM idempotency_keys
	        WHERE expires_at <= now() - $1::interval
	          AND status IS NOT NULL
	        ORDER BY expires_at
	        LIMIT $2
	          FOR UPDATE SKIP LOCKED))`

// IsDuplicate tells whether a batch failed because the key is recorded already.
// Look it up again and give that answer.
func IsDuplicate(err error) bool {
	return postgres.Violates(err, "idempotency_keys_unused")
}

// IsInUse tells whether a batch waited too long for the request that is writing under
// the same key. Answer with ErrKeyInUse. PostgreSQL names the table that it waited in.
func IsInUse(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && postgres.LockTimedOut(err) && strings.Contains(pgErr.Where, "idempotency_keys")
}

// Answer sends the answer, with a header that tells whether it was given before.
func (a Recorded) Answer(w http.ResponseWriter) error {
	if a.replayed {
		w.Header().Set(HeaderReplayed, "true")
	}
	for name, value := range a.Header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(a.Status)
	_, err := w.Write(a.Body)
	return err
}
