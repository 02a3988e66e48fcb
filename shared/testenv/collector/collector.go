// Package collector receives spans, as a collector of OpenTelemetry does, and keeps them to
// be looked at.
package collector

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"

	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is a span as it was received, with its ids in hexadecimal.
type Span struct {
	Trace, ID, Parent string // Parent "": none
	Links             []string
	Service, Name     string
	PID               string
	Kind              tracepb.Span_SpanKind
	Attributes        map[string]string
	Failed            bool
}

// Collector keeps what it has received.
type Collector struct {
	// URL is for OTEL_EXPORTER_OTLP_ENDPOINT.
	URL string

	server *httptest.Server
	mu     sync.Mutex
	spans  []Span
}

// Start starts one on a free port of the loopback address.
func Start() *Collector {
	c := &Collector{}
	c.server = httptest.NewServer(http.HandlerFunc(c.receive))
	c.URL = c.server.URL
	return c
}

// Close ends it.
func (c *Collector) Close() { c.server.Close() }

// Env are the variables of a service that is to send its spans here, and soon.
func (c *Collector) Env() []string {
	return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "OTEL_BSP_SCHEDULE_DELAY=100"}
}

// Spans are those that were received so far and for which keep holds.
func (c *Collector) Spans(keep func(s Span) bool) []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.spans), func(s Span) bool { return !keep(s) })
}

// Trace are the spans of a trace.
func (c *Collector) Trace(id string) []Span {
	return c.Spans(func(s Span) bool { return s.Trace == id })
}

func (c *Collector) receive(w http.ResponseWriter, r *http.Request) {
	var in collectortrace.ExportTraceServiceRequest
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(body, &in)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, fmt.Sprintf("%s: %v", r.URL.Path, err), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range in.ResourceSpans {
		resource := texts(of.GetResource().GetAttributes())
		for _, scope := range of.ScopeSpans {
			for _, s := range scope.Spans {
				c.spans = append(c.spans, span(resource, s))
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf") // an empty message: all were taken
}

func span(resource map[string]string, s *tracepb.Span) Span {
	var links []string
	for _, l := range s.Links {
		links = append(links, hex.EncodeToString(l.TraceId))
	}
	return Span{
		Trace: hex.EncodeToString(s.TraceId), ID: hex.EncodeToString(s.SpanId), Parent: hex.EncodeToString(s.ParentSpanId), Links: links,
		Service: resource["service.name"], PID: resource["process.pid"], Name: s.Name, Kind: s.Kind, Attributes: texts(s.Attributes),
		Failed: s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR,
	}
}

func texts(attributes []*commonpb.KeyValue) map[string]string {
	values := map[string]string{}
	for _, a := range attributes {
		switch v := a.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			values[a.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			values[a.Key] = fmt.Sprint(v.IntValue)
		case *commonpb.AnyValue_BoolValue:
			values[a.Key] = fmt.Sprint(v.BoolValue)
		}
	}
	return values
}

// Tree draws spans as a tree, one a line. A span whose parent was not received, because
// its process was killed before it ended, stands as a root.
func Tree(spans []Span) string {
	var text strings.Builder
	var draw func(parent, indent string)
	known := map[string]bool{}
	for _, s := range spans {
		known[s.ID] = true
	}
	draw = func(parent, indent string) {
		for _, s := range spans {
			if s.Parent == parent || parent == "" && !known[s.Parent] {
				fmt.Fprintf(&text, "%s%s: %s\n", indent, s.Service, s.Name)
				draw(s.ID, indent+"  ")
			}
		}
	}
	draw("", "")
	return text.String()
}
