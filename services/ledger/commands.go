package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/money"
)

// command is the data of ledger.post-sale and ledger.reverse-sale.
type command struct {
	saga.Command `json:"-"` // which saga waits, for which step

	OrderID    string      `json:"order_id"`
	PaymentID  string      `json:"payment_id"`
	MerchantID string      `json:"merchant_id"`
	Amount     money.Money `json:"amount"`

	orderID uuid.UUID
}

// receive handles the messages of the other services. Each may come twice, as the
// same message or as a new one with the same meaning, and in any order.
func (s *service) receive(ctx context.Context, e event.Event) error {
	switch e.Type() {
	case "ledger.settle":
		return s.settle(ctx, e)
	case "ledger.payout-sent", "ledger.payout-returned":
		return s.endPayout(ctx, e)
	}

	// The commands of the order's saga.
	var cmd command
	var err error
	if cmd.Command, err = saga.DecodeCommand(e, &cmd); err != nil {
		return err
	}
	if err := cmd.parse(); err != nil {
		return reliableretries.Permanent(fmt.Errorf("%s: %w", e.Type(), err))
	}
	switch e.Type() {
	case "ledger.post-sale":
		return s.postSale(ctx, cmd)
	case "ledger.reverse-sale":
		return s.reverseSale(ctx, cmd)
	}
	return reliableretries.Permanent(fmt.Errorf("unknown type %q", e.Type()))
}

func (cmd *command) parse() (err error) {
	if cmd.orderID, err = uuid.Parse(strings.TrimPrefix(cmd.OrderID, "ord_")); err != nil {
		return fmt.Errorf("order_id: %w", err)
	}
	if err := cmd.Amount.Validate(); err != nil || cmd.Amount.Minor <= 0 || cmd.Amount.Minor > maxMinor {
		return fmt.Errorf("amount %v: must be above zero, at most %d, in a known currency", cmd.Amount, maxMinor)
	}
	if cmd.MerchantID == "" || cmd.PaymentID == "" {
		return errors.New("merchant_id and payment_id are required")
	}
	return nil
}

// decodeNews reads a message that no saga waits for, into in, and checks what it is about.
// Its error is permanent.
func decodeNews(e event.Event, in any, about func() (merchant, subject string, amount money.Money)) (changerecord.Message, error) {
	message, err := changerecord.Of(e.Source(), e.ID())
	if err == nil {
		err = e.DataAs(in)
	}
	if err != nil {
		return message, reliableretries.Permanent(fmt.Errorf("decode %s: %w", e.Type(), err))
	}
	merchant, subject, amount := about()
	if amount.Validate() != nil || amount.Minor <= 0 || amount.Minor > maxMinor || merchant == "" || subject == "" {
		return message, reliableretries.Permanent(fmt.Errorf("%s of %q of %q over %v makes no sense", e.Type(), subject, merchant, amount))
	}
	return message, nil
}
