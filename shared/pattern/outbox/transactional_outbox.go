package outbox

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/platform/tracing"
)

// Schema creates the table of the outbox. Copy it into a migration.
//
//go:embed schema.sql
var Schema string

// Outbox is what a process writes its messages into.
type Outbox struct {
	source string
	writer string
}

// New returns the outbox of a process.
//
// source is the CloudEvents source of the service, for instance "/orders". With the
// message's id it is the identity by which receivers know a duplicate. writer names the
// process: another name for each replica, the same after a restart.
func New(source, writer string) Outbox { return Outbox{source: source, writer: writer} }

// Message is what a service wants to say.
type Message struct {
	// Type is the CloudEvents type and the routing key, for instance "payments.capture": at
	// most 255 bytes.
	Type string

	// Subject is what the message is about, for instance the id of an order.
	Subject string

	// Data is encoded as JSON. With its envelope it has at most a megabyte.
	Data any
}

// Envelope is a message that is numbered and encoded: what the outbox holds and the
// broker gets.
type Envelope struct {
	ID          uuid.UUID
	Type        string
	Body        []byte // a CloudEvent in structured JSON
	Traceparent string // W3C trace context of the request that wrote it, or ""

	writer string
	row    int64 // the id of its row, when it was read from there
}

// What the broker takes: a routing key has 255 bytes. RabbitMQ takes larger bodies, but
// who needs them stores the document and sends its name. A message that the broker can
// never take would be in the way of all others.
const (
	maxType = 255
	maxBody = 1 << 20
)

// Envelope numbers and encodes m. It comes before the transaction, so that nothing is
// left that can fail inside, and once: however often the transaction is tried and the
// message published, its id stays the same.
func (o Outbox) Envelope(ctx context.Context, m Message) (Envelope, error) {
	id := uuid.Must(uuid.NewV7())
	e := event.New()
	e.SetID(id.String())
	e.SetSource(o.source)
	e.SetType(m.Type)
	e.SetSubject(m.Subject)
	e.SetTime(time.Now().UTC())
	if err := e.SetData(event.ApplicationJSON, m.Data); err != nil {
		return Envelope{}, fmt.Errorf("outbox: encode %s: %w", m.Type, err)
	}
	body, err := e.MarshalJSON()
	if err != nil {
		return Envelope{}, fmt.Errorf("outbox: encode %s: %w", m.Type, err)
	}
	if len(m.Type) > maxType || len(body) > maxBody {
		return Envelope{}, fmt.Errorf("outbox: a message of %d bytes with a type of %d: at most %d and %d", len(body), len(m.Type), maxBody, maxType)
	}
	// The trace travels in the row: the relay knows nothing of the request.
	return Envelope{ID: id, Type: m.Type, Body: body, Traceparent: tracing.Traceparent(ctx), writer: o.writer}, nil
}

// Append queues the insert of the message beside the writes that it speaks of.
//
// Pattern: transactional-outbox
func (e Envelope) Append(b *pgx.Batch) {
	b.Queue(`
		INSERT INTO outbox (writer, message_id, type, body, traceparent)
		VALUES ($1, $2, $3, $4, $5)`,
		e.writer, e.ID, e.Type, e.Body, e.Traceparent)
}

// AppendTx is Append for a transaction that is not a batch.
func (e Envelope) AppendTx(ctx context.Context, tx pgx.Tx) error {
	b := &pgx.Batch{}
	e.Append(b)
	return tx.SendBatch(ctx, b).Close()
}
