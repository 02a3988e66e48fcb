package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/postgres"
)

// request is a money call as its Idempotency-Key sees it. Without a key the
// call executes each time that it is made, as at real processors.
type request struct {
	key         string
	fingerprint []byte
}

// outcome is what a call decided, before anything is written.
type outcome struct {
	answer answer

	// work queues the writes; nil when the call was refused.
	work func(b *pgx.Batch)

	// forget keeps the answer from being recorded under the key: the failure
	// came before the work, so the same key may try again.
	forget bool
}

var (
	keyInvalid = refuse(http.StatusBadRequest, "idempotency_key_invalid", "The Idempotency-Key must have 1 to 255 characters.")
	keyReused  = refuse(http.StatusUnprocessableEntity, "idempotency_key_reused", "This key was used for a call with other content.")
	keyInUse   = soon(refuse(http.StatusConflict, "idempotency_key_in_use", "A call with this key is still running. Ask again."))
	chargeBusy = soon(refuse(http.StatusTooManyRequests, "charge_busy", "Other calls are changing this charge. Nothing was done. Ask again."))
)

// identify reads the key and takes the fingerprint of the decoded body: white
// space and the order of its members make no other call of it.
func identify(c echo.Context, body any) (request, bool) {
	values := c.Request().Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return request{}, true
	}
	key := values[0]
	if strings.HasPrefix(key, `"`) && strings.HasSuffix(key, `"`) && len(key) > 1 {
		key = key[1 : len(key)-1]
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s\n%s", c.Request().Method, c.Request().URL.Path, encode(body)))
	return request{key: key, fingerprint: sum[:]}, len(key) >= 1 && len(key) <= 255
}

// execute runs one money call, once per key:
//
//  1. read the answer recorded for the key, and what the call is about
//  2. decide, on what was read
//  3. write the key with the answer, and the work, in one transaction
//
// There is no "running" state: a crash before the commit of 3 leaves nothing
// behind, and one after it leaves everything. Two calls with one key both reach
// 3; the unique key lets one through and makes the other wait, for a moment
// only, then read again. A charge that changed between 1 and 3 refuses the
// write through its version, and the call decides anew.
func (p *processor) execute(ctx context.Context, req request, look func(b *pgx.Batch), decide func() outcome) (answer, bool, error) {
	var given answer
	var replayed bool
	err := postgres.RetryStale(ctx, func() error {
		var earlier recorded
		err := postgres.Read(ctx, p.db, func(b *pgx.Batch) {
			req.lookup(b, &earlier)
			look(b)
		})
		if err != nil {
			return err
		}
		if earlier.found {
			given, replayed = earlier.answer, bytes.Equal(earlier.fingerprint, req.fingerprint)
			if !replayed {
				given = keyReused
			}
			return nil
		}
		out := decide()
		given = out.answer
		if out.work == nil && (out.forget || req.key == "") {
			return nil
		}
		// Tells a wait for the key from a wait for the charge: the caller must
		// know which of the two is taken.
		claimed := req.key == ""
		err = postgres.Write(ctx, p.db, func(b *pgx.Batch) {
			// Local to this transaction. A real processor does not keep a caller
			// hanging behind its own first try.
			b.Queue(`SELECT set_config('lock_timeout', $1, true)`, fmt.Sprint(p.keyWait.Milliseconds()))
			if req.key != "" && !out.forget {
				req.record(b, out.answer, &claimed)
			}
			if out.work != nil {
				out.work(b)
			}
		})
		switch {
		case lockTimedOut(err) && !claimed:
			given = keyInUse
			return nil
		case lockTimedOut(err):
			given = chargeBusy
			return nil
		case postgres.Violates(err, "processor_idempotency_pkey"),
			postgres.Violates(err, "processor_charges_version_current"),
			postgres.Violates(err, "processor_payment_methods_stumbles_once"):
			return postgres.ErrStale
		}
		return err
	})
	// Lost every race against other calls on this charge. They moved on, this
	// one did nothing, and that is what the caller is told.
	if errors.Is(err, postgres.ErrStale) {
		return chargeBusy, false, nil
	}
	return given, replayed, err
}

// recorded is what an earlier call left under the key.
type recorded struct {
	found       bool
	fingerprint []byte
	answer      answer
}

func (r request) lookup(b *pgx.Batch, into *recorded) {
	if r.key == "" {
		return
	}
	b.Queue(`
		SELECT true, fingerprint, status, body
		FROM   processor_idempotency
		WHERE  key = $1`,
		r.key).Query(func(rows pgx.Rows) error {
		return one(rows, &into.found, &into.fingerprint, &into.answer.status, &into.answer.body)
	})
}

// one scans the row, if there is one, and leaves the targets alone if not.
func one(rows pgx.Rows, targets ...any) error {
	_, err := pgx.ForEachRow(rows, targets, func() error { return nil })
	return err
}

// record is queued first: the unique key is the lock, and a call that has to wait
// for it has written nothing else yet.
func (r request) record(b *pgx.Batch, a answer, claimed *bool) {
	b.Queue(`
		INSERT INTO processor_idempotency (key, fingerprint, status, body, created_at)
		VALUES ($1, $2, $3, $4, $5)`,
		r.key, r.fingerprint, a.status, a.body, time.Now()).Exec(func(pgconn.CommandTag) error {
		*claimed = true
		return nil
	})
}

// lockTimedOut is PostgreSQL's 55P03: somebody else held the row for longer
// than we were willing to wait. The transaction was rolled back.
func lockTimedOut(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "55P03"
}

// forgetKeys is the fault that time brings: every processor drops its keys some day, and
// the same key is a new question then. older_than ("5s") is how long it keeps them; without
// it, all are dropped.
func (p *processor) forgetKeys(c echo.Context) error {
	kept, err := time.ParseDuration(cmp.Or(c.QueryParam("older_than"), "0s"))
	if err != nil {
		return invalid("older_than", "is a duration, 5s for one")
	}
	tag, err := p.db.Exec(c.Request().Context(), `DELETE FROM processor_idempotency WHERE created_at <= $1`, time.Now().Add(-kept))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]int64{"forgotten": tag.RowsAffected()})
}
