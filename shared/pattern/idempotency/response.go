package idempotency

import (
	"bytes"
	"net/http"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
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

// Recorded is the answer to a request: found, or just given for the first time.
type Recorded struct {
	Response
	Exists      bool
	replayed    bool
	fingerprint []byte
}

// Fresh makes the answer of a request that has just been worked on.
func Fresh(r Response) Recorded { return Recorded{Response: r, Exists: true} }

// Lookup queues the read of the answer that is recorded for this request's key;
// found.Exists stays false when there is none yet or it has expired.
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
			if err := rows.Scan(&found.fingerprint, &found.Status, &found.Header, &found.Body); err != nil {
				return err
			}
			found.Exists, found.replayed = true, true
		}
		return rows.Err()
	})
}

// Record queues the record of key and answer. Queue it as the first statement
// of the transaction that does the work: a concurrent request with the same key
// then waits here until we commit, and its transaction fails before it has
// touched anything (see IsDuplicate). A record that has expired is replaced.
//
// The key and its answer are one row, written with the work: there is no moment
// at which the key is taken and the work is not done.
//
// The result tells that the key is ours: who waited for a row longer than it may
// learns from it whether it was the key (then answer with InUse) or the work.
//
// Pattern: response-record
func (r Request) Record(b *pgx.Batch, answer Response) *pgx.QueuedQuery {
	return b.Queue(`
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

// IsDuplicate tells whether a batch failed because the key is recorded already.
// Look it up again and give that answer.
func IsDuplicate(err error) bool {
	return postgres.Violates(err, "idempotency_keys_unused")
}

// Answer sends a recorded answer. When the request asks for something else than
// the one that was recorded, it is refused instead: answering it with the first
// order would drop the second basket without a word.
//
// Pattern: reject-non-identical
func (r Request) Answer(c echo.Context, answer Recorded) error {
	if answer.replayed {
		if !bytes.Equal(answer.fingerprint, r.Fingerprint[:]) {
			return web.NewProblem(http.StatusUnprocessableEntity, "idempotency-key-reused", "Idempotency-Key used for another request",
				"This key was used for a request with other content. Use a new key for a new request.").WithField(HeaderKey)
		}
		c.Response().Header().Set(HeaderReplayed, "true")
	}
	for name, value := range answer.Header {
		c.Response().Header().Set(name, value)
	}
	return c.Blob(answer.Status, answer.Header[echo.HeaderContentType], answer.Body)
}
