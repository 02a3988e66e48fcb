package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"

	"example.com/failwell/scripts/stack"
)

// traces measures what it costs completed orders that the services send their spans to a
// collector, in turn with a second system that sends none. The collector throws them away:
// what one does with them is not our cost, and it would do it on the same cores.
func (b *bench) traces(ctx context.Context) error {
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer sink.Close()
	env := map[string][]string{}
	for _, name := range stack.Services {
		env[name] = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + sink.URL}
	}
	traced, err := b.second(ctx, stack.Options{Env: env})
	if err != nil {
		return err
	}
	defer traced.Close()
	n := 1500
	if b.Quick {
		n = 500
	}
	spent := map[*bench]cost{}
	completed := func(of *bench) func() (sample, error) {
		return func() (sample, error) {
			s, used, err := of.orders(ctx, n)
			spent[of] = spent[of].plus(used, 1)
			return s, err
		}
	}
	for _, of := range []*bench{b, traced} { // warm
		if _, _, err := of.orders(ctx, n/5); err != nil {
			return err
		}
	}
	_, err = b.against("order, accepted to confirmed, with traces", "orders/s",
		contender{"", 0, completed(traced)}, contender{"the same without traces", 0, completed(b)})
	ofServices := func(of *bench) (milliseconds float64) {
		for _, name := range stack.Services {
			milliseconds += spent[of][processorOf+name] / float64(n*b.rounds)
		}
		return milliseconds
	}
	b.report.note("An order costs the three services %.1f ms of processor time with traces, %.1f ms without.", ofServices(traced), ofServices(b))
	return err
}
