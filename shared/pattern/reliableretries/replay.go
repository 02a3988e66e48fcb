package reliableretries

import (
	"context"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/platform/rabbit"
)

// Parked is a message in a dead-letter queue.
type Parked struct {
	MessageID string
	Body      []byte
	Tries     int
	Error     string
	Since     string
}

// List returns up to limit messages of queue's dead-letter queue and leaves
// them there. Their order may change.
func List(conn *rabbit.Conn, queue string, limit int) ([]Parked, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	defer ch.Close() //nolint:errcheck // hands back whatever was not acknowledged
	var parked []Parked
	var last uint64
	for len(parked) < limit {
		d, ok, err := ch.Get(queue+".dead", false)
		if err != nil {
			return nil, fmt.Errorf("read %s.dead: %w", queue, err)
		}
		if !ok {
			break
		}
		last = d.DeliveryTag
		parked = append(parked, parkedFrom(d))
	}
	if last == 0 {
		return nil, nil
	}
	return parked, ch.Nack(last, true, true)
}

// Replay moves up to limit parked messages back to queue with a fresh count of
// tries, and returns how many. A crash in between leaves a message in both
// queues; the receiver's inbox makes that harmless.
func Replay(ctx context.Context, conn *rabbit.Conn, queue string, limit int) (int, error) {
	ch, err := conn.Channel()
	if err != nil {
		return 0, err
	}
	defer ch.Close() //nolint:errcheck // hands back whatever was not acknowledged
	publisher := conn.Publisher()
	moved := 0
	for moved < limit {
		d, ok, err := ch.Get(queue+".dead", false)
		if err != nil {
			return moved, fmt.Errorf("read %s.dead: %w", queue, err)
		}
		if !ok {
			break
		}
		headers := amqp.Table{}
		if tp, ok := d.Headers[traceparent]; ok {
			headers[traceparent] = tp
		}
		_, err = publisher.Publish(ctx, []rabbit.Message{{
			ID: d.MessageId, ContentType: d.ContentType, Body: d.Body, Headers: headers, Queue: queue,
		}})
		if err != nil {
			return moved, err
		}
		if err := d.Ack(false); err != nil {
			return moved, fmt.Errorf("acknowledge %s: %w", d.MessageId, err)
		}
		moved++
	}
	return moved, nil
}

func parkedFrom(d amqp.Delivery) Parked {
	p := Parked{MessageID: d.MessageId, Body: d.Body, Tries: triesOf(d)}
	p.Error, _ = d.Headers[HeaderError].(string)
	p.Since, _ = d.Headers[HeaderSince].(string)
	return p
}
