package outbox

import (
	"context"
	"fmt"
	"hash/fnv"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/platform/telemetry"
)

// Shards is how many independent queues the table holds, each relayed by one
// process at a time. Changing it is safe only while the outbox is empty: the
// rows of a shard that no longer exists would wait for ever.
const Shards = 4

// Message is what a service wants to say.
type Message struct {
	// Type is the CloudEvents type and the routing key, for instance "payments.capture".
	Type string

	// Subject is what the message is about. Messages of one subject share a
	// shard and so keep their order.
	Subject string

	// Data is encoded as JSON.
	Data any
}

// Source appends messages in the name of one service. Its value is the
// CloudEvents source, for instance "/orders"; with the message's id it is the
// identity by which receivers know a duplicate.
type Source string

// Append queues the insert of m on b, beside the writes that m speaks of. The
// message is numbered here, once; however often it is published, its id stays.
//
// Pattern: transactional-outbox
func (s Source) Append(ctx context.Context, b *pgx.Batch, m Message) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("outbox: message id: %w", err)
	}
	e := event.New()
	e.SetID(id.String())
	e.SetSource(string(s))
	e.SetType(m.Type)
	e.SetSubject(m.Subject)
	if err := e.SetData(event.ApplicationJSON, m.Data); err != nil {
		return fmt.Errorf("outbox: encode %s: %w", m.Type, err)
	}
	body, err := e.MarshalJSON()
	if err != nil {
		return fmt.Errorf("outbox: encode %s: %w", m.Type, err)
	}
	b.Queue(`
		INSERT INTO outbox (shard, message_id, type, body, traceparent)
		VALUES ($1, $2, $3, $4, $5)`,
		shardOf(m.Subject), id, m.Type, body, telemetry.Traceparent(ctx))
	return nil
}

func shardOf(subject string) int16 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(subject)) // a hash never fails to write
	return int16(h.Sum32() % Shards)
}
