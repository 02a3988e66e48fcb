package outbox_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/outbox"
)

// The message is put into its envelope first, then appended in the transaction of the
// change that it speaks of. After the commit, Relay.Wake.
func Example() {
	messages := outbox.New("/orders", "orders-1")
	capture, err := messages.Envelope(context.Background(), outbox.Message{
		Type:    "payments.capture",
		Subject: "order-7",
		Data:    map[string]any{"order": "order-7", "amount": 4990},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	var b pgx.Batch
	b.Queue(`UPDATE orders SET state = 'paying' WHERE id = $1`, "order-7")
	capture.Append(&b)
	fmt.Println(b.Len(), "statements, one transaction")
	// Output: 2 statements, one transaction
}
