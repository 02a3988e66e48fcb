package rabbit

import (
	"context"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/platform/tracing"
	"example.com/failwell/shared/platform/wait"
)

// Consumption says what to consume and how.
type Consumption struct {
	// Queue to consume from. Required.
	Queue string

	// Declare is called on every new connection, before consuming: a broker
	// that lost its disk comes back without our queues.
	Declare func(ch *amqp.Channel) error

	// Workers is how many deliveries are handled at the same time. Required.
	Workers int

	// Prefetch is how many unacknowledged deliveries the broker sends ahead.
	// It should be several times Workers, so that no worker waits for the network.
	Prefetch int

	// Handle handles one delivery and must end by acknowledging it or not; a
	// delivery that is neither is delivered again when the connection breaks. Its error is
	// for the trace only.
	Handle func(ctx context.Context, d amqp.Delivery) error

	// Consuming is told 1 when deliveries may come and 0 when none can. nil: nothing is.
	Consuming func(float64)
}

// reconsumePause keeps a consumer whose queue cannot be declared from spinning.
const reconsumePause = 500 * time.Millisecond

// Consume consumes until ctx ends, over any number of connections. When ctx
// ends it takes no new delivery and returns after those in progress are handled;
// what was only prefetched goes back to the broker.
func (c *Conn) Consume(ctx context.Context, what Consumption) {
	for ctx.Err() == nil {
		if c.consuming.wait(ctx) != nil {
			return
		}
		if err := c.consumeOnce(ctx, what); err != nil && ctx.Err() == nil {
			c.opts.Logger.Warn("consumer interrupted", "queue", what.Queue, "error", err)
			wait.For(ctx, reconsumePause)
		}
	}
}

func (c *Conn) consumeOnce(ctx context.Context, what Consumption) error {
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	defer closeWithTimeout(ch) // unacknowledged deliveries go back to the queue either way

	if err := c.DeclareExchange(ch); err != nil {
		return fmt.Errorf("declare exchange: %w", err)
	}
	if err := what.Declare(ch); err != nil {
		return fmt.Errorf("declare: %w", err)
	}
	if err := ch.Qos(what.Prefetch, 0, false); err != nil {
		return fmt.Errorf("prefetch: %w", err)
	}
	deliveries, err := ch.Consume(what.Queue, "", false, false, false, false, nil)
	if err != nil {
		return fmt.Errorf("consume: %w", err)
	}

	if what.Consuming != nil {
		what.Consuming(1)
		defer what.Consuming(0)
	}
	var workers sync.WaitGroup
	for range what.Workers {
		workers.Go(func() { work(ctx, deliveries, what) })
	}
	workers.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("the broker closed the channel")
}

func work(ctx context.Context, deliveries <-chan amqp.Delivery, what Consumption) {
	for {
		// Asked first on its own: select picks at random when both are ready,
		// and a stopping consumer must not start on what was prefetched.
		if ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case d, ok := <-deliveries:
			if !ok {
				return
			}
			// A delivery in progress is finished, not cut off, when ctx ends.
			handling, span := startProcessing(context.WithoutCancel(ctx), what.Queue, d)
			tracing.End(span, what.Handle(handling, d))
		}
	}
}

// DeclareExchange declares the exchange. Declaring what exists already is free.
func (c *Conn) DeclareExchange(ch *amqp.Channel) error {
	return ch.ExchangeDeclare(Exchange, amqp.ExchangeTopic, true, false, false, false, nil)
}
