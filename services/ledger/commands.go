package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/platform/money"
)

// command is the data of ledger.post-sale and ledger.reverse-sale; settle.go and
// payout.go decode their own messages.
type command struct {
	OrderID    string      `json:"order_id"`
	PaymentID  string      `json:"payment_id"`
	MerchantID string      `json:"merchant_id"`
	Amount     money.Money `json:"amount"`

	message changerecord.Message
	orderID uuid.UUID
}

// receive handles a command of the order's saga. Each may come twice, as the
// same message or as a new one with the same meaning, and in any order.
func (s *service) receive(ctx context.Context, e event.Event) error {
	switch e.Type() {
	case "ledger.settle":
		return s.settle(ctx, e)
	case "ledger.payout-sent", "ledger.payout-returned":
		return s.endPayout(ctx, e)
	}
	cmd, err := decode(e)
	if err != nil {
		return reliableretries.Permanent(err)
	}
	switch e.Type() {
	case "ledger.post-sale":
		return s.postSale(ctx, cmd)
	case "ledger.reverse-sale":
		return s.reverseSale(ctx, cmd)
	}
	return reliableretries.Permanent(fmt.Errorf("unknown type %q", e.Type()))
}

func decode(e event.Event) (command, error) {
	var cmd command
	if err := e.DataAs(&cmd); err != nil {
		return cmd, fmt.Errorf("decode %s: %w", e.Type(), err)
	}
	var err error
	if cmd.message, err = changerecord.Of(e.Source(), e.ID()); err != nil {
		return cmd, err
	}
	if cmd.orderID, err = uuid.Parse(strings.TrimPrefix(cmd.OrderID, "ord_")); err != nil {
		return cmd, fmt.Errorf("order_id: %w", err)
	}
	if err := cmd.Amount.Validate(); err != nil || cmd.Amount.Minor <= 0 || cmd.Amount.Minor > maxMinor {
		return cmd, fmt.Errorf("amount %v: must be above zero, at most %d, in a known currency", cmd.Amount, maxMinor)
	}
	if cmd.MerchantID == "" || cmd.PaymentID == "" {
		return cmd, errors.New("merchant_id and payment_id are required")
	}
	return cmd, nil
}

// The answers of a saga's participant.
const (
	done    = "done"
	refused = "refused"
)

// reply is the data of orders.saga-reply.
type reply struct {
	OrderID string `json:"order_id"`
	Step    string `json:"step"`
	Outcome string `json:"outcome"`
	Reason  string `json:"reason,omitempty"`
}

func (cmd command) reply(ctx context.Context, from outbox.Outbox, step, outcome, reason string) (outbox.Envelope, error) {
	return from.Envelope(ctx, outbox.Message{
		Type: "orders.saga-reply", Subject: cmd.OrderID,
		Data: reply{OrderID: cmd.OrderID, Step: step, Outcome: outcome, Reason: reason},
	})
}
