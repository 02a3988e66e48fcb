package telemetry_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"example.com/failwell/shared/platform/telemetry"
	"example.com/failwell/shared/platform/tracing"
	"example.com/failwell/shared/testenv/collector"
)

// The variables are of the whole process, so these do not run side by side.

// set up traces with these variables and no others, and return the log.
func setUp(t *testing.T, variables map[string]string) (flush func(), log *bytes.Buffer) {
	t.Helper()
	for _, name := range []string{
		"OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME",
	} {
		t.Setenv(name, variables[name])
	}
	log = &bytes.Buffer{}
	logger, err := telemetry.Logger(log, "test", "warn")
	if err != nil {
		t.Fatal(err)
	}
	flush, err = telemetry.Traces(t.Context(), "orders", logger)
	if err != nil {
		t.Fatal(err)
	}
	return flush, log
}

func TestTraces_OffUnlessAskedFor(t *testing.T) {
	// Where an exporter would go by default.
	listener, err := net.Listen("tcp", "127.0.0.1:4318")
	if err != nil {
		t.Skip(err)
	}
	connected := make(chan struct{}, 1)
	go http.Serve(listener, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { connected <- struct{}{} })) //nolint:errcheck,gosec // until it is closed
	defer listener.Close()                                                                                          //nolint:errcheck // nothing is at stake
	for name, variables := range map[string]map[string]string{
		"nothing is set": {},
		"none":           {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
		"disabled":       {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
	} {
		flush, log := setUp(t, variables)
		ctx, span := tracing.Tracer().Start(t.Context(), "a request")
		if tracing.Traceparent(ctx) == "" {
			t.Errorf("%s: no id joins the log lines", name)
		}
		if span.IsRecording() {
			t.Errorf("%s: a span is filled that is sent nowhere", name)
		}
		span.End()
		flush()
		select {
		case <-connected:
			t.Errorf("%s: spans were sent", name)
		default:
		}
		if telemetry.QueryTracer() != nil || log.Len() > 0 {
			t.Errorf("%s: statements are traced, or the log says %s", name, log)
		}
	}
}

func TestTraces_AreSentAtTheLatestWhenTheProcessEnds(t *testing.T) {
	c := collector.Start()
	defer c.Close()
	flush, _ := setUp(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL})
	ctx, span := tracing.Tracer().Start(t.Context(), "a request")
	span.End()
	flush()
	id := strings.Split(tracing.Traceparent(ctx), "-")[1]
	if got := c.Trace(id); len(got) != 1 || got[0].Name != "a request" || got[0].Service != "orders" || got[0].PID == "" {
		t.Errorf("received %+v", got)
	}
	if telemetry.QueryTracer() == nil {
		t.Error("statements are not traced")
	}
}

// What a client, a merchant or a broker sends need not be text. One such span would take
// its whole batch with it.
func TestTraces_WhatIsNotUTF8CostsNoSpan(t *testing.T) {
	c := collector.Start()
	defer c.Close()
	flush, log := setUp(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL})
	const strange = "a\xff\xfeb"
	long := strings.Repeat("x", 10_000)
	_, span := tracing.Tracer().Start(t.Context(), "GET "+strange, trace.WithAttributes(semconv.UserAgentOriginal(strange), semconv.URLPath(long)))
	tracing.End(span, errors.New(strange))
	flush()
	got := c.Spans(func(collector.Span) bool { return true })
	if len(got) != 1 || got[0].Name != "GET a?b" || got[0].Attributes["user_agent.original"] != "a?b" || !got[0].Failed || log.Len() > 0 {
		t.Fatalf("received %+v, the log says %s", got, log)
	}
	if n := len(got[0].Attributes["url.path"]); n >= len(long) {
		t.Errorf("an attribute has %d bytes", n)
	}
}

func TestTraces_AWrongVariableIsNamedAtTheStart(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_TRACES_EXPORTER": "pigeon", "OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4318", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://", "OTEL_RESOURCE_ATTRIBUTES": "a",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_TRACES_EXPORTER", "console")
			t.Setenv(name, value)
			if _, err := telemetry.Traces(t.Context(), "orders", slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A collector that never answers, and one that is not there: neither holds up the work,
// nor the stop for longer than it has.
func TestTraces_ACollectorThatHangsHoldsUpNothing(t *testing.T) {
	hangs := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hangs }))
	defer hanging.Close()
	defer close(hangs)
	for name, url := range map[string]string{"hangs": hanging.URL, "refuses": "http://127.0.0.1:1"} {
		flush, log := setUp(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": url})
		begun := time.Now()
		for range 20_000 { // ten times the queue
			_, span := tracing.Tracer().Start(t.Context(), "a request")
			span.End()
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%s: the work took %s", name, took)
		}
		begun = time.Now()
		flush()
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%s: the stop took %s", name, took)
		}
		if log.Len() == 0 {
			t.Errorf("%s: nothing in the log", name)
		}
	}
}
