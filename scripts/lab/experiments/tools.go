package experiments

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

// What experiments need of the world. Each of these panics with broken when the
// machinery fails, so that a story is not interrupted by its stage hands.

var mug = shop.Item{SKU: "mug", Quantity: 1} // 12.50

// exec runs SQL in the naive database.
func (w *World) exec(ctx context.Context, sql string, args ...any) {
	_, err := w.Naive.Exec(ctx, sql, args...)
	must(err)
}

// number reads one number from the naive database.
func (w *World) number(ctx context.Context, sql string) int {
	var n int
	must(w.Naive.QueryRow(ctx, sql).Scan(&n))
	return n
}

// misbehave sets the rules of the outside world: [{"contract":…,"fault":…,"times":…}].
func (w *World) misbehave(ctx context.Context, rules string) {
	must(w.Shop.Misbehave(ctx, `{"rules":`+rules+`}`))
}

// crashAt arms a SIGKILL at a fault point of a service, and returns a function
// that waits until the service has died there and been started again.
func (w *World) crashAt(ctx context.Context, service, point string) (died func()) {
	before, _ := w.System.Starts(service)
	must(w.Shop.Arm(ctx, w.System.URL[service], point, "crash", 1))
	return func() {
		await(ctx, "the death of "+service+" at "+point, func() bool { now, _ := w.System.Starts(service); return now > before })
		await(ctx, service+" to be ready", func() bool { return w.ready(ctx, service) })
	}
}

func (w *World) ready(ctx context.Context, service string) bool {
	a, err := w.Shop.Get(ctx, w.System.URL[service]+"/readyz")
	return err == nil && a.Status == http.StatusOK
}

// await polls until holds, or fails with what it was waiting for.
func await(ctx context.Context, what string, holds func() bool) {
	for !holds() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			panic(broken{fmt.Errorf("waited in vain for %s: %w", what, ctx.Err())})
		}
	}
}

// quiet waits until the system has nothing left to do.
func (w *World) quiet(ctx context.Context) { must(audit.WaitQuiet(ctx, w.Truth)) }

// token is a fresh card token.
func (w *World) token(ctx context.Context, card string) string { return got(w.Shop.Token(ctx, card)) }

// order places an order, insisting until there is an answer, and waits for its end.
func (w *World) order(ctx context.Context, card string, items ...shop.Item) shop.Order {
	a, _, err := w.Shop.Insist(ctx, uuid.NewString(), w.Shop.Basket(w.token(ctx, card), items...), nil)
	must(err)
	var o shop.Order
	must(json.Unmarshal(a.Body, &o))
	return got(w.Shop.Finished(ctx, o.ID))
}

// processor posts to the card processor, as naive code does. The error means that
// there was no answer.
func (w *World) processor(ctx context.Context, path, key string, in, out any) (status int, err error) {
	return w.call(ctx, http.MethodPost, w.System.URL[stack.Sandbox]+path, map[string]string{
		"Authorization": "Bearer sk_sandbox_processor", "Idempotency-Key": key,
	}, in, out)
}

// call makes an HTTP call with JSON both ways. Empty headers are left out.
func (w *World) call(ctx context.Context, method, url string, headers map[string]string, in, out any) (status int, err error) {
	var body io.Reader
	if in != nil {
		body = bytes.NewReader(got(json.Marshal(in)))
	}
	request := got(http.NewRequestWithContext(ctx, method, url, body))
	for name, value := range headers {
		if value != "" {
			request.Header.Set(name, value)
		}
	}
	if in != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	// A connection of its own for each call: an idle one that was closed would be
	// retried by the transport, and the call would not be one call.
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written to it
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	if out != nil && len(answer) > 0 {
		_ = json.Unmarshal(answer, out) // a refusal has another shape
	}
	return response.StatusCode, nil
}

// paymentMethod redeems a token at the processor under a reference.
func (w *World) paymentMethod(ctx context.Context, card, reference string) string {
	var out struct {
		PaymentMethod string `json:"payment_method"`
	}
	status, err := w.processor(ctx, "/v1/payment_methods", "",
		map[string]string{"token": w.token(ctx, card), "reference": reference}, &out)
	must(err)
	if out.PaymentMethod == "" {
		panic(broken{fmt.Errorf("no payment method: status %d", status)})
	}
	return out.PaymentMethod
}

// charge asks the processor for a hold of 12.50, with a key or without one ("").
func (w *World) charge(ctx context.Context, key, method, reference string) (id string, err error) {
	var out struct {
		ID string `json:"id"`
	}
	status, err := w.processor(ctx, "/v1/charges", key, map[string]any{
		"payment_method": method, "amount": map[string]any{"minor": 1250, "currency": "GBP"}, "reference": reference, "merchant_id": "mer_naive",
	}, &out)
	if err == nil && status >= http.StatusMultipleChoices {
		err = fmt.Errorf("status %d", status)
	}
	return out.ID, err
}

// charges is how many charges the processor has for a reference.
func (w *World) charges(ctx context.Context, reference string) int {
	return w.truth(ctx, "sandbox", `SELECT count(*) FROM processor_charges WHERE reference = $1`, reference)
}

// truth reads one number from a database of the system, or of the outside world.
func (w *World) truth(ctx context.Context, database, sql string, args ...any) int {
	db := w.Truth.Sandbox
	switch database {
	case stack.Orders:
		db = w.Truth.Orders
	case stack.Payments:
		db = w.Truth.Payments
	case stack.Ledger:
		db = w.Truth.Ledger
	}
	var n int
	must(db.QueryRow(ctx, sql, args...).Scan(&n))
	return n
}

// name is a name that no run before has used.
func (w *World) name(prefix string) string {
	return fmt.Sprintf("%s-%d-%d-%s", prefix, w.Seed, w.Number, uuid.NewString()[:8])
}

// errCrash is the death of a naive process: it returns, and forgets.
var errCrash = errors.New("the process dies")
