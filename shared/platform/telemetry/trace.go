package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Tracer gives the requests of this process their trace and span ids. The spans
// are sent nowhere: the ids alone join the log lines of all services. To see
// the spans too, hand the provider an exporter here, sdktrace.WithBatcher(…).
func Tracer() trace.Tracer {
	return sdktrace.NewTracerProvider().Tracer("example.com/failwell")
}

var w3c propagation.TraceContext

// Traceparent returns the W3C traceparent of ctx, or "" when it has no trace.
// It is stored beside a message in the outbox: the relay that sends the message
// later knows nothing of the request that wrote it.
func Traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	w3c.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// WithTraceparent returns ctx with the trace that traceparent names; a malformed
// or empty one leaves ctx as it is.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	return w3c.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
}
