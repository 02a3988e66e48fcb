package mutants

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/lab/world"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/wait"
)

// World is the mutated system.
type World struct{ *world.World }

// Drive makes a system do what some pattern is needed for. It returns what a
// client was answered, when that matters. On the unedited source everything holds
// after it: otherwise it would prove nothing about a mutant.
type Drive struct {
	ID string
	Do func(ctx context.Context, w *World) ([]audit.Answer, error)
}

// The drives.
var (
	soldTwice        = Drive{"sold", orders(shop.CardWorks)}
	declined         = Drive{"declined", orders(shop.CardDeclined)}
	answerLost       = Drive{"answer-lost", orders(shop.CardLosesAnswer)}
	refunded         = Drive{"refunded", refund("", 1)}
	refundedTwice    = Drive{"refunded-twice", refund("", 2)}
	refundLeft       = Drive{"refund-left", refund(fault.PaymentsRefundAfterStart, 1)}
	paidOut          = Drive{"paid-out", payout}
	askedTwice       = Drive{"asked-twice", sameOrderTwice}
	deliveredTwice   = Drive{"delivered-twice", settledTwice}
	diedBeforeCommit = Drive{"died-before-commit", crashedAccept}
)

var mug = shop.Item{SKU: "mug", Quantity: 1}

// orders places two orders with a card.
func orders(card string) func(context.Context, *World) ([]audit.Answer, error) {
	return func(ctx context.Context, w *World) ([]audit.Answer, error) {
		for range 2 {
			if _, err := w.Shop.Checkout(ctx, card, mug); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
}

// refund gives an order back, all of it, as often as is said and each time under
// another key; with a crash at a point and a client that is gone, if there is a point.
func refund(point string, times int) func(context.Context, *World) ([]audit.Answer, error) {
	return func(ctx context.Context, w *World) ([]audit.Answer, error) {
		o, err := w.Shop.Buy(ctx, shop.CardWorks, mug)
		if err == nil && point != "" {
			err = w.Shop.Arm(ctx, w.Shop.Payments, point, "crash", 1)
		}
		if err != nil {
			return nil, err
		}
		body := fmt.Appendf(nil, `{"payment_id":%q}`, o.PaymentID)
		for range times {
			_, err = w.Shop.Post(ctx, w.Shop.Payments+"/v1/refunds", uuid.NewString(), body)
			if err != nil && point == "" {
				return nil, err
			}
		}
		return nil, nil
	}
}

// payout pays out with a crash when the bank has sent the money and nothing says so. The
// completer goes on from there.
func payout(ctx context.Context, w *World) ([]audit.Answer, error) {
	if _, err := w.Shop.Checkout(ctx, shop.CardWorks, mug); err != nil {
		return nil, err
	}
	if err := audit.WaitQuiet(ctx, w.Truth); err != nil {
		return nil, err
	}
	if err := w.Shop.Arm(ctx, w.Shop.Payments, fault.PaymentsPayoutAfterBank, "crash", 1); err != nil {
		return nil, err
	}
	_, _ = w.Shop.Post(ctx, w.Shop.Payments+"/v1/payouts", uuid.NewString(), []byte(`{"amount":{"minor":100,"currency":"GBP"}}`))
	return nil, nil // it has no answer: the process is dead
}

// sameOrderTwice hands over what one request was answered, both times.
func sameOrderTwice(ctx context.Context, w *World) ([]audit.Answer, error) {
	token, err := w.Shop.Token(ctx, shop.CardWorks)
	if err != nil {
		return nil, err
	}
	var heard []audit.Answer
	key, body := uuid.NewString(), w.Shop.Basket(token, mug)
	for range 2 {
		a, _, err := w.Shop.Insist(ctx, key, body, nil)
		if err != nil {
			return nil, err
		}
		heard = append(heard, audit.Answer{Merchant: w.Shop.Merchant, Operation: "POST /v1/orders", Key: key, Status: a.Status, Body: a.Body})
	}
	return heard, nil
}

// settledTwice has the broker deliver the message of a settlement twice: payments
// dies after it has published the message and before it notes that, and publishes it
// again. The processor's news is held until nothing else is to be published.
func settledTwice(ctx context.Context, w *World) ([]audit.Answer, error) {
	if err := w.Shop.Misbehave(ctx, `{"rules":[{"contract":"webhooks","fault":"reorder","delay_ms":4000}]}`); err != nil {
		return nil, err
	}
	o, err := w.Shop.Checkout(ctx, shop.CardWorks, mug)
	if err != nil {
		return nil, err
	}
	err = wait.Until(ctx, 20*time.Millisecond, "the receipt of "+o.ID, func() (yes bool, err error) {
		err = w.Truth.Payments.QueryRow(ctx, `
			SELECT NOT EXISTS (SELECT FROM outbox)
			   AND EXISTS (SELECT
			                 FROM payments
			                WHERE 'ord_' || order_id = $1
			                  AND receipt_name <> ''
			                  AND settled_at IS NULL)`, o.ID).Scan(&yes)
		return yes, err
	})
	if err != nil {
		return nil, err
	}
	died, err := w.CrashAt(ctx, stack.Payments, fault.OutboxRelayAfterPublish)
	if err != nil {
		return nil, err
	}
	return nil, died(ctx)
}

// crashedAccept has orders die just before it commits an order; the client gives
// up. Another client's order is taken when it is back.
func crashedAccept(ctx context.Context, w *World) ([]audit.Answer, error) {
	token, err := w.Shop.Token(ctx, shop.CardWorks)
	if err != nil {
		return nil, err
	}
	died, err := w.CrashAt(ctx, stack.Orders, fault.OrdersAcceptBeforeCommit)
	if err != nil {
		return nil, err
	}
	if _, err := w.Shop.Place(ctx, uuid.NewString(), w.Shop.Basket(token, mug)); err == nil {
		return nil, fmt.Errorf("the order was answered, although orders was to die")
	}
	if err := died(ctx); err != nil {
		return nil, err
	}
	_, err = w.Shop.Buy(ctx, shop.CardWorks, mug)
	return nil, err
}
