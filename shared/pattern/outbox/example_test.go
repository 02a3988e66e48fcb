package outbox_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/outbox"
)

// The message is sealed first, then appended in the transaction of the change
// that it speaks of. In a service, postgres.Write takes place, and
// Relay.Offer(message) follows it.
func Example() {
	message, err := outbox.Source("/orders").Seal(context.Background(), outbox.Message{
		Type:    "payments.capture",
		Subject: "order-7",
		Data:    map[string]any{"order": "order-7", "amount": 4990},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	place := func(b *pgx.Batch) {
		b.Queue(`UPDATE orders SET state = 'paying' WHERE id = $1`, "order-7")
		message.Append(b)
	}

	var b pgx.Batch
	place(&b)
	fmt.Println(b.Len(), "statements, one transaction")
	// Output: 2 statements, one transaction
}
