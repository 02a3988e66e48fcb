package tracing_test

import (
	"context"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.com/failwell/shared/platform/tracing"
)

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent = "00-" + traceID + "-00f067aa0ba902b7-01"
)

var recorder = tracetest.NewSpanRecorder()

func TestMain(m *testing.M) {
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)))
	m.Run()
}

func TestTraceparent_SurvivesARowOrAMessage(t *testing.T) {
	t.Parallel()
	stored := tracing.Traceparent(tracing.WithTraceparent(t.Context(), traceparent))
	if stored != traceparent {
		t.Errorf("got %q", stored)
	}
	ctx, span := tracing.Tracer().Start(tracing.WithTraceparent(t.Context(), stored), "consume")
	defer span.End()
	if got := tracing.Traceparent(ctx); !strings.Contains(got, traceID) || got == stored {
		t.Errorf("got %q, want the same trace and a span of its own", got)
	}
}

func TestTraceparent_MalformedIsNoTraceAndNoError(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "nonsense", "00-0-0-01", "00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01", traceparent + "\nx: y", strings.Repeat("f", 1<<16)} {
		ctx := tracing.WithTraceparent(context.Background(), bad)
		if got := tracing.Traceparent(ctx); got != "" {
			t.Errorf("%.80q became %q", bad, got)
		}
	}
}

func TestTracer_StartsATraceWhenTheClientSendsNone(t *testing.T) {
	t.Parallel()
	tracer := tracing.Tracer()
	one, first := tracer.Start(t.Context(), "one")
	defer first.End()
	two, second := tracer.Start(t.Context(), "two")
	defer second.End()
	if a, b := tracing.Traceparent(one), tracing.Traceparent(two); a == "" || a == b {
		t.Errorf("got %q and %q", a, b)
	}
}

// ended is the record of a span that has ended.
func ended(t *testing.T, span trace.Span) sdktrace.ReadOnlySpan {
	t.Helper()
	for _, s := range recorder.Ended() {
		if s.SpanContext().Equal(span.SpanContext()) {
			return s
		}
	}
	t.Fatal("the span has not ended")
	return nil
}

// Work that a row has kept is gone on with by a job, which has no trace of its own, or by
// a second request, which has another one.
func TestContinue_StaysInTheTraceOfTheRow(t *testing.T) {
	t.Parallel()
	second, of := tracing.Tracer().Start(t.Context(), "second request")
	defer of.End()
	for name, ctx := range map[string]context.Context{"a job": t.Context(), "a second request": second} {
		_, span := tracing.Continue(ctx, traceparent, "go on")
		span.End()
		s := ended(t, span)
		if s.SpanContext().TraceID().String() != traceID || s.Parent().SpanID().String() != "00f067aa0ba902b7" {
			t.Errorf("%s: trace %s, parent %s", name, s.SpanContext().TraceID(), s.Parent().SpanID())
		}
		linked := len(s.Links()) == 1 && s.Links()[0].SpanContext.Equal(of.SpanContext())
		if want := name == "a second request"; linked != want || len(s.Links()) > 1 {
			t.Errorf("%s: links %v", name, s.Links())
		}
	}
}

// The row is of an older version, which has written no trace.
func TestContinue_ARowWithoutATraceIsWorkOfTheContext(t *testing.T) {
	t.Parallel()
	ctx, parent := tracing.Tracer().Start(t.Context(), "request")
	defer parent.End()
	_, span := tracing.Continue(ctx, "", "go on")
	span.End()
	if s := ended(t, span); s.Parent().SpanID() != parent.SpanContext().SpanID() || len(s.Links()) > 0 {
		t.Errorf("parent %s, links %v", s.Parent().SpanID(), s.Links())
	}
	if _, span := tracing.Continue(t.Context(), "", "go on"); !span.SpanContext().IsValid() {
		t.Error("a job has no trace")
	}
}
