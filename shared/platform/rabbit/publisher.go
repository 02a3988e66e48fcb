package rabbit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/platform/postgres/txmark"
)

var (
	// ErrInTransaction means: somebody tried to publish while a database transaction
	// was open. A rollback could not take the message back.
	ErrInTransaction = errors.New("rabbit: publish inside a database transaction (put the message into the outbox)")

	// ErrUnconfirmed means: the broker did not confirm in time. The message may be
	// there or not: an indefinite error, publish it again.
	ErrUnconfirmed = errors.New("rabbit: not confirmed")

	// ErrRefused means: the broker answered that it does not take the message, because
	// its queue is full, for instance; or there is no way to ask it (maxShortString). It
	// is not stored anywhere.
	ErrRefused = errors.New("rabbit: refused by the broker")

	// ErrUnroutable means: no queue is bound for the message. It is not stored anywhere.
	ErrUnroutable = errors.New("rabbit: no queue for this message")
)

// maxPipeline bounds one Publish. The buffer for returned messages has this
// size; were it smaller, the library's reader would wait for us while we wait for it.
const maxPipeline = 1000

// maxShortString bounds a routing key in AMQP. The library answers a longer one by ending
// the connection, and with it what all others have on their way.
const maxShortString = 255

// confirmTimeout is how long the broker may take to write a pipeline to its
// disks. Confirmed is durable; anything later is treated as unknown.
const confirmTimeout = 10 * time.Second

// Message is one message to publish.
type Message struct {
	ID          string // unique; the receiver's inbox goes by it
	RoutingKey  string
	ContentType string
	Body        []byte
	Headers     amqp.Table

	// Queue, when set, goes straight to that queue instead of through the exchange.
	Queue string
}

// destination is where m goes; the exchange without a name leads to the queue of that key.
func (m Message) destination() (exchange, key string) {
	if m.Queue != "" {
		return "", m.Queue
	}
	return Exchange, m.RoutingKey
}

// Publisher publishes pipelines of messages on a channel of its own. It is safe
// for concurrent use; pipelines go out one after the other.
type Publisher struct {
	conn *Conn

	mu      sync.Mutex
	ch      *amqp.Channel // nil until needed and after an error
	returns chan amqp.Return
}

// Publisher makes a publisher on this connection.
func (c *Conn) Publisher() *Publisher { return &Publisher{conn: c} }

// Publish sends msgs (at most 1,000) without waiting in between, then waits for
// all confirms. confirmed[i] is true when the broker has msgs[i] safely in a
// queue. err is nil when all are; else it says what happened to the others.
//
// Pattern: io-inside-transaction (refused here)
func (p *Publisher) Publish(ctx context.Context, msgs []Message) (confirmed []bool, err error) {
	if txmark.InTransaction(ctx) {
		return nil, ErrInTransaction
	}
	if len(msgs) > maxPipeline {
		return nil, fmt.Errorf("rabbit: %d messages in one pipeline, at most %d", len(msgs), maxPipeline)
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()

	p.mu.Lock()
	defer p.mu.Unlock()
	confirmed = make([]bool, len(msgs))
	msgs, spans := startPublishing(ctx, msgs)
	defer func() { endPublishing(spans, confirmed, err) }()
	if err := p.open(ctx); err != nil {
		return confirmed, err
	}
	confirms, err := p.send(ctx, msgs)
	if err == nil {
		err = await(ctx, p.ch, confirms, confirmed)
	}
	if err != nil {
		// Confirms of this pipeline may still arrive; a new channel makes sure
		// that they are not taken for those of the next.
		p.drop()
	}
	return confirmed, errors.Join(err, p.takeBackReturned(msgs, confirmed))
}

func (p *Publisher) open(ctx context.Context) error {
	if err := p.conn.publishing.ready(); err != nil {
		return err
	}
	if p.ch != nil && !p.ch.IsClosed() {
		return nil
	}
	ch, err := ask(ctx, p.conn.publishingChannel, closeWithTimeout)
	if err != nil {
		return err
	}
	p.ch, p.returns = ch, ch.NotifyReturn(make(chan amqp.Return, maxPipeline))
	return nil
}

// publishingChannel opens a channel in confirm mode.
func (c *Conn) publishingChannel() (*amqp.Channel, error) {
	ch, err := c.publishing.channel()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	if err := ch.Confirm(false); err != nil {
		return nil, fmt.Errorf("rabbit: confirm mode: %w", err)
	}
	// Somebody must have declared the exchange before the first publish; a
	// publisher that starts before any consumer does it itself.
	if err := c.DeclareExchange(ch); err != nil {
		return nil, fmt.Errorf("rabbit: declare exchange: %w", err)
	}
	return ch, nil
}

func (p *Publisher) drop() {
	if p.ch != nil {
		closeWithTimeout(p.ch)
	}
	p.ch = nil
}

func (p *Publisher) send(ctx context.Context, msgs []Message) ([]*amqp.DeferredConfirmation, error) {
	confirms := make([]*amqp.DeferredConfirmation, 0, len(msgs))
	for _, m := range msgs {
		exchange, key := m.destination()
		if len(key) > maxShortString {
			confirms = append(confirms, nil)
			continue
		}
		// mandatory: without it a message that no queue is bound for is
		// confirmed and thrown away.
		confirm, err := p.ch.PublishWithDeferredConfirmWithContext(ctx, exchange, key, true, false, amqp.Publishing{
			MessageId:    m.ID,
			ContentType:  m.ContentType,
			Headers:      m.Headers,
			DeliveryMode: amqp.Persistent,
			Timestamp:    time.Now(),
			Body:         m.Body,
		})
		if err != nil {
			return confirms, fmt.Errorf("%w: %w", ErrUnconfirmed, err)
		}
		confirms = append(confirms, confirm)
	}
	return confirms, nil
}

// await waits for each confirm by its own delivery tag: they may arrive out of
// order, several in one frame. When the time is over, what was confirmed behind the first
// message that was not counts all the same; it would otherwise be sent again.
func await(ctx context.Context, ch *amqp.Channel, confirms []*amqp.DeferredConfirmation, confirmed []bool) error {
	refused, unanswered := 0, 0
	for i, c := range confirms {
		if c == nil { // was not sent
			refused++
			continue
		}
		select {
		case <-c.Done():
		case <-ctx.Done():
		}
		confirmed[i] = c.Acked()
		select {
		case <-c.Done():
			switch {
			case confirmed[i]:
			case ch.IsClosed(): // the library refuses in the broker's name what was open then
				unanswered++
			default:
				refused++
			}
		default:
			unanswered++
		}
	}
	switch {
	case unanswered > 0:
		return fmt.Errorf("%w: %d of %d", ErrUnconfirmed, unanswered, len(confirms))
	case refused > 0:
		return fmt.Errorf("%w: %d of %d", ErrRefused, refused, len(confirms))
	}
	return nil
}

// takeBackReturned clears the confirmation of messages that came back: the
// broker confirms an unroutable message too. The return is sent before the
// confirm on the same channel, so it is in our buffer by now.
func (p *Publisher) takeBackReturned(msgs []Message, confirmed []bool) error {
	returned := map[string]bool{}
	for range len(p.returns) {
		returned[(<-p.returns).MessageId] = true
	}
	var err error
	for i, m := range msgs {
		if returned[m.ID] {
			confirmed[i] = false
			err = fmt.Errorf("%w: routing key %q, message %s", ErrUnroutable, m.RoutingKey+m.Queue, m.ID)
		}
	}
	return err
}
