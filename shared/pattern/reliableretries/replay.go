package reliableretries

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
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

// Replayed is what Replay has done.
type Replayed struct {
	Moved  int
	TooOld int // were left where they are
}

// Replay moves up to limit parked messages back to queue with a fresh count of tries. It
// looks at those that are parked when it begins, each once: one that fails again meanwhile
// stays parked. A crash in between leaves a message in both queues; the receiver's inbox
// makes that harmless. The inbox forgets: what is older than maxAge, which is the
// receiver's retention of change records, may have been handled, and is left.
func Replay(ctx context.Context, conn *rabbit.Conn, queue string, limit int, maxAge time.Duration) (r Replayed, err error) {
	ch, err := conn.Channel()
	if err != nil {
		return r, err
	}
	defer ch.Close() //nolint:errcheck // hands back whatever was not acknowledged
	dead, err := ch.QueueDeclarePassive(queue+".dead", true, false, false, false, nil)
	if err != nil {
		return r, fmt.Errorf("read %s.dead: %w", queue, err)
	}
	publisher := conn.Publisher()
	for range dead.Messages {
		d, ok, err := ch.Get(dead.Name, false)
		if err != nil {
			return r, fmt.Errorf("read %s: %w", dead.Name, err)
		}
		if !ok || r.Moved == limit {
			break
		}
		if madeAt(d).Before(time.Now().Add(-maxAge)) {
			r.TooOld++
			continue
		}
		headers := amqp.Table{}
		if tp, ok := d.Headers[traceparent].(string); ok {
			headers[traceparent] = truncate(tp)
		}
		_, err = publisher.Publish(ctx, []rabbit.Message{{
			ID: d.MessageId, ContentType: d.ContentType, Body: d.Body, Headers: headers, Queue: queue,
		}})
		if err != nil {
			return r, err
		}
		if err := d.Ack(false); err != nil {
			return r, fmt.Errorf("acknowledge %s: %w", d.MessageId, err)
		}
		r.Moved++
	}
	return r, nil
}

// madeAt is when a message was made, by its UUIDv7, as the inbox goes by it; otherwise
// when handling it first failed.
func madeAt(d amqp.Delivery) time.Time {
	if id, err := uuid.Parse(d.MessageId); err == nil && id.Version() == 7 {
		return time.Unix(id.Time().UnixTime())
	}
	since, _ := time.Parse(time.RFC3339, parkedFrom(d).Since) // zero, and so too old, when nobody knows
	return since
}

func parkedFrom(d amqp.Delivery) Parked {
	p := Parked{MessageID: d.MessageId, Body: d.Body, Tries: triesOf(d)}
	p.Error, _ = d.Headers[HeaderError].(string)
	p.Since, _ = d.Headers[HeaderSince].(string)
	return p
}
