package reliableretries_test

import (
	"context"
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/testenv"
)

// publish returns when the broker has the message safely in the queue.
func publish(ch *amqp.Channel, queue, body string, headers amqp.Table) error {
	unroutable := ch.NotifyReturn(make(chan amqp.Return, 1))
	confirm, err := ch.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{
		DeliveryMode: amqp.Persistent, Headers: headers, Body: []byte(body),
	})
	if err == nil && (!confirm.Wait() || len(unroutable) > 0) {
		err = errors.New("refused by the broker")
	}
	return err
}

var errNoSense = errors.New("it makes no sense")

// handler fails twice for a capture, always for what it does not understand, and never for a refund.
func handler(done *[]string) func(body string) error {
	captures := 0
	return func(body string) error {
		switch body {
		case "what?":
			return errNoSense
		case "capture":
			if captures++; captures < 3 {
				return errors.New("the processor does not answer")
			}
		}
		*done = append(*done, body)
		return nil
	}
}

// left is the message that waits in a queue, with its error, or "none".
func left(ch *amqp.Channel, queue string) string {
	if d, ok, err := ch.Get(queue, true); ok || err != nil {
		return fmt.Sprintf("%s (%v)", d.Body, d.Headers["error"])
	}
	return "none"
}

// The handling of the first message fails twice. The second can never be handled. The third can.
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
		case !errors.Is(err, errNoSense) && int(tries) < len(delays): // ③ later, and later each time
			err = publish(ch, fmt.Sprint("commands.retry.", delays[tries]), string(d.Body), amqp.Table{"tries": tries + 1})
		default: // ④ no retry can help, or all were made: a person looks at it, and puts it back
			err = publish(ch, "commands.dead", string(d.Body), amqp.Table{"tries": tries, "error": err.Error()})
		}
		if err != nil {
			return err // not acknowledged: the broker delivers it again when this channel ends
		}
		return d.Ack(false) // ⑤ only now: at no moment is the message in no queue
	}

	deliveries, _ := ch.ConsumeWithContext(context.Background(), "commands", "c", false, false, false, false, nil)
	for _, body := range []string{"capture", "what?", "refund"} {
		_ = publish(ch, "commands", body, nil)
	}
	for range 5 { // the capture three times, the others once
		_ = consume(<-deliveries)
	}
	fmt.Println("done:", done, "| parked:", left(ch, "commands.dead"))
	// Output:
	// done: [refund capture] | parked: what? (it makes no sense)
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
	for _, body := range []string{"capture", "what?", "refund"} {
		_ = publish(ch, "commands", body, nil)
		fmt.Println(body+":", consume(<-deliveries))
	}
	fmt.Println("done:", done, "| parked:", left(ch, "commands.dead"), "| still in the queue:", left(ch, "commands"))
	// Output:
	// capture: the processor does not answer
	// what?: it makes no sense
	// refund: <nil>
	// done: [refund] | parked: none | still in the queue: none
}
