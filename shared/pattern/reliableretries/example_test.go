package reliableretries_test

import (
	"context"
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/testenv"
)

// publish returns when the broker has the message safely in the queue.
func publish(ch *amqp.Channel, queue, body string, tries int32) error {
	unroutable := ch.NotifyReturn(make(chan amqp.Return, 1))
	confirm, err := ch.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{
		DeliveryMode: amqp.Persistent, Headers: amqp.Table{"tries": tries}, Body: []byte(body),
	})
	if err == nil && (!confirm.Wait() || len(unroutable) > 0) {
		err = errors.New("refused by the broker")
	}
	return err
}

// handler fails twice for a capture, and always for what it does not understand.
func handler(done *[]string) func(body string) error {
	tries := 0
	return func(body string) error {
		if tries++; body != "capture" || tries < 3 {
			return errors.New("the processor does not answer")
		}
		*done = append(*done, body)
		return nil
	}
}

// left is the message that waits in a queue, or "none".
func left(ch *amqp.Channel, queue string) string {
	if d, ok, err := ch.Get(queue, true); ok || err != nil {
		return string(d.Body)
	}
	return "none"
}

// The handling of one message fails twice. Another message can never be handled.
//
// Pattern: reliable-retries
func Example() {
	channel, stop := testenv.ExampleRabbit("commands", "commands.dead")
	defer stop()
	ch := channel()
	delays := []int32{20, 40, 80} // milliseconds; in a real system up to hours
	for _, delay := range delays {
		// ① A queue for each delay, without a consumer. What was in it for so long goes back to the first queue.
		_, err := ch.QueueDeclare(fmt.Sprint("commands.retry.", delay), true, false, false, false, amqp.Table{
			"x-queue-type": "quorum", "x-message-ttl": delay, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "commands",
			"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
		})
		if err != nil {
			panic(err)
		}
	}
	var done []string
	handle := handler(&done)

	consume := func(d amqp.Delivery) error {
		tries, _ := d.Headers["tries"].(int32) // ② counted in the message
		err := handle(string(d.Body))
		switch {
		case err == nil:
		case int(tries) < len(delays):
			err = publish(ch, fmt.Sprint("commands.retry.", delays[tries]), string(d.Body), tries+1) // ③ later, and later each time
		default:
			err = publish(ch, "commands.dead", string(d.Body), tries) // ④ a person looks at it, and puts it back
		}
		if err != nil {
			return err // not acknowledged: the broker delivers it again
		}
		return d.Ack(false) // ⑤ only now: at no moment is the message in no queue
	}

	deliveries, _ := ch.ConsumeWithContext(context.Background(), "commands", "c", false, false, false, false, nil)
	_ = publish(ch, "commands", "capture", 0)
	for range 3 {
		_ = consume(<-deliveries)
	}
	_ = publish(ch, "commands", "what?", 0)
	for range 4 {
		_ = consume(<-deliveries)
	}
	fmt.Println("done:", done, "| parked:", left(ch, "commands.dead"))
	// Output:
	// done: [capture] | parked: what?
}

// What was delivered is acknowledged, whatever became of it.
//
// Pattern: reliable-retries
func Example_without() {
	channel, stop := testenv.ExampleRabbit("commands", "commands.dead")
	defer stop()
	ch := channel()
	var done []string
	handle := handler(&done)

	consume := func(d amqp.Delivery) error {
		err := handle(string(d.Body))
		return errors.Join(err, d.Ack(false))
	}

	deliveries, _ := ch.ConsumeWithContext(context.Background(), "commands", "c", false, false, false, false, nil)
	_ = publish(ch, "commands", "capture", 0)
	fmt.Println(consume(<-deliveries))
	_ = publish(ch, "commands", "what?", 0)
	fmt.Println(consume(<-deliveries))
	fmt.Println("done:", done, "| parked:", left(ch, "commands.dead"), "| still in the queue:", left(ch, "commands"))
	// Output:
	// the processor does not answer
	// the processor does not answer
	// done: [] | parked: none | still in the queue: none
}
