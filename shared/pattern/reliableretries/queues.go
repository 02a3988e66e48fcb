package reliableretries

import (
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/platform/rabbit"
)

// noDeliveryLimit is as good as none: the consumer counts the tries, and the broker must
// not count beside it. A limit of the broker's own counts what is handed back because a
// process stops or a connection breaks, parks without an error and without a metric, and
// throws away what is in a queue that has no dead-letter queue. RabbitMQ 4 sets one of 20 where
// a queue names none; -1, none at all, is refused by 3.x.
const noDeliveryLimit = 1_000_000

// Declare declares the consumer's queues and binds the first of them to the exchange,
// which exists. All are quorum queues: a message that was confirmed is on the disks of a
// majority of the brokers.
func (c *Consumer) Declare(ch *amqp.Channel) error {
	dead := c.Queue + ".dead"
	if _, err := ch.QueueDeclare(dead, true, false, false, false, amqp.Table{
		amqp.QueueTypeArg:  amqp.QueueTypeQuorum,
		"x-delivery-limit": noDeliveryLimit,
	}); err != nil {
		return fmt.Errorf("queue %s: %w", dead, err)
	}
	for _, delay := range c.Delays {
		args := deadLetterTo(c.Queue)
		args[amqp.QueueMessageTTLArg] = delay.Milliseconds()
		if _, err := ch.QueueDeclare(retryQueue(c.Queue, delay), true, false, false, false, args); err != nil {
			return fmt.Errorf("queue %s: %w", retryQueue(c.Queue, delay), err)
		}
	}
	args := deadLetterTo(dead)
	args["x-delivery-limit"] = noDeliveryLimit
	if _, err := ch.QueueDeclare(c.Queue, true, false, false, false, args); err != nil {
		return fmt.Errorf("queue %s: %w", c.Queue, err)
	}
	for _, key := range c.Bindings {
		if err := ch.QueueBind(c.Queue, key, rabbit.Exchange, false, nil); err != nil {
			return fmt.Errorf("bind %s to %s: %w", key, c.Queue, err)
		}
	}
	return nil
}

// deadLetterTo are the arguments of a quorum queue that hands messages on to
// another queue when they expire. The default hand-over is
// at most once: the broker may drop the message on the way. At-least-once needs
// reject-publish.
func deadLetterTo(queue string) amqp.Table {
	return amqp.Table{
		amqp.QueueTypeArg:           amqp.QueueTypeQuorum,
		"x-dead-letter-exchange":    "",
		"x-dead-letter-routing-key": queue,
		"x-dead-letter-strategy":    "at-least-once",
		amqp.QueueOverflowArg:       "reject-publish",
	}
}

// retryQueue carries its delay in the name: the arguments of a queue cannot be
// changed, so another delay has to be another queue.
func retryQueue(queue string, delay time.Duration) string {
	return fmt.Sprintf("%s.retry.%s", queue, delay)
}
