package reliableretries_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/platform/rabbit"
)

// A handler that fails is called again, later each time. The message is never in
// no queue, and the messages behind it go on meanwhile.
func Example() {
	broker, done := exampleBroker()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	tries := 0
	consumer := reliableretries.NewConsumer(reliableretries.Config{
		Conn: broker, Queue: "example.commands", Bindings: []string{"work"}, Workers: 1,
		Delays: []time.Duration{20 * time.Millisecond, 40 * time.Millisecond, 80 * time.Millisecond},
		Logger: slog.New(slog.DiscardHandler),
		Handle: func(context.Context, event.Event) error {
			if tries++; tries < 3 {
				fmt.Println("try", tries, "fails")
				return errors.New("the processor does not answer")
			}
			fmt.Println("try", tries, "succeeds")
			stop()
			return nil
		},
	})

	// The queue is there before anything is published, as in a running system.
	ch, err := broker.Channel()
	if err == nil {
		err = errors.Join(broker.DeclareExchange(ch), consumer.Declare(ch))
	}
	if err == nil {
		_, err = broker.Publisher().Publish(ctx, []rabbit.Message{message("msg-1")})
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	consumer.Run(ctx)
	// Output:
	// try 1 fails
	// try 2 fails
	// try 3 succeeds
}
