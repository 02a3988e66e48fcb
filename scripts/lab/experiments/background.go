package experiments

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/google/uuid"
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
	Code:  "shared/pattern/storeref/store_then_reference.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE receipts (name text)`)
		store := memblob.OpenBucket(nil)
		defer store.Close() //nolint:errcheck // in memory
		write := func(dies bool) error {
			w.exec(ctx, `INSERT INTO receipts VALUES ('receipt-1.html')`)
			if dies {
				return errCrash
			}
			return store.WriteAll(ctx, "receipt-1.html", []byte("…"), nil)
		}
		r.Log("row written, then: %v", write(true))
		_, err := store.ReadAll(ctx, "receipt-1.html")
		r.Log("the customer opens the receipt: %v", err != nil)
		return verdict(err == nil, "1 reference, 0 documents")
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		died := w.crashAt(ctx, stack.Payments, fault.PaymentsReceiptAfterStore)
		o := w.order(ctx, shop.CardWorks, mug)
		died()
		r.Log("killed after the document was stored: a document that no row speaks of")
		await(ctx, "the receipt", func() bool {
			return got(w.Shop.Get(ctx, w.Shop.Payments+"/v1/payments/"+o.PaymentID+"/receipt")).Status == http.StatusOK
		})
		r.Log("restarted: another document is stored, then referred to: the receipt opens")
		w.quiet(ctx)
		r.Log("the first one was swept up after its grace")
		documents := 0
		objects := w.Truth.Receipts.List(&blob.ListOptions{Prefix: "receipts/"})
		for {
			if _, err := objects.Next(ctx); err != nil {
				break
			}
			documents++
		}
		references := w.truth(ctx, stack.Payments, `SELECT count(*) FROM payments WHERE receipt_name <> ''`)
		return verdict(documents == references, "every reference has its document, %d documents without one", documents-references)
	},
}

var garbageCollection = Experiment{
	ID:    "garbage-collection",
	Says:  "Keys are kept for a day and written with every request.",
	Fault: "10,000 keys have expired",
	Code:  "shared/pattern/garbage/garbage_collection.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE keys (key text PRIMARY KEY, expires_at timestamptz)`)
		w.exec(ctx, `INSERT INTO keys SELECT n::text, now() - interval '1 day' FROM generate_series(1, 10000) n`)
		r.Log("expired keys are ignored when they are read, and never deleted")
		n := w.number(ctx, `SELECT count(*) FROM keys WHERE expires_at < now()`)
		return verdict(n == 0, "%d rows that nobody needs, more every day", n)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		_, err := w.Truth.Orders.Exec(ctx, `
			INSERT INTO idempotency_keys (merchant_id, operation, key, fingerprint, status, headers, body, expires_at)
			SELECT 'mer_acme', 'POST /v1/orders', 'old-' || n, '\x00', 202, '{}', '', now() - interval '1 day' FROM generate_series(1, 10000) n`)
		must(err)
		left := func() int {
			return w.truth(ctx, stack.Orders, `SELECT count(*) FROM idempotency_keys WHERE expires_at < now()`)
		}
		r.Log("%d expired keys", left())
		await(ctx, "the collector", func() bool { return left() == 0 })
		r.Log("deleted in batches of 500, with pauses, by one replica")
		return verdict(left() == 0, "%d rows that nobody needs", left())
	},
}

var reconciliation = Experiment{
	ID:    "reconciliation",
	Says:  "The bank has sent a payout of which we think that nobody knows.",
	Fault: "the bank's answer is lost",
	Code:  "services/payments/reconcile.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE payouts (status text)`)
		reference := w.name("naive")
		w.misbehave(ctx, `[{"contract":"bank.transfers","fault":"lose_answer","times":1}]`)
		_, err := w.call(ctx, http.MethodPost, w.System.URL[stack.Sandbox]+"/bank/transfers", nil, map[string]any{
			"reference": reference, "account": "acct_1", "amount": map[string]any{"minor": 100, "currency": "GBP"}}, nil)
		w.exec(ctx, `INSERT INTO payouts VALUES ('failed')`)
		r.Log("POST /bank/transfers: no answer (%v); noted as failed", err != nil)
		sent, known := w.transfers(ctx, reference), w.number(ctx, `SELECT count(*) FROM payouts WHERE status = 'sent'`)
		return verdict(sent == known, "%d sent by the bank, %d known to us, and nobody looks", sent, known)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		w.payable(ctx)
		w.misbehave(ctx, `[{"contract":"bank.transfers","fault":"lose_answer","times":1}]`)
		var p struct{ ID, Status string }
		a, _, err := w.Shop.InsistAt(ctx, w.Shop.Payments+"/v1/payouts", uuid.NewString(), []byte(payoutOf1), nil)
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
					r.Log("POST /v1/reconciliations: %s: %s %s", d.Reference, d.Verdict, d.Note)
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
