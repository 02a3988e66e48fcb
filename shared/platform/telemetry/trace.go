package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// flushTimeout bounds how long a stop waits for the collector of the traces. Requests may
// take seven of the nine seconds that a stop has (process.Main, web.Run).
const flushTimeout = time.Second

// maxAttribute bounds an attribute, in bytes: some are a client's, its User-Agent for one. The
// longest statement fits.
const maxAttribute = 4096

// Traces sets up what becomes of this process's spans, by OpenTelemetry's own variables
// (docs/traces.md), and returns what sends the last of them at the end.
//
// Off unless OTEL_TRACES_EXPORTER or an OTLP endpoint is set. Off, the trace's id alone joins
// the log lines of all services. On, an exporter that hangs or refuses holds up nothing:
// spans wait in a queue of bounded length, and those that find it full are dropped.
func Traces(ctx context.Context, service string, log *slog.Logger) (flush func(), err error) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("spans were not sent", "error", err) }))
	if !exporting() {
		// Sampled spans would be filled with attributes, for a tenth of a busy service's time, and thrown away.
		otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())))
		return func() {}, nil
	}
	for _, name := range endpoints {
		if u, err := url.Parse(os.Getenv(name)); err != nil || u.Scheme == "" && u.String() != "" || u.Scheme != "" && u.Host == "" {
			return nil, fmt.Errorf("%s must read http://host:4318", name) // the library would take its own default instead
		}
	}
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_PROTOCOL: %w", err)
	}
	// What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say comes last and wins.
	who, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID(),
		resource.WithAttributes(semconv.ServiceName(service)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	limits := sdktrace.NewSpanLimits()
	if limits.AttributeValueLengthLimit < 0 { // and no variable says otherwise
		limits.AttributeValueLengthLimit = maxAttribute
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(validText{}), sdktrace.WithBatcher(exporter), sdktrace.WithResource(who), sdktrace.WithRawSpanLimits(limits))
	otel.SetTracerProvider(provider)
	return func() {
		// Not the context of the process: it has ended, or we would not be here.
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("the last spans were not sent", "error", err)
		}
	}, nil
}

// endpoints may name the collector.
var endpoints = []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"}

func exporting() bool {
	exporter := os.Getenv("OTEL_TRACES_EXPORTER")
	set := exporter != "" || os.Getenv(endpoints[0]) != "" || os.Getenv(endpoints[1]) != ""
	return set && exporter != "none" && os.Getenv("OTEL_SDK_DISABLED") != "true"
}

// validText makes UTF-8 of the texts that a span begins with. OTLP takes nothing else, and
// one client with a strange User-Agent would cost the whole batch that its span is in.
type validText struct{}

func (validText) OnStart(_ context.Context, span sdktrace.ReadWriteSpan) {
	span.SetName(strings.ToValidUTF8(span.Name(), "?"))
	for _, a := range span.Attributes() {
		if text := a.Value.AsString(); !utf8.ValidString(text) {
			span.SetAttributes(a.Key.String(strings.ToValidUTF8(text, "?")))
		}
	}
}
func (validText) OnEnd(sdktrace.ReadOnlySpan)      {}
func (validText) Shutdown(context.Context) error   { return nil }
func (validText) ForceFlush(context.Context) error { return nil }

// QueryTracer makes a span of each statement that belongs to a trace; the polls of the
// background belong to none. Arguments are left out: among them are tokens and secrets.
// nil when traces are off: a span would cost more than some statements do.
func QueryTracer() pgx.QueryTracer {
	if !exporting() {
		return nil
	}
	return otelpgx.NewTracer(otelpgx.WithDisableAcquireTracer(), otelpgx.WithDisableConnectionDetailsInAttributes())
}
