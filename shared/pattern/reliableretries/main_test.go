package reliableretries_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"example.com/failwell/shared/platform/rabbit"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func connect(tb testing.TB) *rabbit.Conn {
	tb.Helper()
	conn := rabbit.Dial(rabbit.Options{URL: testenv.Rabbit(tb), Name: "test", Logger: slog.New(slog.DiscardHandler)})
	tb.Cleanup(conn.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := conn.Wait(ctx); err != nil {
		tb.Fatal(err)
	}
	return conn
}

// message is a valid event of type "work".
func message(id string) rabbit.Message {
	e := event.New()
	e.SetID(id)
	e.SetSource("/tests")
	e.SetType("work")
	body, err := e.MarshalJSON()
	if err != nil {
		panic(err)
	}
	return rabbit.Message{ID: id, RoutingKey: "work", ContentType: event.ApplicationCloudEventsJSON, Body: body}
}
