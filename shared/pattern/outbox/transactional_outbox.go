package outbox

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

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
	// shard, and mostly keep their order.
	Subject string

	// Data is encoded as JSON.
	Data any
}

// Source is the CloudEvents source of a service, for instance "/orders". With
// the message's id it is the identity by which receivers know a duplicate.
type Source string

// Sealed is a message that is numbered and encoded, ready to be appended.
type Sealed struct {
	id                         uuid.UUID
	subject, kind, traceparent string
	body                       []byte
	row                        *int64 // the id of its row, once it was appended
}

// Seal numbers and encodes m. It happens before the transaction, so that
// nothing is left that can fail inside, and once: however often the
// transaction is tried and the message published, its id stays the same.
func (s Source) Seal(ctx context.Context, m Message) (Sealed, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Sealed{}, fmt.Errorf("outbox: message id: %w", err)
	}
	e := event.New()
	e.SetID(id.String())
	e.SetSource(string(s))
	e.SetType(m.Type)
	e.SetSubject(m.Subject)
	e.SetTime(time.Now().UTC())
	if err := e.SetData(event.ApplicationJSON, m.Data); err != nil {
		return Sealed{}, fmt.Errorf("outbox: encode %s: %w", m.Type, err)
	}
	body, err := e.MarshalJSON()
	if err != nil {
		return Sealed{}, fmt.Errorf("outbox: encode %s: %w", m.Type, err)
	}
	return Sealed{id: id, subject: m.Subject, kind: m.Type, traceparent: telemetry.Traceparent(ctx), body: body, row: new(int64)}, nil
}

// Append queues the insert of the message beside the writes that it speaks of.
//
// Pattern: transactional-outbox
func (m Sealed) Append(b *pgx.Batch) {
	*m.row = 0 // of an earlier try, which was rolled back
	b.Queue(`
		INSERT INTO outbox (shard, message_id, type, body, traceparent)
		VALUES ($1, $2, $3, $4, $5)
		RETURNING id, message_id`,
		shardOf(m.subject), m.id, m.kind, m.body, m.traceparent,
	).QueryRow(func(row pgx.Row) error {
		var rowID int64
		var messageID uuid.UUID
		err := row.Scan(&rowID, &messageID)
		if messageID == m.id { // nobody promises that many rows come back in their order
			*m.row = rowID
		}
		return err
	})
}

// AppendTx is Append for a transaction that is not a batch.
func (m Sealed) AppendTx(ctx context.Context, tx pgx.Tx) error {
	b := &pgx.Batch{}
	m.Append(b)
	return tx.SendBatch(ctx, b).Close()
}

func shardOf(subject string) int16 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(subject)) // a hash never fails to write
	return int16(h.Sum32() % Shards)
}
