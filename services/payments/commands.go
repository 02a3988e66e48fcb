package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/money"
)

// command is the data of payments.authorise, payments.capture and payments.void.
type command struct {
	saga.Command `json:"-"` // which saga waits, for which step

	OrderID      string      `json:"order_id"`
	PaymentID    string      `json:"payment_id"`
	MerchantID   string      `json:"merchant_id"`
	Amount       money.Money `json:"amount"`
	PaymentToken string      `json:"payment_token"`

	orderID   uuid.UUID
	paymentID uuid.UUID
}

// receive handles a command of the order's saga. Each of them may come twice, as
// the same message or as a new one with the same meaning, and in any order.
//
// An error means that the outcome is not known yet; the message comes again
// later. A reply is sent only when it is definite.
func (s *service) receive(ctx context.Context, e event.Event) error {
	var cmd command
	var err error
	if cmd.Command, err = saga.DecodeCommand(e, &cmd); err != nil {
		return err
	}
	if err := cmd.parse(); err != nil {
		return reliableretries.Permanent(fmt.Errorf("%s: %w", e.Type(), err))
	}
	do := map[string]func(context.Context, command) error{
		"payments.authorise": s.authorise, "payments.capture": s.capture, "payments.void": s.void,
	}[e.Type()]
	if do == nil {
		return reliableretries.Permanent(fmt.Errorf("unknown type %q", e.Type()))
	}
	err = do(ctx, cmd)
	if errors.Is(err, errContradiction) {
		s.personMustLook(ctx, e.Type(), cmd.PaymentID, err)
	}
	return err
}

func (cmd *command) parse() (err error) {
	if cmd.orderID, err = uuid.Parse(strings.TrimPrefix(cmd.OrderID, "ord_")); err != nil {
		return fmt.Errorf("order_id: %w", err)
	}
	if cmd.paymentID, err = uuid.Parse(strings.TrimPrefix(cmd.PaymentID, "pay_")); err != nil {
		return fmt.Errorf("payment_id: %w", err)
	}
	if err := cmd.Amount.Validate(); err != nil || cmd.Amount.Minor <= 0 {
		return fmt.Errorf("amount %v: must be above zero in a known currency", cmd.Amount)
	}
	return nil
}

// answer commits what a command has led to: its work, nil when that was done before, and the
// reply. See saga.Participant.
//
// Pattern: saga (a participant)
// Pattern: change-record (of the command)
// Pattern: transactional-outbox (the reply)
func (s *service) answer(ctx context.Context, cmd command, reply saga.Reply, work func(b *pgx.Batch)) error {
	p := saga.Participant{Outbox: s.outbox, ReplyTo: "orders.saga-reply", Write: s.writer.Write}
	err := p.Answer(ctx, cmd.Command, reply, work)
	if err == nil {
		s.relay.Wake()
	}
	return err
}
