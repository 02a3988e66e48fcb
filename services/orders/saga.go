package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
)

// orderPlan lists the steps of an order. The stock was reserved when the order was
// accepted, in the same transaction that started the saga; it is released when
// the saga ends compensated. The capture is the pivot: after it there is no
// compensation, and money goes back only by a refund.
//
// Pattern: saga
var orderPlan = saga.Plan{
	{Participant: "payments", Action: "authorise", Compensation: "void"},
	{Participant: "ledger", Action: "post-sale", Compensation: "reverse-sale"},
	{Participant: "payments", Action: "capture"},
}

// proceed handles a participant's reply: read where the order's saga stands, decide,
// and write the next state with what follows from it in one transaction. When another
// writer has moved the saga in between, the write is refused and all starts over.
//
//	Power fails before the commit: the reply comes again, everything is decided anew.
//	Power fails after it: the reply comes again, and the saga has moved on, so the reply is ignored.
func (s *service) proceed(ctx context.Context, e event.Event) error {
	reply, err := saga.DecodeReply(e)
	if err != nil {
		return err
	}
	id, err := parseID(reply.SagaID)
	if err != nil {
		return reliableretries.Permanent(err)
	}
	err = postgres.RetryStale(ctx, func() error {
		o, row, err := s.read(ctx, id)
		switch {
		case err != nil:
			return err
		case row.Version == 0:
			return reliableretries.Permanent(fmt.Errorf("reply for an order that does not exist: %s", reply.SagaID))
		}
		next, expected := orderPlan.Next(row.State, reply.Step, reply.Outcome)
		if !expected {
			s.unexpected(ctx, o, row, reply)
			return nil
		}
		return s.advance(ctx, o, saga.Transition{From: row, To: next, Reason: reply.Reason}, &reply.Message)
	})
	if changerecord.IsDuplicate(err) {
		return nil // the same message, delivered twice at once
	}
	return err
}

// errUnknownStep means: a process with another plan has moved the order. The message is tried
// again later: another version of the service may know this step.
var errUnknownStep = errors.New("the order is at a step that this process's plan does not have")

// read reads an order and its saga. Both are empty when there is none.
func (s *service) read(ctx context.Context, id uuid.UUID) (o order, row saga.Row, err error) {
	err = postgres.Read(ctx, s.db, func(b *pgx.Batch) {
		saga.Load(b, id, &row)
		load(b, id, &o)
	})
	if err == nil && row.Version > 0 && !orderPlan.Knows(row.State) {
		err = fmt.Errorf("%w: %s", errUnknownStep, row.State.Step)
	}
	return o, row, err
}

// unexpected deals with a reply that the saga does not wait for. A late or repeated
// one is normal: messages travel at least once, in any order. A refused compensation
// is not: the participant says that what was done cannot be taken back. The saga stays at
// its step. resendOverdue sends the command again, each time later, so the same order is
// reported again until a person has dealt with it.
func (s *service) unexpected(ctx context.Context, o order, row saga.Row, reply saga.Reply) {
	if row.State.Phase == saga.Compensating && reply.Outcome == saga.Refused && reply.Step == row.State.Step {
		s.log.ErrorContext(ctx, "compensation refused, the order needs a person", "order_id", o.wireID(), "step", reply.Step, "reason", reply.Reason)
		s.metrics.compensationRefused.Inc()
		return
	}
	s.log.DebugContext(ctx, "late or repeated reply", "order_id", o.wireID(), "step", reply.Step, "outcome", reply.Outcome, "phase", row.State.Phase)
}

// advance commits a step of an order's saga: its next state, and the next command or the
// end of the order. message brought the reply that moves the saga; nil when no message does.
// The error is postgres.ErrStale when another writer has moved the saga since it was read.
//
// Pattern: saga
// Pattern: transactional-outbox (the next command)
func (s *service) advance(ctx context.Context, o order, t saga.Transition, message *changerecord.Message) error {
	if t.To.Ended() {
		return s.finish(ctx, o, t, message)
	}
	command, err := s.compose(ctx, o, t.To.Step)
	if err != nil {
		return err
	}
	if err := s.commitStep(ctx, t, message, command.Append); err != nil {
		return err
	}
	s.relay.Wake()
	return nil
}

// commitStep commits the saga's next state, and with it what follow queues.
//
// Pattern: change-record (of the reply)
func (s *service) commitStep(ctx context.Context, t saga.Transition, message *changerecord.Message, follow func(b *pgx.Batch)) error {
	err := s.commit(ctx, fault.OrdersSagaBeforeCommit, fault.OrdersSagaAfterCommit, func(b *pgx.Batch) {
		if message != nil {
			// A second layer: a saga comes to no step twice, so its state and version alone
			// refuse a repeated reply.
			message.Record(b)
		}
		saga.Advance(b, t, s.cfg.SagaStepTimeout)
		follow(b)
	})
	if saga.IsStale(err) {
		return postgres.ErrStale
	}
	return err
}
