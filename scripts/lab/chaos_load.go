package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
)

// cards and how often they come. Most orders are meant to work, so that most
// blows hit work that must be finished, not walked back.
var cards = []string{
	shop.CardWorks, shop.CardWorks, shop.CardWorks, shop.CardWorks, shop.CardWorks,
	shop.CardDeclined, shop.CardNoFunds, shop.CardCaptureFails, shop.CardFailsOnce, shop.CardLosesAnswer,
}

// load places the orders. Every client insists until it has an answer, then asks
// once more, and compares.
type load struct {
	shop *shop.Shop
	cfg  chaosCmd
	rng  *rand.Rand

	mu                       sync.Mutex
	count                    map[string]int
	orders, refunds, payouts int
	requests, first, answers int
	differing                []string
}

func newLoad(s *shop.Shop, cfg chaosCmd) *load {
	return &load{shop: s, cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 2)), count: map[string]int{}} //nolint:gosec // to be repeatable
}

// client is what one customer is going to do, decided before anything happens.
type client struct {
	card           string
	items          []shop.Item
	refund, payout bool
}

// run places orders until breaking ends, and returns when all clients are done.
func (l *load) run(ctx, breaking context.Context) {
	places := make(chan struct{}, l.cfg.Concurrency)
	pace := time.NewTicker(time.Duration(float64(time.Second) / l.cfg.Rate))
	defer pace.Stop()
	var all sync.WaitGroup
	for breaking.Err() == nil || l.orders < l.cfg.Orders && ctx.Err() == nil {
		c := client{
			card:   cards[l.rng.IntN(len(cards))],
			items:  []shop.Item{{SKU: "mug", Quantity: 1 + l.rng.IntN(3)}, {SKU: "shirt", Quantity: 1 + l.rng.IntN(2)}},
			refund: l.rng.IntN(5) == 0,
			payout: l.rng.IntN(10) == 0,
		}
		places <- struct{}{}
		l.orders++
		all.Go(func() {
			defer func() { <-places }()
			outcome := l.serve(ctx, c)
			l.mu.Lock()
			l.count[outcome]++
			l.mu.Unlock()
		})
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
	}
	all.Wait()
}

// serve plays one customer to the end.
func (l *load) serve(ctx context.Context, c client) string {
	token := ""
	for token == "" && ctx.Err() == nil {
		t, err := l.shop.Token(ctx, c.card) // the browser tries again, too
		if err != nil {
			time.Sleep(50 * time.Millisecond)
		}
		token = t
	}
	body := l.twice(ctx, l.shop.Orders+"/v1/orders", l.shop.Basket(token, c.items...))
	var o shop.Order
	if err := json.Unmarshal(body, &o); err != nil || o.ID == "" {
		return "no order: " + string(body)
	}
	o, err := l.shop.Finished(ctx, o.ID)
	if err != nil {
		return "not finished"
	}
	if o.Status == "confirmed" && c.refund {
		l.add(&l.refunds)
		l.twice(ctx, l.shop.Payments+"/v1/refunds", fmt.Appendf(nil, `{"payment_id":%q,"amount":{"minor":500,"currency":"GBP"}}`, o.PaymentID))
	}
	if o.Status == "confirmed" && c.payout {
		l.add(&l.payouts)
		l.twice(ctx, l.shop.Payments+"/v1/payouts", []byte(`{"amount":{"minor":300,"currency":"GBP"}}`))
	}
	return o.Status
}

func (l *load) add(n *int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*n++
}

// twice sends a request until there is an answer, and then once more, and
// compares all answers that are recorded: those with a status that is final. It
// returns the first.
func (l *load) twice(ctx context.Context, url string, body []byte) []byte {
	key := uuid.NewString()
	var first *shop.Answer
	heard := func(a shop.Answer) {
		if !final(url, a) {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.answers++
		if first == nil {
			first = &a
		}
		if first.Status != a.Status || !bytes.Equal(first.Body, a.Body) {
			l.differing = append(l.differing, fmt.Sprintf("key %s: %d %s and %d %s", key, first.Status, first.Body, a.Status, a.Body))
		}
	}
	for range 2 {
		_, tries, err := l.shop.InsistAt(ctx, url, key, body, heard)
		l.mu.Lock()
		l.requests += tries
		l.first++
		l.mu.Unlock()
		if err != nil {
			break
		}
	}
	if first == nil {
		return nil
	}
	return first.Body
}

// final tells whether an answer is the recorded one. A refund or payout that is
// still pending is answered with 202 and not recorded.
func final(url string, a shop.Answer) bool {
	if a.Status == http.StatusAccepted {
		return !bytes.Contains(a.Body, []byte(`"status":"pending"`)) || bytes.Contains([]byte(url), []byte("/v1/orders"))
	}
	return a.Status == http.StatusCreated || a.Status == http.StatusUnprocessableEntity
}

func (l *load) sameAnswer() audit.Result {
	return audit.Result{ID: "same-answer", Says: "every answer to a key is byte-identical to the first", Checked: l.answers, Violations: l.differing}
}
