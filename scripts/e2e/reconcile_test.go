package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

type difference struct {
	Source, Kind, Reference, Finding, Verdict string
}

// reconciled runs a reconciliation to its end and returns what it found.
func reconciled(ctx context.Context, t *testing.T) []difference {
	t.Helper()
	var got struct {
		ID, Status  string
		Differences []difference
	}
	a, err := acme.Post(ctx, acme.Payments+"/v1/reconciliations", "", nil)
	for {
		if err == nil && a.Status < http.StatusMultipleChoices {
			err = json.Unmarshal(a.Body, &got)
		}
		if err == nil && got.Status == "finished" {
			return got.Differences
		}
		if ctx.Err() != nil {
			t.Fatalf("not finished: %d %s, %v", a.Status, a.Body, err)
		}
		time.Sleep(20 * time.Millisecond)
		if got.ID == "" { // the answer was lost: ask for another run
			a, err = acme.Post(ctx, acme.Payments+"/v1/reconciliations", "", nil)
		} else {
			a, err = acme.Get(ctx, acme.Payments+"/v1/reconciliations/"+got.ID)
		}
	}
}

// unknownPayout makes the bank misbehave and returns the id of the payout of which
// nobody knows whether it was sent.
func unknownPayout(ctx context.Context, t *testing.T, mishap string) string {
	t.Helper()
	request := payable(ctx, t)
	misbehave(ctx, t, `{"rules":[{"contract":"bank.transfers","fault":"`+mishap+`","times":1}]}`)
	_, p, body := payout(ctx, t, request, uuid.NewString())
	if p.Status != "unknown" {
		t.Fatalf("%s", body)
	}
	return p.ID
}

// verdictOn reconciles until the difference of this reference is not too young.
func verdictOn(ctx context.Context, t *testing.T, reference string) difference {
	t.Helper()
	for {
		for _, d := range reconciled(ctx, t) {
			if d.Reference == reference && d.Verdict != "pending" {
				return d
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("%s is not among the differences", reference)
		}
	}
}

func payoutStatus(ctx context.Context, t *testing.T, id string) string {
	t.Helper()
	var p payoutAnswer
	a, err := acme.Get(ctx, acme.Payments+"/v1/payouts/"+id)
	if err == nil {
		err = json.Unmarshal(a.Body, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p.Status
}

func TestReconciliationFindsOutWhatBecameOfAnUnknownPayout(t *testing.T) {
	ctx := limit(t)
	sent, lost := unknownPayout(ctx, t, "lose_answer"), unknownPayout(ctx, t, "fail_before")
	if d := verdictOn(ctx, t, sent); d.Verdict != "resolved" || d.Source != "bank" {
		t.Errorf("the one that was sent: %+v", d)
	}
	if got := payoutStatus(ctx, t, sent); got != "sent" {
		t.Errorf("the one that was sent is %s", got)
	}
	if d := verdictOn(ctx, t, lost); d.Verdict != "unresolvable" || d.Finding != "not-on-statement" {
		t.Errorf("the one that was not: %+v", d)
	}
	if got := payoutStatus(ctx, t, lost); got != "unknown" {
		t.Errorf("the one that was not sent is %s; only a person may decide that", got)
	}
	allHolds(ctx, t)
}

// A webhook that never comes is made up for by the report.
func TestASettlementWhoseWebhookIsLostIsTakenFromTheReport(t *testing.T) {
	ctx := limit(t)
	misbehave(ctx, t, `{"rules":[{"contract":"webhooks","fault":"refuse"}]}`) // every try
	o := sold(ctx, t, mug)
	for settled := false; !settled; {
		reconciled(ctx, t)
		if err := truth.Payments.QueryRow(ctx, `SELECT settled_at IS NOT NULL FROM payments WHERE 'pay_' || id = $1`, o.PaymentID).Scan(&settled); err != nil {
			t.Fatal(err)
		}
	}
	misbehave(ctx, t, `{"rules":[]}`) // now it comes after all, and changes nothing
	allHolds(ctx, t)
}

// crashDuringReconciliation: a run whose process dies is executed again.
func crashDuringReconciliation(t *testing.T, point string) {
	ctx := limit(t)
	id := unknownPayout(ctx, t, "lose_answer")
	for old := false; !old; { // older than RECONCILE_GRACE, or it is judged to be on its way
		if err := truth.Payments.QueryRow(ctx, `SELECT now() - finished_at > interval '1.2 s' FROM payouts WHERE 'pyo_' || id = $1`, id).Scan(&old); err != nil {
			t.Fatal(err)
		}
	}
	before := starts(stack.Payments)
	arm(ctx, t, stack.Payments, point)
	_, _ = acme.Post(ctx, acme.Payments+"/v1/reconciliations", "", nil) // its answer is lost
	crashed(ctx, t, stack.Payments, point, before)
	for payoutStatusSoon(ctx, id) != "sent" {
		if ctx.Err() != nil {
			t.Fatalf("the run was not executed again: %s is %s", id, payoutStatusSoon(context.Background(), id))
		}
		time.Sleep(20 * time.Millisecond)
	}
	var unfinished int
	for unfinished = 1; unfinished > 0 && ctx.Err() == nil; {
		if err := truth.Payments.QueryRow(ctx, `SELECT count(*) FROM reconciliations WHERE status <> 'finished'`).Scan(&unfinished); err != nil {
			t.Fatal(err)
		}
	}
	allHolds(ctx, t)
}

func payoutStatusSoon(ctx context.Context, id string) string {
	var outcome string
	if err := truth.Payments.QueryRow(ctx, `SELECT outcome FROM payouts WHERE 'pyo_' || id = $1`, id).Scan(&outcome); err != nil {
		return err.Error()
	}
	return outcome
}

// crashDuringGarbageCollection: what was not deleted is deleted by the next life.
func crashDuringGarbageCollection(t *testing.T, service string) {
	ctx := limit(t)
	before := starts(service)
	arm(ctx, t, service, fault.GarbageAfterBatch)
	pool, sender := truth.Payments, "/orders"
	switch service {
	case stack.Orders:
		pool, sender = truth.Orders, "/payments"
	case stack.Ledger:
		pool = truth.Ledger
	}
	// Handled in 1970, by the id.
	_, err := pool.Exec(ctx, `
		INSERT INTO inbox (source, message_id)
		SELECT $1, ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid
		  FROM generate_series(1, 1200) n`,
		sender)
	if err != nil {
		t.Fatal(err)
	}
	crashed(ctx, t, service, fault.GarbageAfterBatch, before)
	for left := 1; left > 0; {
		if err := pool.QueryRow(ctx, `SELECT count(*) FROM inbox WHERE message_id < '00000001-0000-0000-0000-000000000000'`).Scan(&left); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	allHolds(ctx, t)
}
