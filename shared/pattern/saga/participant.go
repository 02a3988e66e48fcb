package saga

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/reliableretries"
)

// Command asks a participant for an action or a compensation. It is the protocol's
// part of the message; what the action needs to know is the service's own data.
type Command struct {
	SagaID  string               // which saga waits for the reply; travels as the message's subject
	Step    string               // "authorise", when the message's type is "payments.authorise"
	Message changerecord.Message // the message that brought it
}

// Reply is a participant's definite answer to a command.
type Reply struct {
	SagaID  string               `json:"-"` // travels as the message's subject
	Step    string               `json:"step"`
	Outcome Outcome              `json:"outcome"`
	Reason  string               `json:"reason,omitempty"` // of a refusal
	Message changerecord.Message `json:"-"`                // the message that brought it
}

// DecodeCommand reads a command and, into data, what the service needs to know. Its
// error is permanent: a message that is malformed stays malformed.
func DecodeCommand(e event.Event, data any) (Command, error) {
	message, err := decode(e, data)
	if err != nil {
		return Command{}, err
	}
	return Command{SagaID: e.Subject(), Step: e.Type()[strings.LastIndex(e.Type(), ".")+1:], Message: message}, nil
}

// DecodeReply reads a reply. Its error is permanent.
func DecodeReply(e event.Event) (Reply, error) {
	var r Reply
	message, err := decode(e, &r)
	if err != nil {
		return Reply{}, err
	}
	if r.Outcome != Done && r.Outcome != Refused {
		return Reply{}, reliableretries.Permanent(fmt.Errorf("outcome %q of %s is neither done nor refused", r.Outcome, r.Step))
	}
	r.SagaID, r.Message = e.Subject(), message
	return r, nil
}

func decode(e event.Event, data any) (changerecord.Message, error) {
	message, err := changerecord.Of(e.Source(), e.ID())
	if err == nil {
		err = e.DataAs(data)
	}
	if err == nil && e.Subject() == "" {
		err = errors.New("it has no subject, so no saga")
	}
	if err != nil {
		return message, reliableretries.Permanent(fmt.Errorf("decode %s: %w", e.Type(), err))
	}
	return message, nil
}

// Done answers that the step is done, now or by an earlier command.
func (c Command) Done() Reply { return Reply{SagaID: c.SagaID, Step: c.Step, Outcome: Done} }

// Refused answers that the step was not done and will not be.
func (c Command) Refused(reason string) Reply {
	return Reply{SagaID: c.SagaID, Step: c.Step, Outcome: Refused, Reason: reason}
}

// Participant is a service that carries out the commands of sagas.
type Participant struct {
	Outbox  outbox.Outbox
	ReplyTo string // the type of its replies, for instance "orders.saga-reply"

	// Write commits what fill queues: all of it or nothing.
	Write func(ctx context.Context, fill func(b *pgx.Batch)) error
}

// Answer commits in one transaction that cmd was handled, what it changed, and the
// reply. work queues the change; nil when there is none, because an earlier command
// has made it.
//
//	Power fails before the commit: the command comes again, and finds nothing changed.
//	Power fails after it: the command comes again, and its change record says that it
//	was handled. That is no error.
//
// Pattern: saga (the participant's half)
// Pattern: change-record
func (p Participant) Answer(ctx context.Context, cmd Command, reply Reply, work func(b *pgx.Batch)) error {
	message, err := p.Outbox.Envelope(ctx, outbox.Message{Type: p.ReplyTo, Subject: cmd.SagaID, Data: reply})
	if err != nil {
		return err
	}
	err = p.Write(ctx, func(b *pgx.Batch) {
		cmd.Message.Record(b)
		message.Append(b)
		if work != nil {
			work(b)
		}
	})
	if changerecord.IsDuplicate(err) {
		return nil
	}
	return err
}
