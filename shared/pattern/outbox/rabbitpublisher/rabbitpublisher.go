// Package rabbitpublisher publishes the messages of an outbox on RabbitMQ.
package rabbitpublisher

import (
	"context"
	"errors"

	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/platform/rabbit"
)

// Publisher is an outbox.Publisher. A message's type is its routing key.
type Publisher struct {
	broker    *rabbit.Conn
	publisher *rabbit.Publisher
}

// New returns a publisher on this connection.
func New(broker *rabbit.Conn) *Publisher {
	return &Publisher{broker: broker, publisher: broker.Publisher()}
}

// Ready is rabbit.Conn's.
func (p *Publisher) Ready() error { return p.broker.Ready() }

// Publish sends one pipeline. The messages are mandatory and persistent.
func (p *Publisher) Publish(ctx context.Context, messages []outbox.Envelope) ([]outbox.Outcome, error) {
	pipeline := make([]rabbit.Message, len(messages))
	for i, m := range messages {
		pipeline[i] = rabbit.Message{ID: m.ID.String(), RoutingKey: m.Type, ContentType: "application/cloudevents+json", Body: m.Body}
		if m.Traceparent != "" {
			pipeline[i].Headers = amqp.Table{"traceparent": m.Traceparent}
		}
	}
	confirmed, err := p.publisher.Publish(ctx, pipeline)

	missing := outbox.Unconfirmed
	if onlyRefused := errors.Is(err, rabbit.ErrUnroutable) || errors.Is(err, rabbit.ErrRefused); onlyRefused && !errors.Is(err, rabbit.ErrUnconfirmed) {
		missing = outbox.Refused
	}
	outcomes := make([]outbox.Outcome, len(messages))
	for i := range outcomes {
		outcomes[i] = missing
		if i < len(confirmed) && confirmed[i] {
			outcomes[i] = outbox.Confirmed
		}
	}
	return outcomes, err
}
