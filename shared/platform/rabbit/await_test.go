package rabbit

import (
	"context"
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/testenv"
)

// Of two queues one may be slow. What was confirmed behind its messages must not be sent
// again with them.
func TestAwait_CountsWhatIsConfirmedBehindTheFirstThatIsNot(t *testing.T) {
	t.Parallel()
	conn, err := amqp.Dial(testenv.Rabbit(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a test's
	ch, err := conn.Channel()
	if err == nil {
		err = ch.Confirm(false)
	}
	if err != nil {
		t.Fatal(err)
	}
	published, err := ch.PublishWithDeferredConfirmWithContext(t.Context(), "", "no-such-queue", false, false, amqp.Publishing{})
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := published.WaitContext(t.Context()); !ok {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	slow, confirmed := &amqp.DeferredConfirmation{}, make([]bool, 3)
	err = await(ctx, ch, []*amqp.DeferredConfirmation{slow, published, published}, confirmed)
	if !errors.Is(err, ErrUnconfirmed) || confirmed[0] || !confirmed[1] || !confirmed[2] {
		t.Errorf("%v, %v", confirmed, err)
	}
}
