package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
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
// it is unknown whether it was sent.
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

func TestReconciliation_ResolvesAPayoutFromTheStatement(t *testing.T) {
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
func TestReconciliation_TakesAMissedSettlementFromTheReport(t *testing.T) {
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
