package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/wait"
	"example.com/failwell/shared/testenv/collector"
)

// traces receives the spans of all services of the system.
var traces = collector.Start()

// tracesOn are the variables of services that send their spans there.
func tracesOn() map[string][]string {
	env := map[string][]string{}
	for _, service := range stack.Services {
		env[service] = traces.Env()
	}
	return env
}

// placeTraced places an order whose client has a trace of its own, and returns the order
// and the trace that it became. That one is ours, and linked to the client's.
func placeTraced(ctx context.Context, t *testing.T, card string) (o shop.Order, trace string) {
	t.Helper()
	token, err := acme.Token(ctx, card)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, acme.Orders+"/v1/orders", bytes.NewReader(acme.Basket(token, mug)))
	if err != nil {
		t.Fatal(err)
	}
	clients := strings.ReplaceAll(uuid.NewString(), "-", "")
	for name, value := range map[string]string{
		"Authorization": "Bearer " + acme.Key, "Content-Type": "application/json", "Idempotency-Key": uuid.NewString(),
		"traceparent": "00-" + clients + "-00f067aa0ba902b7-01",
	} {
		request.Header.Set(name, value)
	}
	response, err := acme.HTTP.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written to it
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		t.Fatal(err)
	}
	o = decode(t, shop.Answer{Status: response.StatusCode, Body: body.Bytes()})
	await(ctx, t, "the span of the request", func() bool {
		for _, s := range traces.Spans(func(s collector.Span) bool { return slices.Contains(s.Links, clients) }) {
			trace = s.Trace
		}
		return trace != ""
	})
	if trace == clients {
		t.Error("a stranger decides which trace its request is in")
	}
	return o, trace
}

func await(ctx context.Context, t *testing.T, what string, holds func() bool) {
	t.Helper()
	if err := wait.Until(ctx, 20*time.Millisecond, what, func() (bool, error) { return holds(), nil }); err != nil {
		t.Fatal(err)
	}
}

// wayTo is the way from the root of a trace to a span, each on it as "service: name". ok is
// false while a span on it was not received.
func wayTo(spans []collector.Span, to collector.Span) (way []string, ok bool) {
	byID := map[string]collector.Span{}
	for _, s := range spans {
		byID[s.ID] = s
	}
	for s, ok := to, true; ; s, ok = byID[s.Parent] {
		if !ok {
			return way, false
		}
		way = slices.Insert(way, 0, s.Service+": "+s.Name)
		if s.Parent == "" {
			return way, true
		}
	}
}

// The way of an order through the system: each line is the parent of the next.
var orderWay = []string{
	"orders: POST /v1/orders",
	"orders: publish payments.authorise", "payments: process payments.commands", "payments: publish orders.saga-reply", "orders: process orders.replies",
	"orders: publish ledger.post-sale", "ledger: process ledger.commands", "ledger: publish orders.saga-reply", "orders: process orders.replies",
	"orders: publish payments.capture", "payments: process payments.commands", "payments: publish orders.saga-reply", "orders: process orders.replies",
	"orders: callback",
}

// One order is one trace, from its request to its merchant's callback: also when a try
// fails and the message comes again, and when the process is killed in the middle.
func TestTrace_OfAnOrderLeadsFromItsRequestToItsCallback(t *testing.T) {
	retried := slices.Insert(slices.Clone(orderWay), 3, "payments: publish payments.commands.retry.100ms", "payments: process payments.commands")
	for name, c := range map[string]struct {
		card  string
		crash bool
		way   []string
	}{
		"all goes well": {shop.CardWorks, false, orderWay},
		"a try fails":   {shop.CardFailsOnce, false, retried},
		"payments dies after the processor's yes": {shop.CardWorks, true, orderWay},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := limit(t)
			before := starts(stack.Payments)
			if c.crash {
				if err := acme.Arm(ctx, acme.Payments, fault.PaymentsAuthoriseAfterProcessor, "crash", 1); err != nil {
					t.Fatal(err)
				}
			}
			o, trace := placeTraced(ctx, t, c.card)
			if o, err := acme.Finished(ctx, o.ID); err != nil || o.Status != "confirmed" {
				t.Fatalf("order %+v, %v", o, err)
			}
			if died := starts(stack.Payments) > before; died != c.crash {
				t.Fatalf("payments has died: %v", died)
			}
			var spans []collector.Span
			var way []string
			await(ctx, t, "the callback's span, and all on the way to it", func() bool {
				spans = traces.Trace(trace)
				at := slices.IndexFunc(spans, func(s collector.Span) bool { return s.Name == "callback" && !s.Failed })
				if at < 0 {
					return false
				}
				var whole bool
				way, whole = wayTo(spans, spans[at])
				return whole
			})
			if !slices.Equal(way, c.way) {
				t.Errorf("the way to the callback:\n%s\nthe trace:\n%s", strings.Join(way, "\n"), collector.Tree(spans))
			}
			again := slices.ContainsFunc(spans, func(s collector.Span) bool { return s.Attributes["rabbitmq.redelivered"] == "true" })
			if c.crash && !again {
				t.Error("no span says that the message came again")
			}
			failed := slices.ContainsFunc(spans, func(s collector.Span) bool { return s.Failed && s.Name == "process payments.commands" })
			if failed != (c.card == shop.CardFailsOnce) {
				t.Errorf("a try has failed: %v", failed)
			}
			for _, want := range []string{"payments: HTTP POST", "payments: SELECT", "ledger: SELECT"} {
				if !slices.ContainsFunc(spans, func(s collector.Span) bool { return s.Service+": "+s.Name == want }) {
					t.Errorf("the trace has no %s:\n%s", want, collector.Tree(spans))
				}
			}
		})
	}
	allHolds(limit(t), t)
}

// The process dies with the client's request. The completer finishes the refund, in the
// trace of that request: from the key's row, for nothing else is left of it.
func TestTrace_OfARefundGoesOnInTheCompleter(t *testing.T) {
	ctx := limit(t)
	request, key := refundable(ctx, t), uuid.NewString()
	if err := acme.Arm(ctx, acme.Payments, fault.PaymentsRefundAfterProcessor, "crash", 1); err != nil {
		t.Fatal(err)
	}
	if a, err := acme.Post(ctx, request.url, key, request.body); err == nil {
		t.Fatalf("the request was answered: %d %s", a.Status, a.Body)
	}
	var stored string
	if err := truth.Payments.QueryRow(ctx, `SELECT traceparent FROM idempotency_keys WHERE key = $1`, key).Scan(&stored); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(stored, "-")
	if len(parts) != 4 {
		t.Fatalf("stored %q", stored)
	}
	find := func(name string) (collector.Span, bool) {
		spans := traces.Trace(parts[1])
		at := slices.IndexFunc(spans, func(s collector.Span) bool { return s.Service+": "+s.Name == name && !s.Failed })
		if at < 0 {
			return collector.Span{}, false
		}
		return spans[at], true
	}
	var completed, booked collector.Span
	await(ctx, t, "the completer's span and the ledger's", func() bool {
		var one, other bool
		completed, one = find("payments: complete POST /v1/refunds")
		booked, other = find("ledger: POST /v1/entries")
		return one && other
	})
	if completed.Parent != parts[2] {
		t.Errorf("the completer's parent is %s, the request is %s", completed.Parent, parts[2])
	}
	await(ctx, t, "all between the two", func() bool {
		spans := traces.Trace(parts[1])
		for s := booked; s.ID != completed.ID; {
			at := slices.IndexFunc(spans, func(parent collector.Span) bool { return parent.ID == s.Parent })
			if at < 0 {
				return false
			}
			s = spans[at]
		}
		return true
	})
	allHolds(ctx, t)
}

// Nothing but health checks may be asked without a trace, and nothing of a stranger's may
// get into one.
func TestTrace_ShowsNoSecrets(t *testing.T) {
	ctx := limit(t)
	o, trace := placeTraced(ctx, t, shop.CardWorks)
	if _, err := acme.Finished(ctx, o.ID); err != nil {
		t.Fatal(err)
	}
	await(ctx, t, "the callback's span", func() bool {
		return slices.ContainsFunc(traces.Trace(trace), func(s collector.Span) bool { return s.Name == "callback" })
	})
	for _, s := range traces.Trace(trace) {
		for _, secret := range []string{"sk_", "svc_", "whsec_", "tok_"} {
			if text := fmt.Sprint(s.Name, s.Attributes); strings.Contains(text, secret) {
				t.Errorf("%s: %s", s.Service, text)
			}
		}
	}
}
