// Package tracing carries the trace of a request where its context cannot go: into a row
// or a message, and out again. It needs OpenTelemetry's API only. Where the spans go, if
// anywhere, is set up once for the process, by telemetry.Traces.
package tracing

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// W3C is how a trace travels: as the traceparent of the W3C. Baggage does not travel, it
// may hold anything of anybody.
var W3C propagation.TraceContext

// Tracer makes the spans that are ours.
func Tracer() trace.Tracer { return otel.Tracer("example.com/failwell") }

// Traceparent returns the traceparent of ctx, or "" when it has no trace. It is stored in
// the row of work that another process, or this one after a crash, goes on with.
func Traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	W3C.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// WithTraceparent returns ctx in the trace that traceparent names; a malformed or empty
// one leaves ctx as it is.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	return W3C.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
}

// Continue begins a span for work that a row has kept, in the trace that the row was
// written in. When ctx is of another trace, of a retry for instance, the two are linked.
// A row without a trace is from before there were any: then the span is one of ctx.
func Continue(ctx context.Context, traceparent, name string) (context.Context, trace.Span) {
	var options []trace.SpanStartOption
	of, now := WithTraceparent(ctx, traceparent), trace.SpanContextFromContext(ctx)
	if now.IsValid() && now.TraceID() != trace.SpanContextFromContext(of).TraceID() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: now}))
	}
	return Tracer().Start(of, name, options...)
}

// End ends a span. err is what its work has failed with, or nil. Some errors quote what
// another system has said, in whatever bytes; OTLP takes UTF-8.
func End(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, strings.ToValidUTF8(err.Error(), "?"))
	}
	span.End()
}
