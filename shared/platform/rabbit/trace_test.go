package rabbit_test

import (
	"context"
	"errors"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.com/failwell/shared/platform/rabbit"
	"example.com/failwell/shared/platform/tracing"
	"example.com/failwell/shared/testenv"
)

var spans = tracetest.NewSpanRecorder()

func TestMain(m *testing.M) {
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	testenv.Main(m)
}

// of are the ended spans of a trace, by name, in the order in which they ended.
func of(t *testing.T, request trace.Span) map[string][]sdktrace.ReadOnlySpan {
	t.Helper()
	byName := map[string][]sdktrace.ReadOnlySpan{}
	for _, s := range spans.Ended() {
		if s.SpanContext().TraceID() == request.SpanContext().TraceID() {
			byName[s.Name()] = append(byName[s.Name()], s)
		}
	}
	return byName
}

// The relay has the trace from the row, and nothing of it in its context. Each sending of
// a message is a child of the request, each delivery a child of its sending.
func TestTrace_LeadsThroughTheBroker(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	queue(t, conn, "q", nil)
	_, request := tracing.Tracer().Start(t.Context(), "request")
	request.End()
	stored := amqp.Table{"traceparent": tracing.Traceparent(trace.ContextWithSpan(t.Context(), request))}
	message := rabbit.Message{ID: "m-1", RoutingKey: "q", Body: []byte("{}"), Headers: stored}
	for range 2 { // the process died after the confirm: it is sent again
		if _, err := conn.Publisher().Publish(t.Context(), []rabbit.Message{message}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	handled := 0
	conn.Consume(ctx, rabbit.Consumption{
		Queue: "q", Declare: func(*amqp.Channel) error { return nil }, Workers: 1, Prefetch: 1,
		Handle: func(ctx context.Context, d amqp.Delivery) error {
			if handled++; handled == 2 {
				stop()
			}
			if trace.SpanContextFromContext(ctx).TraceID() != request.SpanContext().TraceID() {
				t.Error("the handler is in another trace")
			}
			_ = d.Ack(false)
			return errors.New("not done")
		},
	})
	got := of(t, request)
	sent, processed := got["publish q"], got["process q"]
	if len(sent) != 2 || len(processed) != 2 || handled != 2 {
		t.Fatalf("%d times sent, %d times processed", len(sent), len(processed))
	}
	for i := range sent {
		if sent[i].Parent().SpanID() != request.SpanContext().SpanID() || processed[i].Parent().SpanID() != sent[i].SpanContext().SpanID() {
			t.Errorf("%d: sent by %s, processed by %s", i, sent[i].Parent().SpanID(), processed[i].Parent().SpanID())
		}
		if sent[i].Status().Code == codes.Error || processed[i].Status().Description != "not done" {
			t.Errorf("%d: sent %v, processed %v", i, sent[i].Status(), processed[i].Status())
		}
		attributes := map[string]string{}
		for _, a := range append(sent[i].Attributes(), processed[i].Attributes()...) {
			attributes[string(a.Key)] = a.Value.String()
		}
		for name, want := range map[string]string{
			"messaging.system": "rabbitmq", "messaging.destination.name": "failwell:q",
			"messaging.rabbitmq.destination.routing_key": "q", "messaging.message.id": "m-1", "messaging.operation.type": "process",
		} {
			if attributes[name] != want {
				t.Errorf("%s is %q, want %q", name, attributes[name], want)
			}
		}
	}
	if len(stored) != 1 || stored["traceparent"] == "" {
		t.Error("the caller's headers were changed")
	}
}

func TestTrace_ShowsWhatTheBrokerRefuses(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	ctx, request := tracing.Tracer().Start(t.Context(), "request")
	defer request.End()
	if _, err := conn.Publisher().Publish(ctx, messages(1, "no-queue")); !errors.Is(err, rabbit.ErrUnroutable) {
		t.Error(err)
	}
	if sent := of(t, request)["publish no-queue"]; len(sent) != 1 || sent[0].Status().Code != codes.Error {
		t.Errorf("sent %v", sent)
	}
}
