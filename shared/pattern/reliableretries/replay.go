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
func List(conn *rabbit.Conn, queue string, limit int) (parked []Parked, err error) {
	err = eachParked(conn, queue, limit, func(d amqp.Delivery) error {
		parked = append(parked, parkedOf(d))
		return nil
	})
	return parked, err
}

func parkedOf(d amqp.Delivery) Parked {
	p := Parked{MessageID: d.MessageId, Body: d.Body, Tries: triesOf(d)}
	p.Error, _ = d.Headers[HeaderError].(string)
	p.Since, _ = d.Headers[HeaderSince].(string)
	return p
}

// Choice says which parked messages Replay moves back.
type Choice struct {
	Limit  int               // looks at so many
	MaxAge time.Duration     // the receiver's retention of change records
	Only   func(Parked) bool // nil: all
}

// Replayed is what Replay has done.
type Replayed struct {
	Moved  int
	TooOld int // were left where they are
}

// Replay looks at parked messages and moves the chosen ones back to queue with a fresh
// count of tries. One that fails again meanwhile stays parked. A crash in between leaves a
// message in both queues; the receiver's inbox makes that harmless. The inbox forgets: what
// is older than MaxAge may have been handled, and is left.
func Replay(ctx context.Context, conn *rabbit.Conn, queue string, choice Choice) (r Replayed, err error) {
	publisher := conn.Publisher()
	err = eachParked(conn, queue, choice.Limit, func(d amqp.Delivery) error {
		if choice.Only != nil && !choice.Only(parkedOf(d)) {
			return nil
		}
		if madeAt(d).Before(time.Now().Add(-choice.MaxAge)) {
			r.TooOld++
			return nil
		}
		_, err := publisher.Publish(rabbit.WithTraceOf(ctx, d.Headers), []rabbit.Message{{
			ID: d.MessageId, ContentType: d.ContentType, Body: d.Body, Queue: queue,
		}})
		if err == nil {
			err = d.Ack(false)
		}
		if err == nil {
			r.Moved++
		}
		return err
	})
	return r, err
}

// eachParked takes up to limit parked messages, and only then looks at each: what look puts
// back may be parked again at once, and would be taken for another one. What look does not
// acknowledge is handed back at the end.
func eachParked(conn *rabbit.Conn, queue string, limit int, look func(d amqp.Delivery) error) error {
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	defer ch.Close() //nolint:errcheck // hands back what was not answered
	var taken []amqp.Delivery
	for len(taken) < limit {
		d, ok, err := ch.Get(queue+".dead", false)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		taken = append(taken, d)
	}
	for _, d := range taken {
		if err := look(d); err != nil {
			return fmt.Errorf("message %s: %w", d.MessageId, err)
		}
	}
	return ch.Nack(0, true, true) // all that were not acknowledged
}

// madeAt is when a message was made, by its UUIDv7, as the inbox goes by it; otherwise
// when handling it first failed.
func madeAt(d amqp.Delivery) time.Time {
	if id, err := uuid.Parse(d.MessageId); err == nil && id.Version() == 7 {
		return time.Unix(id.Time().UnixTime())
	}
	text, _ := d.Headers[HeaderSince].(string)
	since, _ := time.Parse(time.RFC3339, text) // zero, and so too old, when it is unknown
	return since
}
