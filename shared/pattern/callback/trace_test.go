package callback_test

import (
	"net/http"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.com/failwell/shared/testenv"
)

var spans = tracetest.NewSpanRecorder()

func TestMain(m *testing.M) {
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	testenv.Main(m)
}

// Each try is a span of the trace that the news comes from. The merchant is told nothing of
// it, and the query of its URL, which may carry a secret, is not in the span.
func TestWorker_EachTryIsASpanInTheTraceOfItsNews(t *testing.T) {
	t.Parallel()
	const traceID, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	w := newWorld(t)
	e := w.endpoint(func(n int, out http.ResponseWriter) {
		if n == 1 {
			out.WriteHeader(http.StatusBadGateway)
		}
	})
	id := w.enqueue("acme", e.url+"/hook?token=secret", "{}")
	w.exec(`UPDATE callbacks SET traceparent = '00-` + traceID + `-` + parent + `-01'`)
	w.start(w.config())
	w.becomes(id, "delivered")
	for range 2 {
		if sent := e.next().header.Get("traceparent"); sent != "" {
			t.Errorf("the merchant is sent %q", sent)
		}
	}
	var tries []sdktrace.ReadOnlySpan
	for _, s := range spans.Ended() {
		if s.SpanContext().TraceID().String() == traceID {
			tries = append(tries, s)
		}
	}
	if len(tries) != 2 {
		t.Fatalf("%d spans", len(tries))
	}
	for i, s := range tries {
		attributes := map[string]string{}
		for _, a := range s.Attributes() {
			attributes[string(a.Key)] = a.Value.String()
		}
		if s.Name() != "callback" || s.Parent().SpanID().String() != parent || (s.Status().Code == codes.Error) != (i == 0) {
			t.Errorf("try %d: %s of %s, %v", i, s.Name(), s.Parent().SpanID(), s.Status())
		}
		want := map[string]string{
			"http.request.method": "POST", "http.request.resend_count": []string{"0", "1"}[i], "server.address": "127.0.0.1", "webhook.id": "msg_" + id.String(),
		}
		if len(attributes) != len(want) {
			t.Errorf("try %d: attributes %v", i, attributes)
		}
		for name, value := range want {
			if attributes[name] != value {
				t.Errorf("try %d: %s is %q, want %q", i, name, attributes[name], value)
			}
		}
	}
}
