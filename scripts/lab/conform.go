package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"

	"github.com/google/uuid"

	"example.com/failwell/scripts/lab/conform"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

type conformCmd struct {
	Kind    string   `enum:"idempotency,webhook-receiver,webhook-sender,ours" default:"ours" help:"What to hold the service against. ours: all of them, against a system of our own."`
	URL     string   `name:"url" help:"The endpoint."`
	Header  []string `help:"Sent with every request: 'Authorization: Bearer …'."`
	Body    string   `help:"A shell command that prints the body of a new request, or of a new webhook."`
	Secret  string   `help:"Signs the webhooks: whsec_…"`
	Trigger string   `help:"A shell command that makes the sender send one webhook to $URL."`
}

// Run holds a service against the cases, and fails when one does not hold.
func (c conformCmd) Run(ctx context.Context) error {
	if c.Kind == "ours" {
		return conformOurs(ctx)
	}
	target := &conform.Target{URL: c.URL, Header: http.Header{}, Secret: c.Secret, Body: func(ctx context.Context) ([]byte, error) {
		return exec.CommandContext(ctx, "sh", "-c", c.Body).Output()
	}}
	for _, h := range c.Header {
		name, value, _ := strings.Cut(h, ":")
		target.Header.Set(name, strings.TrimSpace(value))
	}
	cases := map[string][]conform.Case{
		"idempotency": conform.Idempotency, "webhook-receiver": conform.Receiver,
		"webhook-sender": conform.Sender(func(ctx context.Context, url string) error {
			cmd := exec.CommandContext(ctx, "sh", "-c", c.Trigger)
			cmd.Env = append(os.Environ(), "URL="+url)
			return cmd.Run()
		}),
	}[c.Kind]
	if failed := check(ctx, c.Kind, target, cases); failed > 0 {
		return fmt.Errorf("%d of %d cases do not hold", failed, len(cases))
	}
	return nil
}

func check(ctx context.Context, what string, t *conform.Target, cases []conform.Case) (failed int) {
	for _, each := range cases {
		mark, why := "✓", ""
		if err := each.Run(ctx, t); err != nil {
			mark, why = "✗", "\n    "+err.Error()
			failed++
		}
		fmt.Printf("%s %-18s %-24s %s%s\n", mark, what, each.ID, each.Says, why)
	}
	return failed
}

// conformOurs holds every endpoint of ours that the cases are for against them.
func conformOurs(ctx context.Context) error {
	system, err := stack.Start(ctx, stack.Options{Out: io.Discard, IgnoreGiven: true})
	if err != nil {
		return err
	}
	defer system.Close()
	env := system.Env()
	acme := shop.New(env)
	header := http.Header{"Authorization": {"Bearer " + acme.Key}}
	basket := func(ctx context.Context) ([]byte, error) {
		token, err := acme.Token(ctx, shop.CardWorks)
		return acme.Basket(token, shop.Item{SKU: "mug", Quantity: 1}), err
	}
	refund := func(ctx context.Context) ([]byte, error) {
		body, err := basket(ctx)
		if err != nil {
			return nil, err
		}
		a, _, err := acme.Insist(ctx, uuid.NewString(), body, nil)
		if err != nil {
			return nil, err
		}
		_, rest, _ := strings.Cut(string(a.Body), `"id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		o, err := acme.Finished(ctx, id)
		return fmt.Appendf(nil, `{"payment_id":%q}`, o.PaymentID), err
	}
	news := func(context.Context) ([]byte, error) {
		return fmt.Appendf(nil, `{"type":"charge.settled","timestamp":"2026-01-31T12:00:00Z","data":{"operation_id":%q,"reference":"pay_%s","amount":{"minor":1,"currency":"GBP"}}}`,
			uuid.NewString(), uuid.NewString()), nil
	}
	failed := check(ctx, "POST /v1/orders", &conform.Target{URL: acme.Orders + "/v1/orders", Header: header, Body: basket}, conform.Idempotency) +
		check(ctx, "POST /v1/refunds", &conform.Target{URL: acme.Payments + "/v1/refunds", Header: header, Body: refund}, conform.Idempotency) +
		check(ctx, "/webhooks/processor", &conform.Target{URL: acme.Payments + "/webhooks/processor", Secret: env["PROCESSOR_WEBHOOK_SECRET"], Body: news}, conform.Receiver) +
		check(ctx, "callbacks", &conform.Target{Secret: env["WEBHOOK_SECRET"]}, conform.Sender(func(ctx context.Context, url string) error {
			body, err := basket(ctx)
			if err != nil {
				return err
			}
			body = []byte(strings.Replace(string(body), acme.Sandbox+"/merchant/webhooks/"+acme.Merchant, url, 1))
			_, _, err = acme.Insist(ctx, uuid.NewString(), body, nil)
			return err
		}))
	if failed > 0 {
		return errors.New("we do not conform")
	}
	return nil
}
