package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/wait"
)

func (t *tour) refund(ctx context.Context) error {
	t.out.act("A refund dies half-way, and its client never comes back", "The processor has given the money back. A completer takes the refund over at its recovery point.")
	o, err := t.follow(ctx, shop.CardWorks)
	if err != nil {
		return err
	}
	if err := t.Shop.Arm(ctx, t.Shop.Payments, fault.PaymentsRefundAfterProcessor, "crash", 1); err != nil {
		return err
	}
	if _, err := t.Shop.Post(ctx, t.Shop.Payments+"/v1/refunds", uuid.NewString(), fmt.Appendf(nil, `{"payment_id":%q}`, o.PaymentID)); err == nil {
		return errors.New("payments was not killed")
	}
	t.out.event("client", "POST /v1/refunds: the connection broke; gives up")
	last := ""
	for last != "finished" {
		point := last
		err := t.Truth.Payments.QueryRow(ctx, `SELECT recovery_point FROM refunds WHERE 'pay_' || payment_id = $1`, o.PaymentID).Scan(&point)
		if err == nil && point != last {
			t.out.event("refund", "stands at: "+point)
			last = point
		}
		if !wait.For(ctx, look) {
			return ctx.Err()
		}
	}
	var refunds int
	if err := t.Truth.Sandbox.QueryRow(ctx, `
		SELECT count(*) FROM processor_operations o JOIN processor_charges c ON c.id = o.charge_id
		 WHERE c.reference = $1 AND o.kind = 'refund'`, o.PaymentID).Scan(&refunds); err != nil {
		return err
	}
	t.out.event("processor", fmt.Sprintf("its own record of this payment: %d refund", refunds))
	return nil
}

func (t *tour) payout(ctx context.Context) error {
	t.out.act("The bank sends a payout, and its answer is lost", "It takes no keys: asking again could pay twice. So we do not ask; the bank's statement tells.")
	quiet, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := audit.WaitQuiet(quiet, t.Truth); err != nil { // until the sales have settled
		return err
	}
	if err := t.Shop.Misbehave(ctx, `{"rules":[{"contract":"bank.transfers","fault":"lose_answer","times":1}]}`); err != nil {
		return err
	}
	a, _, err := t.Shop.InsistAt(ctx, t.Shop.Payments+"/v1/payouts", uuid.NewString(), []byte(`{"amount":{"minor":500,"currency":"GBP"}}`), nil)
	if err != nil {
		return err
	}
	var p struct{ ID, Status string }
	if err := json.Unmarshal(a.Body, &p); err != nil {
		return err
	}
	t.out.event("client", fmt.Sprintf("POST /v1/payouts: %d, %s", a.Status, p.Status))
	for wait.For(ctx, 200*time.Millisecond) {
		a, err := t.Shop.Post(ctx, t.Shop.Payments+"/v1/reconciliations", "", nil)
		if err != nil {
			return err
		}
		var run struct {
			Differences []struct{ Reference, Verdict, Note string }
		}
		if err := json.Unmarshal(a.Body, &run); err != nil {
			return err
		}
		for _, d := range run.Differences {
			if d.Reference == p.ID && d.Verdict == "resolved" {
				t.out.event("report", fmt.Sprintf("%s…: %s. %s", d.Reference[:16], d.Verdict, d.Note))
				return nil
			}
		}
	}
	return ctx.Err()
}
