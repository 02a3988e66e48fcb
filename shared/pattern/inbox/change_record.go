package inbox

import (
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/platform/postgres"
)

// Message is the identity of a received message.
type Message struct {
	Source string
	ID     uuid.UUID
}

// Of reads the identity of e. Senders of ours number messages with UUIDs.
func Of(e event.Event) (Message, error) {
	id, err := uuid.Parse(e.ID())
	if err != nil {
		return Message{}, fmt.Errorf("inbox: message id %q: %w", e.ID(), err)
	}
	return Message{Source: e.Source(), ID: id}, nil
}

// Record queues the change record of m. Queue it first: two deliveries at once
// then meet here, and the second waits for the first before it touches
// anything else. When the message has made its change already, the whole batch
// fails; see IsDuplicate.
//
// Pattern: change-record
func (m Message) Record(b *pgx.Batch) {
	b.Queue(`
		INSERT INTO inbox (source, message_id)
		VALUES ($1, $2)`,
		m.Source, m.ID)
}

// Seen queues a read of whether m has made its change. It saves the work of a
// duplicate; it cannot replace Record, because the answer may be old by then.
func (m Message) Seen(b *pgx.Batch, seen *bool) {
	b.Queue(`
		SELECT EXISTS (
			SELECT FROM inbox
			 WHERE source = $1
			   AND message_id = $2)`,
		m.Source, m.ID,
	).QueryRow(func(row pgx.Row) error { return row.Scan(seen) })
}

// IsDuplicate tells whether a batch failed because the message has made its
// change before. That is a success: acknowledge.
func IsDuplicate(err error) bool {
	return postgres.Violates(err, "inbox_pkey")
}
