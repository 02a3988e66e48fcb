// Package shop is a merchant's side of the API, as a demo, an experiment or a
// test plays it. It decides nothing by itself: retrying is the caller's business.
package shop

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

	"example.com/failwell/shared/platform/wait"
)

// The processor's test cards.
const (
	CardWorks         = "4242424242424242"
	CardDeclined      = "4000000000000002"
	CardCaptureFails  = "4000000000000341"
	CardNoFunds       = "4000000000009995"
	CardFailsOnce     = "4000000000000119" // before the work
	CardLosesAnswer   = "4000000000000069" // does the work, the first answer is lost
	callTimeout       = 20 * time.Second
	contentTypeJSON   = "application/json"
	askAgain          = 50 * time.Millisecond
	pollForFinalState = 20 * time.Millisecond
	longestPause      = 2 * time.Second
)

// Shop talks to the system as one merchant.
type Shop struct {
	Orders, Payments, Ledger, Sandbox string // URLs
	Key                               string // bearer key
	Merchant                          string // id, for the callback's path at the sandbox
	HTTP                              *http.Client
}

// New makes a shop from the variables that `make run` writes.
func New(env map[string]string) *Shop {
	return &Shop{
		Orders: env["ORDERS_URL"], Payments: env["PAYMENTS_URL"], Ledger: env["LEDGER_URL"], Sandbox: env["SANDBOX_URL"],
		Key: env["MERCHANT_KEY"], Merchant: "mer_acme",
		HTTP: &http.Client{Timeout: callTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 256}},
	}
}

// Answer is what came back, bytes as they came.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Order is what a shop cares about in an order.
type Order struct {
	ID        string `json:"id"`
	Status    string `json:"status"`
	Reason    string `json:"reason"`
	PaymentID string `json:"payment_id"`
}

// Item is a line of a basket.
type Item struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// String is how a person says it: 1 mug.
func (i Item) String() string { return fmt.Sprintf("%d %s", i.Quantity, i.SKU) }

// Token has a card turned into a single-use token, as the customer's browser does.
func (s *Shop) Token(ctx context.Context, card string) (string, error) {
	a, err := s.call(ctx, http.MethodPost, s.Sandbox+"/v1/tokens", fmt.Appendf(nil, `{"card":%q}`, card))
	if err != nil {
		return "", err
	}
	var out struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(a.Body, &out); err != nil || out.Token == "" {
		return "", fmt.Errorf("shop: no token: status %d, %s", a.Status, a.Body)
	}
	return out.Token, nil
}

// Basket is the body of an order, with the sandbox's endpoint for its callback.
func (s *Shop) Basket(token string, items ...Item) []byte {
	body, err := json.Marshal(map[string]any{
		"customer_id": "cus_1", "items": items, "payment_token": token,
		"callback_url": s.Sandbox + "/merchant/webhooks/" + s.Merchant,
	})
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return body
}

// Place sends an order. An error means that there was no answer; the order may
// have been placed or not.
func (s *Shop) Place(ctx context.Context, key string, body []byte) (Answer, error) {
	return s.Post(ctx, s.Orders+"/v1/orders", key, body)
}

// Post sends any other request that carries a key.
func (s *Shop) Post(ctx context.Context, url, key string, body []byte) (Answer, error) {
	return s.call(ctx, http.MethodPost, url, body, "Authorization", "Bearer "+s.Key, "Idempotency-Key", key)
}

// Insist places an order again and again until there is a definite answer. Every
// answer is handed to heard, if there is one.
func (s *Shop) Insist(ctx context.Context, key string, body []byte, heard func(Answer)) (a Answer, tries int, err error) {
	return s.InsistAt(ctx, s.Orders+"/v1/orders", key, body, heard)
}

// InsistAt is Insist for any other request that carries a key: a refund that is
// accepted and still pending is asked for again.
func (s *Shop) InsistAt(ctx context.Context, url, key string, body []byte, heard func(Answer)) (a Answer, tries int, err error) {
	begun := time.Now()
	for {
		tries++
		a, err = s.Post(ctx, url, key, body)
		if err == nil && heard != nil {
			heard(a)
		}
		if err == nil && a.Definite(url) {
			return a, tries, nil
		}
		if !wait.For(ctx, pause(askAgain, begun)) {
			return a, tries, fmt.Errorf("shop: no definite answer to key %s after %d tries, the last was %s: %w", key, tries, a, errors.Join(ctx.Err(), err))
		}
	}
}

// Get reads a path of a service.
func (s *Shop) Get(ctx context.Context, url string) (Answer, error) {
	return s.call(ctx, http.MethodGet, url, nil, "Authorization", "Bearer "+s.Key)
}

// Offer puts a new product on the shelf.
func (s *Shop) Offer(ctx context.Context, sku string, product []byte) (Answer, error) {
	return s.call(ctx, http.MethodPut, s.Orders+"/v1/products/"+sku, product, "Authorization", "Bearer "+s.Key, "If-None-Match", "*")
}

// Order reads an order.
func (s *Shop) Order(ctx context.Context, id string) (Order, error) {
	var o Order
	a, err := s.Get(ctx, s.Orders+"/v1/orders/"+id)
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("shop: order %s: status %d, %s", id, a.Status, a.Body)
	}
	if err == nil {
		err = json.Unmarshal(a.Body, &o)
	}
	return o, err
}

// Finished waits until an order is confirmed or cancelled. Services that are
// being killed meanwhile are waited for.
func (s *Shop) Finished(ctx context.Context, id string) (Order, error) {
	begun := time.Now()
	for {
		o, err := s.Order(ctx, id)
		if err == nil && o.Status != "pending" {
			return o, nil
		}
		if !wait.For(ctx, pause(pollForFinalState, begun)) {
			return o, fmt.Errorf("shop: order %s is still %q: %w", id, o.Status, errors.Join(ctx.Err(), err))
		}
	}
}

// Checkout places an order with a card, and insists on an answer. The order is accepted
// then, and not finished.
func (s *Shop) Checkout(ctx context.Context, card string, items ...Item) (Order, error) {
	token, err := s.Token(ctx, card)
	if err != nil {
		return Order{}, err
	}
	a, _, err := s.Insist(ctx, uuid.NewString(), s.Basket(token, items...), nil)
	if err != nil {
		return Order{}, err
	}
	var o Order
	if err := json.Unmarshal(a.Body, &o); err != nil || o.ID == "" {
		return o, fmt.Errorf("shop: the order was not accepted: status %d, %s", a.Status, a.Body)
	}
	return o, nil
}

// Buy is Checkout, and waits for the order's end.
func (s *Shop) Buy(ctx context.Context, card string, items ...Item) (Order, error) {
	o, err := s.Checkout(ctx, card, items...)
	if err != nil {
		return o, err
	}
	return s.Finished(ctx, o.ID)
}

// pause grows with the time that was waited already: hundreds of clients that wait
// for a broker to come back must not be what keeps it from coming back.
func pause(least time.Duration, since time.Time) time.Duration {
	return min(max(least, time.Since(since)/10), longestPause)
}

// Arm arms a fault point in a service.
func (s *Shop) Arm(ctx context.Context, service, point, action string, hit int) error {
	return s.lab(ctx, http.MethodPut, service+"/lab/faults", fmt.Sprintf(`{"point":%q,"action":%q,"hit":%d}`, point, action, hit))
}

// ArmDelay makes the next process that passes a fault point wait there.
func (s *Shop) ArmDelay(ctx context.Context, service, point string, d time.Duration) error {
	return s.lab(ctx, http.MethodPut, service+"/lab/faults", fmt.Sprintf(`{"point":%q,"action":"delay","delay_ms":%d}`, point, d.Milliseconds()))
}

// Disarm takes back what is armed in a service.
func (s *Shop) Disarm(ctx context.Context, service string) error {
	return s.lab(ctx, http.MethodDelete, service+"/lab/faults", "")
}

// Misbehave sets the faults of the outside world; rules is the JSON that the
// sandbox's PUT /faults takes.
func (s *Shop) Misbehave(ctx context.Context, rules string) error {
	return s.lab(ctx, http.MethodPut, s.Sandbox+"/faults", rules)
}

// ForgetKeys lets the processor forget the keys that are older than olderThan ("5s").
func (s *Shop) ForgetKeys(ctx context.Context, olderThan string) error {
	return s.lab(ctx, http.MethodDelete, s.Sandbox+"/faults/keys?older_than="+olderThan, "")
}

// lab asks for what only a lab has.
func (s *Shop) lab(ctx context.Context, method, url, body string) error {
	a, err := s.call(ctx, method, url, []byte(body))
	if err == nil && a.Status >= http.StatusBadRequest {
		err = fmt.Errorf("shop: %s %s %s: status %d, %s", method, url, body, a.Status, a.Body)
	}
	return err
}

// call sends a request. header is names and values in turn; an empty value is left out.
func (s *Shop) call(ctx context.Context, method, url string, body []byte, header ...string) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	// Without this, Go's client would send a request that carries a key once more by
	// itself when its connection breaks, and a client that is gone would be back.
	request.GetBody = nil
	if len(body) > 0 {
		request.Header.Set("Content-Type", contentTypeJSON)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i+1] != "" {
			request.Header.Set(header[i], header[i+1])
		}
	}
	response, err := s.HTTP.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written to it
	answer, err := io.ReadAll(response.Body)
	return Answer{Status: response.StatusCode, Header: response.Header, Body: answer}, err
}
