package main

import (
	"context"
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"

	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/platform/money"
)

// receive handles the messages of other services.
func (s *service) receive(ctx context.Context, e event.Event) error {
	switch e.Type() {
	case "orders.saga-reply":
		return s.proceed(ctx, e)
	case "orders.receipts":
		return s.noteReceipts(ctx, e)
	}
	return reliableretries.Permanent(fmt.Errorf("unknown type %q", e.Type()))
}

// command is the business data of every command. Each carries all that its receiver
// may need to know of the order: a void may arrive before its authorise.
type command struct {
	OrderID      string      `json:"order_id"`
	PaymentID    string      `json:"payment_id"`
	MerchantID   string      `json:"merchant_id"`
	Amount       money.Money `json:"amount"`
	PaymentToken string      `json:"payment_token,omitempty"`
}

// compose makes the command that asks for a step. Sent again, it is a new message with the
// same meaning: the participant knows the work by the payment's or order's id and replies
// with what it did the first time.
func (s *service) compose(ctx context.Context, o order, step string) (outbox.Envelope, error) {
	data := command{OrderID: o.wireID(), PaymentID: o.wirePaymentID(), MerchantID: o.MerchantID, Amount: o.Total}
	if step == "authorise" {
		data.PaymentToken = o.PaymentToken
	}
	return s.outbox.Envelope(ctx, outbox.Message{Type: orderPlan.MessageType(step), Subject: o.wireID(), Data: data})
}
