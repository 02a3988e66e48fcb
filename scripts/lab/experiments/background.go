package experiments

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

var storeThenReference = Experiment{
	ID:    "store-then-reference",
	Says:  "A receipt is a row in the database and a document in a store.",
	Fault: "the process dies between the two writes",
	Code:  "shared/pattern/storethenreference/store_then_reference.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE receipts (name text)`)
		store := memblob.OpenBucket(nil)
		defer store.Close() //nolint:errcheck // in memory
		write := func(name string, dies bool) error {
			w.exec(ctx, `INSERT INTO receipts VALUES ($1)`, name)
			if dies {
				return errCrash
			}
			return store.WriteAll(ctx, name, []byte("…"), nil)
		}
		for n := range w.Dice.Hit {
			r.Log("receipt-%d: row written, then: %v", n+1, write(fmt.Sprintf("receipt-%d", n+1), n+1 == w.Dice.Hit))
		}
		names := got(pgx.CollectRows(got(w.Naive.Query(ctx, `SELECT name FROM receipts`)), pgx.RowTo[string]))
		dangling, orphans := compare(names, documents(ctx, store, ""))
		return verdict(len(dangling) == 0, "%d of %d references lead nowhere: %s; %d documents without one", len(dangling), len(names), strings.Join(dangling, ", "), len(orphans))
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		died := w.crashAt(ctx, stack.Payments, fault.PaymentsReceiptAfterStore, 1)
		o := w.order(ctx, shop.CardWorks, w.mugs())
		died()
		state := func() (names, dangling, orphans []string) {
			names = got(pgx.CollectRows(got(w.Truth.Payments.Query(ctx, `SELECT receipt_name FROM payments WHERE receipt_name <> ''`)), pgx.RowTo[string]))
			dangling, orphans = compare(names, documents(ctx, w.Truth.Receipts, "receipts/"))
			return names, dangling, orphans
		}
		await(ctx, "the receipt", func() bool {
			return got(w.Shop.Get(ctx, w.Shop.Payments+"/v1/payments/"+o.PaymentID+"/receipt")).Status == http.StatusOK
		})
		_, _, orphans := state()
		r.Log("killed after the document was stored; another one was stored, then referred to; %d without a reference", len(orphans))
		w.quiet(ctx)
		names, dangling, left := state()
		r.Log("after its grace, and the sweep: %d without a reference", len(left))
		return verdict(len(names) > 0 && len(orphans) > 0 && len(dangling)+len(left) == 0,
			"%d references lead nowhere, %d documents without one", len(dangling), len(left))
	},
}

// documents are the names in a store.
func documents(ctx context.Context, store *blob.Bucket, prefix string) (names []string) {
	objects := store.List(&blob.ListOptions{Prefix: prefix})
	for {
		object, err := objects.Next(ctx)
		if errors.Is(err, io.EOF) {
			return names
		}
		must(err)
		names = append(names, object.Key)
	}
}

// compare holds references and documents against each other, name by name.
func compare(references, documents []string) (dangling, orphans []string) {
	without := func(some, others []string) (left []string) {
		for _, name := range some {
			if !slices.Contains(others, name) {
				left = append(left, name)
			}
		}
		return left
	}
	return without(references, documents), without(documents, references)
}

var garbageCollection = Experiment{
	ID:    "garbage-collection",
	Says:  "Keys are kept for a day and written with every request.",
	Fault: "thousands of keys have expired",
	Code:  "shared/pattern/garbagecollection/garbage_collection.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE keys (key text PRIMARY KEY, expires_at timestamptz)`)
		w.exec(ctx, `INSERT INTO keys SELECT n::text, now() - interval '1 day' FROM generate_series(1, $1::int) n`, 1000*w.Dice.Crowd)
		r.Log("expired keys are ignored when they are read, and never deleted")
		n := w.number(ctx, `SELECT count(*) FROM keys WHERE expires_at < now()`)
		return verdict(n == 0, "%d rows that nobody needs, more every day", n)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		expired, err := w.Truth.Orders.Exec(ctx, `
			INSERT INTO idempotency_keys (merchant_id, operation, key, fingerprint, status, headers, body, expires_at)
			SELECT 'mer_acme', 'POST /v1/orders', 'old-' || n, '\x00', 202, '{}', '', now() - interval '1 day' FROM generate_series(1, $1::int) n`, 1000*w.Dice.Crowd)
		must(err)
		left := func() int {
			return w.truth(ctx, stack.Orders, `SELECT count(*) FROM idempotency_keys WHERE expires_at < now()`)
		}
		r.Log("%d expired keys", expired.RowsAffected()) // not left(): the collector may have begun
		await(ctx, "the collector", func() bool { return left() == 0 })
		r.Log("the collector has deleted them")
		return verdict(left() == 0, "%d rows that nobody needs", left())
	},
}

var reconciliation = Experiment{
	ID:    "reconciliation",
	Says:  "The bank has sent a payout, and our books do not say so.",
	Fault: "the bank's answer is lost",
	Code:  "services/payments/reconcile.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE payouts (status text)`)
		reference := w.name("naive")
		w.misbehave(ctx, `[{"contract":"bank.transfers","fault":"lose_answer","times":1}]`)
		_, err := w.call(ctx, http.MethodPost, w.System.URL[stack.Sandbox]+"/bank/transfers", nil, map[string]any{
			"reference": reference, "account": "acct_1", "amount": map[string]any{"minor": w.Dice.Minor, "currency": "GBP"}}, nil)
		w.exec(ctx, `INSERT INTO payouts VALUES ('failed')`)
		r.Log("POST /bank/transfers: %s; noted as failed", answerTo(err))
		sent, known := w.transfers(ctx, reference), w.number(ctx, `SELECT count(*) FROM payouts WHERE status = 'sent'`)
		return verdict(sent == known, "%d sent by the bank, %d known to us, and nobody looks", sent, known)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		w.payable(ctx)
		w.misbehave(ctx, `[{"contract":"bank.transfers","fault":"lose_answer","times":1}]`)
		var p struct{ ID, Status string }
		a, _, err := w.Shop.InsistAt(ctx, w.Shop.Payments+"/v1/payouts", uuid.NewString(), w.payoutBody(), nil)
		must(err)
		must(json.Unmarshal(a.Body, &p))
		r.Log("POST /v1/payouts: %d %s", a.Status, p.Status)
		var finding struct {
			Differences []struct{ Reference, Verdict, Note string }
		}
		await(ctx, "a reconciliation that resolves it", func() bool {
			a := got(w.Shop.Post(ctx, w.Shop.Payments+"/v1/reconciliations", "", nil))
			must(json.Unmarshal(a.Body, &finding))
			for _, d := range finding.Differences {
				if d.Reference == p.ID && d.Verdict == "resolved" {
					r.Log("POST /v1/reconciliations: %s: %s. %s", d.Reference, d.Verdict, d.Note)
					return true
				}
			}
			return false
		})
		w.quiet(ctx)
		known := w.truth(ctx, stack.Payments, `SELECT count(*) FROM payouts WHERE 'pyo_' || id = $1 AND outcome = 'sent'`, p.ID)
		return verdict(known == w.transfers(ctx, p.ID), "%d sent by the bank, %d known to us", w.transfers(ctx, p.ID), known)
	},
}
