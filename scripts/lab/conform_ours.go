package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/lab/conform"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/wait"
)

// ourRetention is how long a key is kept while we test ourselves: longer than any
// other case takes, and short enough to be waited for.
const ourRetention = 10 * time.Second

// conformOurs holds every endpoint of ours that the cases are for against them.
func conformOurs(ctx context.Context, skip []string) error {
	short := []string{"IDEMPOTENCY_RETENTION=" + ourRetention.String()}
	system, err := stack.Start(ctx, stack.Options{Out: io.Discard, IgnoreGiven: true, Env: map[string][]string{
		stack.Orders: short, stack.Payments: short,
	}})
	if err != nil {
		return err
	}
	defer system.Close()
	env := system.Env()
	us := merchant{shop.New(env)}
	if err := us.earn(ctx); err != nil {
		return err
	}
	header := http.Header{"Authorization": {"Bearer " + us.Key}}
	keyed := func(url string, body func(context.Context) ([]byte, error)) *conform.Target {
		return &conform.Target{URL: url, Header: header, Body: body, Retention: ourRetention}
	}
	endpoints := []struct {
		name   string
		target *conform.Target
		cases  []conform.Case
	}{
		{"POST /v1/orders", keyed(us.Orders+"/v1/orders", us.basket), conform.Idempotency},
		{"POST /v1/refunds", keyed(us.Payments+"/v1/refunds", us.refund), conform.Idempotency},
		{"POST /v1/payouts", keyed(us.Payments+"/v1/payouts", us.payout), conform.Idempotency},
		{"POST /v1/orders", keyed(us.Orders+"/v1/orders", us.basket), conform.Edge},
		{"POST /v1/refunds", keyed(us.Payments+"/v1/refunds", us.refund), conform.Edge},
		{"POST /v1/payouts", keyed(us.Payments+"/v1/payouts", us.payout), conform.Edge},
		{"/webhooks/processor", &conform.Target{URL: us.Payments + "/webhooks/processor", Secret: env["PROCESSOR_WEBHOOK_SECRET"], Body: settled}, conform.Receiver},
		{"callbacks", &conform.Target{Secret: env["WEBHOOK_SECRET"], Listen: "127.0.0.1:0", Patience: 30 * time.Second, Trigger: us.orderWithCallback}, conform.Sender},
	}
	// Side by side: most of the time is spent waiting for keys to expire.
	printed, failed, all := make([]bytes.Buffer, len(endpoints)), make([]int, len(endpoints)), 0
	var running sync.WaitGroup
	for i, e := range endpoints {
		all += len(e.cases)
		running.Go(func() { failed[i] = conform.Check(ctx, &printed[i], e.name, e.target, e.cases, skip) })
	}
	running.Wait()
	failures := 0
	for i := range endpoints {
		_, _ = printed[i].WriteTo(os.Stdout)
		failures += failed[i]
	}
	if failures > 0 {
		return fmt.Errorf("%d of %d cases do not hold: we do not conform", failures, all)
	}
	fmt.Printf("%d cases over %d endpoints\n", all, len(endpoints))
	return nil
}

// merchant makes the requests that our endpoints are held against the cases with.
type merchant struct{ *shop.Shop }

var mug = shop.Item{SKU: "mug", Quantity: 1}

func (m merchant) basket(ctx context.Context) ([]byte, error) {
	token, err := m.Token(ctx, shop.CardWorks)
	return m.Basket(token, mug), err
}

func (m merchant) refund(ctx context.Context) ([]byte, error) {
	o, err := m.Buy(ctx, shop.CardWorks, mug)
	return fmt.Appendf(nil, `{"payment_id":%q}`, o.PaymentID), err
}

// payout is the same request each time: what it asks for can be asked for again.
func (m merchant) payout(context.Context) ([]byte, error) {
	return []byte(`{"amount":{"minor":1,"currency":"GBP"}}`), nil
}

// earn sells until there is money to pay out.
func (m merchant) earn(ctx context.Context) error {
	if _, err := m.Buy(ctx, shop.CardWorks, mug); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return wait.Until(ctx, 50*time.Millisecond, "a settlement: without one there is nothing to pay out", func() (bool, error) {
		a, err := m.Get(ctx, m.Ledger+"/v1/accounts/merchant_available:"+m.Merchant+":GBP")
		var account struct{ Balance struct{ Minor int64 } }
		_ = json.Unmarshal(a.Body, &account) // there is none before the first settlement
		return account.Balance.Minor > 0, err
	})
}

// settled is news from the processor about a payment that we do not have.
func settled(context.Context) ([]byte, error) {
	return fmt.Appendf(nil, `{"type":"charge.settled","timestamp":"2026-01-31T12:00:00Z","data":{"operation_id":%q,"reference":"pay_%s","amount":{"minor":1,"currency":"GBP"}}}`,
		uuid.NewString(), uuid.NewString()), nil
}

// orderWithCallback has us call back at a URL.
func (m merchant) orderWithCallback(ctx context.Context, url string) error {
	body, err := m.basket(ctx)
	if err != nil {
		return err
	}
	body = []byte(strings.Replace(string(body), m.Sandbox+"/merchant/webhooks/"+m.Merchant, url, 1))
	_, _, err = m.Insist(ctx, uuid.NewString(), body, nil)
	return err
}
