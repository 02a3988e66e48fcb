package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/web"
)

const (
	// clientPatience is how long the page's client asks again with the same key.
	clientPatience = 2 * time.Minute

	// firstAnswer is how long the page waits for the id of what it has placed. Later it
	// finds it by the key.
	firstAnswer = 1500 * time.Millisecond
)

// placed is what the page looks at next.
type placed struct {
	ID     string `json:"id"`
	Key    string `json:"key"`
	Status int    `json:"status"`
	Answer string `json:"answer"`
}

// insist sends a request until there is a definite answer, as a good client does, and
// returns what is known after a short while.
func (p *Page) insist(address string, body []byte) (any, error) {
	out := placed{Key: uuid.NewString()}
	ctx, cancel := context.WithTimeout(p.ctx, clientPatience)
	answered := make(chan shop.Answer, 1)
	go func() {
		defer cancel()
		if a, _, err := p.shop.InsistAt(ctx, address, out.Key, body, nil); err == nil {
			answered <- a
		}
	}()
	select {
	case a := <-answered:
		var made struct{ ID string }
		_ = json.Unmarshal(a.Body, &made) // a refusal has none
		out.ID, out.Status, out.Answer = made.ID, a.Status, string(a.Body)
	case <-time.After(firstAnswer):
	}
	return out, nil
}

func (p *Page) order(ctx context.Context, in asked) (any, error) {
	if err := p.ready(ctx); err != nil {
		return nil, err
	}
	token, err := p.shop.Token(ctx, in.Card)
	if err != nil {
		return nil, err
	}
	return p.insist(p.shop.Orders+"/v1/orders", p.shop.Basket(token, shop.Item{SKU: in.SKU, Quantity: in.Quantity}))
}

func (p *Page) refund(ctx context.Context, in asked) (any, error) {
	if err := p.ready(ctx); err != nil {
		return nil, err
	}
	o, err := p.shop.Order(ctx, in.OrderID)
	if err != nil {
		return nil, err
	}
	body := map[string]any{"payment_id": o.PaymentID}
	if in.Minor > 0 {
		body["amount"] = map[string]any{"minor": in.Minor, "currency": "GBP"}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return p.insist(p.shop.Payments+"/v1/refunds", text)
}

func (p *Page) payout(ctx context.Context, in asked) (any, error) {
	if err := p.ready(ctx); err != nil {
		return nil, err
	}
	return p.insist(p.shop.Payments+"/v1/payouts", fmt.Appendf(nil, `{"amount":{"minor":%d,"currency":"GBP"}}`, in.Minor))
}

func (p *Page) cancel(ctx context.Context, in asked) (any, error) {
	a, err := p.shop.Post(ctx, p.shop.Orders+"/v1/orders/"+url.PathEscape(in.OrderID)+"/cancel", "", nil)
	return placed{ID: in.OrderID, Status: a.Status, Answer: string(a.Body)}, err
}

// note puts what was done with the page onto the timelines.
func (p *Page) note(ctx context.Context, kind, lane, text string) {
	p.record.add(Event{At: time.Now(), Kind: kind, Lane: lane, Text: text})
	p.look(ctx)
}

func (p *Page) arm(ctx context.Context, in asked) (any, error) {
	if p.url(in.Service) == "" || in.Service == stack.Sandbox {
		return nil, fmt.Errorf("%w: no service %q", errAsked, in.Service)
	}
	order := fault.Order{Point: in.Point, Action: fault.Action(in.Action), Hit: in.Hit, DelayMS: in.DelayMS}
	if err := ask(ctx, http.MethodPut, p.url(in.Service)+"/lab/faults", order, nil); err != nil {
		return nil, err
	}
	p.note(ctx, Lab, in.Service, fmt.Sprintf("armed: %s at %s, hit %d", in.Action, in.Point, max(in.Hit, 1)))
	return struct{}{}, nil
}

// misbehave adds a rule to those of the outside world.
func (p *Page) misbehave(ctx context.Context, in asked) (any, error) {
	var rules struct {
		Rules []rule `json:"rules"`
	}
	if err := p.read(ctx, p.url("sandbox")+"/faults", &rules); err != nil {
		return nil, err
	}
	// A list that is set again begins to count again.
	kept := []rule{}
	for _, r := range rules.Rules {
		if r.Times > 0 {
			r.Times -= r.Struck
			if r.Times <= 0 {
				continue
			}
		}
		r.Struck = 0
		kept = append(kept, r)
	}
	added := rule{Contract: in.Contract, Fault: in.Fault, Times: in.Times, DelayMS: in.DelayMS}
	rules.Rules = append(kept, added)
	if err := ask(ctx, http.MethodPut, p.url("sandbox")+"/faults", rules, nil); err != nil {
		return nil, err
	}
	p.note(ctx, Lab, added.lane(), fmt.Sprintf("armed: %s at %s", in.Fault, in.Contract))
	return struct{}{}, nil
}

// disarm takes all faults back and lets what is paused go on. A service that is between
// two lives has forgotten its own.
func (p *Page) disarm(ctx context.Context, _ asked) (any, error) {
	p.mu.Lock()
	paused, broken := slices.Collect(maps.Keys(p.paused)), slices.Collect(maps.Keys(p.links))
	p.mu.Unlock()
	var err error
	for _, name := range paused {
		_, not := p.process(ctx, asked{Name: name, Do: "resume"})
		err = errors.Join(err, not)
	}
	for _, link := range broken {
		_, not := p.network(ctx, asked{Name: link, Do: "heal"})
		err = errors.Join(err, not)
	}
	for _, name := range stack.Services {
		_ = ask(ctx, http.MethodDelete, p.url(name)+"/lab/faults", nil, nil)
	}
	err = errors.Join(err, ask(ctx, http.MethodDelete, p.url("sandbox")+"/faults", nil, nil))
	p.note(ctx, Lab, "client", "everything is disarmed")
	return struct{}{}, err
}

// ask makes a call that is on no timeline.
func ask(ctx context.Context, method, address string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	status, answer, err := web.Call(ctx, http.DefaultClient, web.Request{Method: method, URL: address, In: in, Out: out})
	if err == nil && status >= http.StatusMultipleChoices {
		var problem struct{ Detail string }
		_ = json.Unmarshal(answer, &problem) // the status says enough
		err = fmt.Errorf("%w: %s (status %d)", errAsked, problem.Detail, status)
	}
	return err
}

// verdict is what the audit says now. While work is going on, some invariants are rightly
// not true yet.
func (p *Page) verdict(ctx context.Context, _ asked) (any, error) {
	d, err := p.databases()
	if err != nil {
		return nil, err
	}
	busy, err := audit.GoingOn(ctx, d)
	if err != nil {
		return nil, err
	}
	results, err := audit.Run(ctx, d)
	return map[string]any{"busy": busy, "results": results}, err
}

// databases opens them for the audit, once.
func (p *Page) databases() (*audit.Databases, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.truth != nil {
		return p.truth, nil
	}
	d, err := audit.Open(p.ctx, p.database, p.Env["RECEIPTS_URL"])
	p.truth = d
	return d, err
}
