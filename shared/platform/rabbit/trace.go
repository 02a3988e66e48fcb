package rabbit

import (
	"context"
	"maps"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"example.com/failwell/shared/platform/tracing"
)

// headerTrace is the header in which a message carries its trace.
const headerTrace = "traceparent"

// startPublishing begins a span for each message, in the trace that the message comes
// with: the relay that sends a message knows nothing of the request that wrote it. A
// message without one belongs to ctx. Each message leaves with the name of its span in its
// header, which is the receiver's parent. It returns copies: the caller may send its own
// again, and each sending has a span of its own.
func startPublishing(ctx context.Context, msgs []Message) ([]Message, []trace.Span) {
	msgs = slices.Clone(msgs)
	spans := make([]trace.Span, len(msgs))
	for i, m := range msgs {
		exchange, key := m.destination()
		of, span := tracing.Tracer().Start(WithTraceOf(ctx, m.Headers), "publish "+key,
			trace.WithSpanKind(trace.SpanKindProducer),
			trace.WithAttributes(
				semconv.MessagingSystemRabbitMQ,
				semconv.MessagingOperationTypeSend,
				semconv.MessagingOperationName("publish"),
				semconv.MessagingDestinationName(destinationName(exchange, key)),
				semconv.MessagingRabbitMQDestinationRoutingKey(key),
				semconv.MessagingMessageID(m.ID),
				semconv.MessagingMessageBodySize(len(m.Body))))
		headers := amqp.Table{}
		maps.Copy(headers, m.Headers)
		headers[headerTrace] = tracing.Traceparent(of)
		msgs[i].Headers, spans[i] = headers, span
	}
	return msgs, spans
}

// endPublishing ends the spans when the broker has answered. err is of those that it has
// not confirmed.
func endPublishing(spans []trace.Span, confirmed []bool, err error) {
	for i, span := range spans {
		if confirmed[i] {
			tracing.End(span, nil)
		} else {
			tracing.End(span, err)
		}
	}
}

// startProcessing begins the span of a delivery, as a child of the span that published the
// message. A link, as the conventions have it, is for batches, which have many parents.
func startProcessing(ctx context.Context, queue string, d amqp.Delivery) (context.Context, trace.Span) {
	attributes := []attribute.KeyValue{
		semconv.MessagingSystemRabbitMQ,
		semconv.MessagingOperationTypeProcess,
		semconv.MessagingOperationName("process"),
		semconv.MessagingDestinationName(destinationName(d.Exchange, d.RoutingKey, queue)),
		semconv.MessagingRabbitMQDestinationRoutingKey(d.RoutingKey),
		semconv.MessagingRabbitMQMessageDeliveryTag(int(d.DeliveryTag)), //nolint:gosec // counts deliveries of a channel
		semconv.MessagingMessageID(d.MessageId),
		semconv.MessagingMessageBodySize(len(d.Body)),
		attribute.Bool("rabbitmq.redelivered", d.Redelivered),
	}
	return tracing.Tracer().Start(WithTraceOf(ctx, d.Headers), "process "+queue,
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attributes...))
}

// WithTraceOf returns ctx in the trace that a message carries, if it does.
func WithTraceOf(ctx context.Context, headers amqp.Table) context.Context {
	traceparent, _ := headers[headerTrace].(string) // a stranger may have written something else
	return tracing.WithTraceparent(ctx, traceparent)
}

// destinationName is how the conventions name a place in RabbitMQ: exchange, routing key
// and, for a consumer, queue. What is empty or said already is left out.
func destinationName(parts ...string) string {
	return strings.Trim(strings.Join(slices.Compact(parts), ":"), ":")
}
