package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/shared/platform/wait"
)

// cards and how often they come. Most orders are meant to work, so that most
// blows hit work that must be finished, not compensated.
var cards = []string{
	shop.CardWorks, shop.CardWorks, shop.CardWorks, shop.CardWorks, shop.CardWorks,
	shop.CardDeclined, shop.CardNoFunds, shop.CardCaptureFails, shop.CardFailsOnce, shop.CardLosesAnswer,
}

// load places the orders. Every client insists until it has an answer and asks once
// more, and all ask again when everything is over; the answers are compared.
type load struct {
	shop *shop.Shop
	cfg  chaosCmd
	rng  *rand.Rand

	clients errgroup.Group
	give    context.CancelFunc // up: no client is served any more
	placing time.Duration      // how long orders were placed

	mu                       sync.Mutex
	count                    map[string]int // orders by how they ended
	bad                      []string       // those that did not
	orders, refunds, payouts int
	tries                    int
	asked                    []asked
}

// asked is a request, and what was heard of it.
type asked struct {
	answers *shop.Answers
	body    []byte
}

// shown is how many of many things that went wrong are printed.
const shown = 10

func newLoad(s *shop.Shop, cfg chaosCmd) *load {
	return &load{shop: s, cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 2)), count: map[string]int{}} //nolint:gosec // to be repeatable
}

// client is what one customer is going to do, decided before anything happens.
type client struct {
	card           string
	items          []shop.Item
	refund, payout bool
}

// place places orders at the rate that was asked for until breaking ends. An order
// that takes long does not hold up the next, and one that is placed late does not
// make the others late: what comes in does not depend on how the system is.
func (l *load) place(ctx, breaking context.Context) {
	served, give := context.WithCancel(ctx)
	l.give = give
	l.clients.SetLimit(l.cfg.Concurrency)
	begun := time.Now()
	for ctx.Err() == nil && (breaking.Err() == nil || l.orders < l.cfg.Orders) {
		c := client{
			card:   cards[l.rng.IntN(len(cards))],
			items:  []shop.Item{{SKU: "mug", Quantity: 1 + l.rng.IntN(3)}, {SKU: "shirt", Quantity: 1 + l.rng.IntN(2)}},
			refund: l.rng.IntN(5) == 0,
			payout: l.rng.IntN(10) == 0,
		}
		wait.For(ctx, time.Until(begun.Add(time.Duration(float64(l.orders)/l.cfg.Rate*float64(time.Second)))))
		l.orders++
		l.clients.Go(func() error {
			outcome, err := l.serve(served, c)
			l.mu.Lock()
			defer l.mu.Unlock()
			l.count[outcome]++
			if err != nil {
				l.bad = append(l.bad, err.Error())
			}
			return nil
		})
	}
	l.placing = time.Since(begun)
}

// serveTheRest waits for the clients that are not served yet, for so long at most.
func (l *load) serveTheRest(patience time.Duration) {
	defer time.AfterFunc(patience, l.give).Stop()
	_ = l.clients.Wait() // each says in bad what it misses
	l.give()
}

// serve plays one customer to the end.
func (l *load) serve(ctx context.Context, c client) (outcome string, err error) {
	token := ""
	for token == "" && ctx.Err() == nil {
		if token, err = l.shop.Token(ctx, c.card); err != nil {
			wait.For(ctx, 50*time.Millisecond) // the browser tries again, too
		}
	}
	first, err := l.twice(ctx, l.shop.Orders+"/v1/orders", l.shop.Basket(token, c.items...))
	if err != nil {
		return "no answer", err
	}
	var o shop.Order
	if err := json.Unmarshal(first.Body, &o); err != nil || o.ID == "" {
		return "no order", fmt.Errorf("no order: %s", first)
	}
	if o, err = l.shop.Finished(ctx, o.ID); err != nil {
		return "not finished", err
	}
	if o.Status == "confirmed" && c.refund {
		l.add(&l.refunds)
		_, err = l.twice(ctx, l.shop.Payments+"/v1/refunds", fmt.Appendf(nil, `{"payment_id":%q,"amount":{"minor":500,"currency":"GBP"}}`, o.PaymentID))
	}
	if err == nil && o.Status == "confirmed" && c.payout {
		l.add(&l.payouts)
		_, err = l.twice(ctx, l.shop.Payments+"/v1/payouts", []byte(`{"amount":{"minor":300,"currency":"GBP"}}`))
	}
	return o.Status, err
}

func (l *load) add(n *int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*n++
}

// twice sends a request until there is a definite answer, and then once more. It
// returns the first.
func (l *load) twice(ctx context.Context, url string, body []byte) (shop.Answer, error) {
	a := asked{&shop.Answers{URL: url, Key: uuid.NewString()}, body}
	l.mu.Lock()
	l.asked = append(l.asked, a)
	l.mu.Unlock()
	for range 2 {
		if err := l.insist(ctx, a); err != nil {
			return shop.Answer{}, err
		}
	}
	return *a.answers.First(), nil
}

func (l *load) insist(ctx context.Context, a asked) error {
	_, tries, err := l.shop.InsistAt(ctx, a.answers.URL, a.answers.Key, a.body, a.answers.Heard)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tries += tries
	return err
}

// askAllAgain repeats every request once the system is quiet: a retry that comes
// late gets the answer of the first, too.
func (l *load) askAllAgain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Quiet)
	defer cancel()
	var all errgroup.Group
	all.SetLimit(16)
	for _, a := range l.asked {
		all.Go(func() error {
			if err := l.insist(ctx, a); err != nil {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.bad = append(l.bad, err.Error())
			}
			return nil
		})
	}
	_ = all.Wait() // each says in bad what it misses
}

func (l *load) sameAnswer() audit.Result {
	r := audit.Result{ID: "same-answer", Says: "every answer to a key is byte-identical to the first"}
	for _, a := range l.asked {
		compared, differing := a.answers.Verdict()
		r.Checked += compared
		r.Violations = append(r.Violations, differing...)
	}
	if more := len(r.Violations) - shown; more > 0 {
		r.Violations = append(r.Violations[:shown], fmt.Sprintf("and %d more", more))
	}
	return r
}

func (l *load) print() {
	rate := float64(l.orders) / l.placing.Seconds()
	fmt.Printf("\n%d orders in %.0f s: %.1f a second, %g were asked for; %v; %d refunds and %d payouts asked for\n",
		l.orders, l.placing.Seconds(), rate, l.cfg.Rate, l.count, l.refunds, l.payouts)
	if rate < 0.9*l.cfg.Rate {
		fmt.Printf("the rate was NOT reached: all %d clients were waiting (--concurrency), or the blows come faster than anything can be done\n", l.cfg.Concurrency)
	}
	fmt.Printf("client: %d keys, %d requests; %d definite answers compared\n", len(l.asked), l.tries, l.sameAnswer().Checked)
}

// unserved is an error when somebody was not served to the end.
func (l *load) unserved() error {
	if len(l.bad) == 0 {
		return nil
	}
	return errors.New(fmt.Sprintf("%d clients were not served to the end:\n", len(l.bad)) + strings.Join(l.bad[:min(shown, len(l.bad))], "\n"))
}
