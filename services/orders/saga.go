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
// the saga ends undone. The capture is the pivot: money that was taken is given
// back by a refund, not by a compensation.
//
// Pattern: saga
var orderPlan = saga.Plan{
	{Action: "authorise", Compensation: "void"},
	{Action: "post-sale", Compensation: "reverse-sale"},
	{Action: "capture"},
}

// commandType says which message asks for a step, and so who receives it.
var commandType = map[string]string{
	"authorise":    "payments.authorise",
	"void":         "payments.void",
	"capture":      "payments.capture",
	"post-sale":    "ledger.post-sale",
	"reverse-sale": "ledger.reverse-sale",
}

// command is the data of every command. Each carries all that its receiver may
// need to know of the order: a void may arrive before its authorise.
type command struct {
	OrderID      string      `json:"order_id"`
	PaymentID    string      `json:"payment_id"`
	MerchantID   string      `json:"merchant_id"`
	Amount       money.Money `json:"amount"`
	PaymentToken string      `json:"payment_token,omitempty"`
}

// reply is the data of orders.saga-reply.
type reply struct {
	OrderID string       `json:"order_id"`
	Step    string       `json:"step"`
	Outcome saga.Outcome `json:"outcome"`
	Reason  string       `json:"reason"`
}

// ask composes the command for the question that state leaves open. Asked again,
// it is a new message with the same meaning: the participant knows the work by
// the payment's or order's id and answers with what it did the first time.
func (s *service) ask(ctx context.Context, o order, state saga.State) (outbox.Envelope, error) {
	step := orderPlan.Asks(state)
	data := command{OrderID: o.wireID(), PaymentID: o.wirePaymentID(), MerchantID: o.MerchantID, Amount: o.Total}
	if step == "authorise" {
		data.PaymentToken = o.PaymentToken
	}
	return s.outbox.Envelope(ctx, outbox.Message{Type: commandType[step], Subject: o.wireID(), Data: data})
}

// receive handles what other services tell.
func (s *service) receive(ctx context.Context, e event.Event) error {
	switch e.Type() {
	case "orders.saga-reply":
		return s.proceed(ctx, e)
	case "orders.receipts":
		return s.noteReceipts(ctx, e)
	}
	return reliableretries.Permanent(fmt.Errorf("unknown type %q", e.Type()))
}

// proceed handles a participant's answer. Read where the order is, decide, and
// write the next state with the next command in one transaction. Where the order is
// may be remembered instead of read; the write then finds out when that is old. An
// answer that nobody seems to wait for is dropped only after a look.
//
//	Power fails before the commit: the message comes again, everything is decided anew.
//	Power fails after it: the message comes again, and its change record says that it is done.
func (s *service) proceed(ctx context.Context, e event.Event) error {
	msg, err := changerecord.Of(e.Source(), e.ID())
	if err != nil {
		return reliableretries.Permanent(err)
	}
	var answer reply
	if err := e.DataAs(&answer); err != nil {
		return reliableretries.Permanent(fmt.Errorf("decode reply: %w", err))
	}
	if answer.Outcome != saga.Done && answer.Outcome != saga.Refused {
		return reliableretries.Permanent(fmt.Errorf("outcome %q of %s is neither done nor refused", answer.Outcome, answer.Step))
	}
	id, err := parseID(answer.OrderID)
	if err != nil {
		return reliableretries.Permanent(err)
	}

	o, row, remembered := s.memory.order(id)
	return postgres.RetryStale(ctx, func() error {
		next, ok := orderPlan.Reply(row.State, answer.Step, answer.Outcome)
		if !remembered || !ok {
			var seen bool
			o, row = order{}, saga.Row{}
			err := postgres.Read(ctx, s.db, func(b *pgx.Batch) {
				msg.Seen(b, &seen)
				saga.Load(b, id, &row)
				load(b, id, &o)
			})
			switch {
			case err != nil:
				return err
			case seen:
				return nil
			case row.Version == 0:
				return reliableretries.Permanent(fmt.Errorf("reply for an order that does not exist: %s", answer.OrderID))
			}
			if next, ok = orderPlan.Reply(row.State, answer.Step, answer.Outcome); !ok {
				return s.unexpected(o, row, answer)
			}
		}
		remembered = false // whatever fails now, the next try reads
		err = s.advance(ctx, o, row, next, answer.Reason, func(b *pgx.Batch) { msg.Record(b) })
		if changerecord.IsDuplicate(err) {
			return nil
		}
		return err
	})
}

// unexpected deals with an answer that the saga does not wait for. A late or
// repeated one is normal: messages travel at least once, in any order. A refused
// compensation is not: somebody claims that what was done cannot be undone. The
// saga stays where it is, asks again, and a person reads about it.
func (s *service) unexpected(o order, row saga.Row, answer reply) error {
	if row.State.Phase == saga.Backward && answer.Outcome == saga.Refused && answer.Step == orderPlan.Asks(row.State) {
		s.log.Error("compensation refused, the order needs a person", "order_id", o.wireID(), "step", answer.Step, "reason", answer.Reason)
		s.metrics.compensationRefused.Inc()
		return nil
	}
	s.log.Debug("late or repeated reply", "order_id", o.wireID(), "step", answer.Step, "outcome", answer.Outcome, "phase", row.State.Phase)
	return nil
}

// advance writes the next state of an order's saga and what follows from it: the
// next command, or the end. also queues what must happen in the same transaction.
// It returns postgres.ErrStale when somebody else advanced the saga meanwhile.
func (s *service) advance(ctx context.Context, o order, row saga.Row, next saga.State, reason string, also func(b *pgx.Batch)) error {
	var question outbox.Envelope
	var result outcome
	var err error
	if next.Ended() {
		result = conclude(o, row, next, reason)
		err = result.tell()
	} else {
		question, err = s.ask(ctx, o, next)
	}
	if err != nil {
		return err
	}

	if err := fault.Point(ctx, fault.OrdersSagaBeforeCommit); err != nil {
		return err
	}
	err = s.writer.Write(ctx, func(b *pgx.Batch) {
		also(b)
		saga.Advance(b, row, next, reason, saga.Patience(s.cfg.SagaPatience, askedBefore(row, next)))
		if next.Ended() {
			result.write(b)
		} else {
			question.Append(b)
		}
	})
	s.memory.forgetOrder(o.ID) // whatever became of the commit
	if saga.IsStale(err) {
		return postgres.ErrStale
	}
	if err != nil {
		return err
	}
	if !next.Ended() {
		s.memory.rememberOrder(o, row.Advanced(next, reason))
	}
	if next.Ended() {
		s.callbacks.Wake()
		s.metrics.finished.WithLabelValues(result.order.Status).Inc()
		s.log.Info("order finished", "order_id", o.wireID(), "status", result.order.Status, "reason", result.order.Reason)
	} else {
		s.relay.Wake()
	}
	return fault.Point(ctx, fault.OrdersSagaAfterCommit)
}

// askedBefore is how often the question of next was put already.
func askedBefore(row saga.Row, next saga.State) int {
	if next == row.State {
		return row.Asked
	}
	return 0
}

// overdueBatch is how many overdue orders are taken at once, and askAtOnce how many of
// them are asked for at the same time: the requests of customers need connections too.
const (
	overdueBatch = 100
	askAtOnce    = 8

	// sweepsHeld is for how many sweeps an order belongs to the replica that took it:
	// a minute, by default, for what takes a second.
	sweepsHeld = 4
)

// askAgain runs until ctx ends and puts questions again that were not answered
// in time: the command or its reply was parked, or the participant was down
// for longer than its retries last. Replicas do it side by side, each with
// other orders.
//
// Pattern: completer
func (s *service) askAgain(ctx context.Context) {
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

// sweep asks for all orders that are overdue. A batch that was full is followed by the
// next at once: a hundred every fifteen seconds are too few after an outage.
func (s *service) sweep(ctx context.Context) error {
	var after uuid.UUID
	for full := true; full && ctx.Err() == nil; {
		overdue, err := saga.Overdue(ctx, s.db, after, overdueBatch, sweepsHeld*s.cfg.SagaSweep)
		if err != nil || len(overdue) == 0 {
			return err
		}
		full, after = len(overdue) == overdueBatch, overdue[len(overdue)-1]
		var asking sync.WaitGroup
		places := make(chan struct{}, askAtOnce)
		for _, id := range overdue {
			places <- struct{}{}
			asking.Go(func() {
				defer func() { <-places }()
				if err := s.askOnce(ctx, id); err != nil && ctx.Err() == nil {
					s.log.Warn("asking again failed, will be tried at a later sweep", "order_id", order{ID: id}.wireID(), "error", err)
				}
			})
		}
		asking.Wait()
	}
	return nil
}

// askOnce puts the open question of an order again. ErrStale means that the answer
// came meanwhile.
func (s *service) askOnce(ctx context.Context, id uuid.UUID) error {
	var row saga.Row
	var o order
	err := postgres.Read(ctx, s.db, func(b *pgx.Batch) {
		saga.Load(b, id, &row)
		load(b, id, &o)
	})
	if err != nil || row.State.Ended() {
		return err
	}
	s.log.Warn("no answer in time, asking again", "order_id", o.wireID(), "step", orderPlan.Asks(row.State), "asked", row.Asked)
	s.metrics.askedAgain.Inc()
	if err := s.advance(ctx, o, row, row.State, "", func(*pgx.Batch) {}); !errors.Is(err, postgres.ErrStale) {
		return err
	}
	return nil
}
