package reliableretries

import (
	"context"
	"time"

	"example.com/failwell/shared/platform/wait"
)

// observeEvery is how often to ask the broker how many messages lie in the queues: it
// knows the numbers, and a question costs it nothing that grows with them.
const observeEvery = 2 * time.Second

// observe shows what lies in the consumer's queues, until ctx ends. While the broker does
// not answer, the last numbers stay: that a message is parked does not end with an outage.
func (c *Consumer) observe(ctx context.Context) {
	for {
		if counts, err := c.count(); err == nil {
			for state, n := range counts {
				c.messages.WithLabelValues(c.Queue, state).Set(float64(n))
			}
		}
		if !wait.For(ctx, observeEvery) {
			return
		}
	}
}

// count asks on a channel of its own: a queue that is not there yet ends it.
func (c *Consumer) count() (counts map[string]int, err error) {
	ch, err := c.Conn.Channel()
	if err != nil {
		return nil, err
	}
	defer ch.Close() //nolint:errcheck // nothing is at stake
	counts = map[string]int{}
	ask := func(state, queue string) {
		if err == nil {
			q, asked := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
			counts[state], err = counts[state]+q.Messages, asked
		}
	}
	ask("waiting", c.Queue)
	ask("parked", c.Queue+".dead")
	for _, delay := range c.Delays {
		ask("delayed", retryQueue(c.Queue, delay))
	}
	return counts, err
}
