package sweep

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/wait"
)

var mug = shop.Item{SKU: "mug", Quantity: 1}

const payout = `{"amount":{"minor":100,"currency":"GBP"}}`

// prepare does what has to be there before the fault is armed, and returns what
// makes somebody pass the point.
func (r *run) prepare(ctx context.Context) (scene, error) {
	switch {
	case r.Point == fault.GarbageAfterBatch:
		return scene{act: r.litter}, nil
	case strings.HasPrefix(r.Point, "reconcile."):
		return r.unknownPayout(ctx)
	case strings.HasPrefix(r.Point, "payments.refund."), r.Point == fault.LedgerEntryAfterCommit:
		o, err := r.sold(ctx)
		return r.request(r.Shop.Payments+"/v1/refunds", fmt.Appendf(nil, `{"payment_id":%q}`, o.PaymentID)), err
	case strings.HasPrefix(r.Point, "payments.payout."), strings.HasPrefix(r.Point, "ledger.payout."), strings.HasPrefix(r.Point, "twophase."):
		return r.request(r.Shop.Payments+"/v1/payouts", []byte(payout)), r.payable(ctx)
	}
	card := shop.CardWorks
	switch r.Point {
	case fault.PaymentsVoidAfterIntent, fault.PaymentsVoidAfterProcessor:
		card = shop.CardCaptureFails
	case fault.PaymentsRedeemBeforeRecovery:
		// The processor redeems and loses its answer, so that the second try meets the first.
		if err := r.Shop.Misbehave(ctx, `{"rules":[{"contract":"payment_methods","fault":"lose_answer","times":1}]}`); err != nil {
			return scene{}, err
		}
	}
	token, err := r.Shop.Token(ctx, card)
	return r.request(r.Shop.Orders+"/v1/orders", r.Shop.Basket(token, mug)), err
}

// sold is an order that is confirmed.
func (r *run) sold(ctx context.Context) (shop.Order, error) {
	o, err := r.Shop.Buy(ctx, shop.CardWorks, mug)
	if err == nil && o.Status != "confirmed" {
		err = fmt.Errorf("order %s is %s: %s", o.ID, o.Status, o.Reason)
	}
	return o, err
}

// payable sells, and waits until the money can be paid out.
func (r *run) payable(ctx context.Context) error {
	if _, err := r.sold(ctx); err != nil {
		return err
	}
	return audit.WaitQuiet(ctx, r.Truth)
}

// unknownPayout leaves a difference for a reconciliation to find and fix. Its
// request carries no key: a client that retries asks for another run.
func (r *run) unknownPayout(ctx context.Context) (scene, error) {
	if err := r.payable(ctx); err != nil {
		return scene{}, err
	}
	if err := r.Shop.Misbehave(ctx, `{"rules":[{"contract":"bank.transfers","fault":"lose_answer","times":1}]}`); err != nil {
		return scene{}, err
	}
	a, _, err := r.Shop.InsistAt(ctx, r.Shop.Payments+"/v1/payouts", uuid.NewString(), []byte(payout), nil)
	if err != nil {
		return scene{}, err
	}
	// The statements lie, too: in lines that make no sense, and in dates.
	err = r.Shop.Misbehave(ctx, `{"rules":[{"contract":"report","fault":"bad_line","times":1},
		{"contract":"bank.statement","fault":"wrong_date","times":1},{"contract":"bank.statement","fault":"bad_line","times":1}]}`)
	if err != nil {
		return scene{}, err
	}
	var unknown struct{ ID string }
	if err := json.Unmarshal(a.Body, &unknown); err != nil {
		return scene{}, err
	}
	// Older than RECONCILE_GRACE, or it is judged to be on its way.
	err = wait.Until(ctx, look, "the payout to be old enough", func() (old bool, err error) {
		err = r.Truth.Payments.QueryRow(ctx, `SELECT finished_at < now() - interval '1.2 s' FROM payouts WHERE 'pyo_' || id = $1`, unknown.ID).Scan(&old)
		return old, err
	})
	ask := func(ctx context.Context) {
		_, _ = r.Shop.Post(ctx, r.Shop.Payments+"/v1/reconciliations", "", nil)
	}
	act := func(ctx context.Context) error {
		if r.Client == Gone {
			r.goneAfter(ctx, ask) // the run that broke off is executed again by itself
		}
		return wait.Until(ctx, look, "the payout to be known", func() (known bool, err error) {
			if r.Client == Retries {
				ask(ctx)
			}
			err = r.Truth.Payments.QueryRow(ctx, `SELECT outcome <> 'unknown' FROM payouts WHERE 'pyo_' || id = $1`, unknown.ID).Scan(&known)
			return known, err
		})
	}
	return scene{act: act}, err
}
