package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/postgres"
)

// orderPlan is the way of an order. The stock was reserved when the order was
// accepted, in the same transaction that started the saga; it is released when
// the saga ends compensated. The capture is the pivot: money that was taken is given
// back by a refund, not by a compensation.
//
// Pattern: saga
var orderPlan = saga.Plan{
	{Action: "authorise", Compensation: "void"},
	{Action: "post-sale", Compensation: "reverse-sale"},
	{Action: "capture"},
}

// commandType says which message carries a command, and so which service receives it.
var commandType = map[string]string{
	"authorise":    "payments.authorise",
	"void":         "payments.void",
	"capture":      "payments.capture",
	"post-sale":    "ledger.post-sale",
	"reverse-sale": "ledger.reverse-sale",
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

// nextCommand composes the command whose reply the saga waits for in state. Sent
// again, it is a new message with the same meaning: the participant knows the work by
// the payment's or order's id and replies with what it did the first time.
func (s *service) nextCommand(ctx context.Context, o order, state saga.State) (outbox.Envelope, error) {
	step := orderPlan.CurrentCommand(state)
	data := command{OrderID: o.wireID(), PaymentID: o.wirePaymentID(), MerchantID: o.MerchantID, Amount: o.Total}
	if step == "authorise" {
		data.PaymentToken = o.PaymentToken
	}
	return s.outbox.Envelope(ctx, outbox.Message{Type: commandType[step], Subject: o.wireID(), Data: data})
}

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

// proceed handles a participant's reply: read where the order's saga stands, decide,
// and write the next state with what follows from it in one transaction. When another
// writer has moved the saga in between, the write is refused and all starts over.
//
//	Power fails before the commit: the reply comes again, everything is decided anew.
//	Power fails after it: the reply comes again, and its change record says that it was handled.
func (s *service) proceed(ctx context.Context, e event.Event) error {
	reply, err := saga.DecodeReply(e)
	if err != nil {
		return err
	}
	id, err := parseID(reply.SagaID)
	if err != nil {
		return reliableretries.Permanent(err)
	}
	return postgres.RetryStale(ctx, func() error {
		var handled bool
		var row saga.Row
		var o order
		err := postgres.Read(ctx, s.db, func(b *pgx.Batch) {
			reply.Message.Seen(b, &handled)
			saga.Load(b, id, &row)
			load(b, id, &o)
		})
		switch {
		case err != nil || handled:
			return err
		case row.Version == 0:
			return reliableretries.Permanent(fmt.Errorf("reply for an order that does not exist: %s", reply.SagaID))
		}

		next, expected := orderPlan.Next(row.State, reply.Step, reply.Outcome)
		if !expected {
			return s.unexpected(o, row, reply)
		}

		err = s.advance(ctx, o, saga.Transition{From: row, To: next, Reason: reply.Reason}, reply.Message.Record)
		if changerecord.IsDuplicate(err) {
			return nil
		}
		return err
	})
}

// unexpected deals with a reply that the saga does not wait for. A late or repeated
// one is normal: messages travel at least once, in any order. A refused compensation
// is not: the participant says that what was done cannot be taken back. The saga
// stays where it is, resendOverdue sends the command again, and a person reads about it.
func (s *service) unexpected(o order, row saga.Row, reply saga.Reply) error {
	if row.State.Phase == saga.Compensating && reply.Outcome == saga.Refused && reply.Step == orderPlan.CurrentCommand(row.State) {
		s.log.Error("compensation refused, the order needs a person", "order_id", o.wireID(), "step", reply.Step, "reason", reply.Reason)
		s.metrics.compensationRefused.Inc()
		return nil
	}
	s.log.Debug("late or repeated reply", "order_id", o.wireID(), "step", reply.Step, "outcome", reply.Outcome, "phase", row.State.Phase)
	return nil
}

// advance commits the next state of an order's saga with the next command, or with the
// end of the order. beside queues what belongs into the same transaction: the change
// record of the reply; nil when it is no reply that moves the saga. The error is
// postgres.ErrStale when another writer has moved the saga since it was read.
func (s *service) advance(ctx context.Context, o order, t saga.Transition, beside func(b *pgx.Batch)) error {
	if t.To.Ended() {
		return s.finish(ctx, o, t, beside)
	}
	command, err := s.nextCommand(ctx, o, t.To)
	if err != nil {
		return err
	}
	if err := s.writeStep(ctx, t, beside, command.Append); err != nil {
		return err
	}
	s.relay.Wake()
	return nil
}

// finish commits the last state of a saga with the end of its order.
func (s *service) finish(ctx context.Context, o order, t saga.Transition, beside func(b *pgx.Batch)) error {
	result, err := conclude(o, t)
	if err != nil {
		return err
	}
	if err := s.writeStep(ctx, t, beside, result.write); err != nil {
		return err
	}
	s.callbacks.Wake()
	s.metrics.finished.WithLabelValues(result.order.Status).Inc()
	s.log.Info("order finished", "order_id", o.wireID(), "status", result.order.Status, "reason", result.order.Reason)
	return nil
}

// writeStep commits a step of a saga and what follows from it in one transaction.
func (s *service) writeStep(ctx context.Context, t saga.Transition, beside, follows func(b *pgx.Batch)) error {
	if err := fault.Point(ctx, fault.OrdersSagaBeforeCommit); err != nil {
		return err
	}
	err := s.writer.Write(ctx, func(b *pgx.Batch) {
		if beside != nil {
			beside(b)
		}
		saga.Advance(b, t, s.cfg.SagaStepTimeout)
		follows(b)
	})
	if saga.IsStale(err) {
		return postgres.ErrStale
	}
	if err != nil {
		return err
	}
	return fault.Point(ctx, fault.OrdersSagaAfterCommit)
}

const (
	// overdueBatch is how many overdue orders are claimed at once.
	overdueBatch = 100

	// resendAtOnce is how many of them are sent again at the same time: the requests
	// of customers need connections too.
	resendAtOnce = 8

	// overdueLease is for how many sweeps an order belongs to the replica that claimed
	// it: a minute, by default, for what takes a second.
	overdueLease = 4
)

// resendOverdue runs until ctx ends and sends the commands again whose reply did not
// come in time: the command or its reply was parked, or the participant was down for
// longer than its retries last. Replicas do it side by side, each with other orders.
//
// Pattern: completer
func (s *service) resendOverdue(ctx context.Context) {
	tick := time.NewTicker(s.cfg.SagaSweep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("looking for overdue orders failed, will look again", "error", err)
		}
	}
}

// sweep resends all that is overdue. A full batch is followed by the next at once: a
// hundred every fifteen seconds are too few after an outage.
func (s *service) sweep(ctx context.Context) error {
	var after uuid.UUID
	for full := true; full && ctx.Err() == nil; {
		overdue, err := saga.ClaimOverdue(ctx, s.db, after, overdueBatch, overdueLease*s.cfg.SagaSweep)
		if err != nil || len(overdue) == 0 {
			return err
		}
		full, after = len(overdue) == overdueBatch, overdue[len(overdue)-1]
		var resending sync.WaitGroup
		slots := make(chan struct{}, resendAtOnce)
		for _, id := range overdue {
			slots <- struct{}{}
			resending.Go(func() {
				defer func() { <-slots }()
				if err := s.resend(ctx, id); err != nil && ctx.Err() == nil {
					s.log.Warn("sending a command again failed, a later sweep will try", "order_id", order{ID: id}.wireID(), "error", err)
				}
			})
		}
		resending.Wait()
	}
	return nil
}

// resend sends the current command of an order's saga again: a step from its state to
// the same state. ErrStale means that the reply has come meanwhile.
func (s *service) resend(ctx context.Context, id uuid.UUID) error {
	var row saga.Row
	var o order
	err := postgres.Read(ctx, s.db, func(b *pgx.Batch) {
		saga.Load(b, id, &row)
		load(b, id, &o)
	})
	if err != nil || row.State.Ended() {
		return err
	}
	s.log.Warn("no reply in time, sending the command again", "order_id", o.wireID(), "step", orderPlan.CurrentCommand(row.State), "attempts", row.Attempts)
	s.metrics.commandsResent.Inc()
	if err := s.advance(ctx, o, saga.Transition{From: row, To: row.State}, nil); !errors.Is(err, postgres.ErrStale) {
		return err
	}
	return nil
}
