package live

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/failwell/scripts/shop"
)

// mostPerSecond is as much as the page's stream places, mostUnanswered how many orders of it
// wait for their answer at once: what is down must not fill our memory.
const (
	mostPerSecond  = 100
	mostUnanswered = 500
)

// stream is what the page places by itself.
type stream struct {
	Rate   float64 `json:"rate"` // a second; 0: it stands still
	Placed int     `json:"placed"`
	Ended  int     `json:"ended"` // all orders that have ended since the recording began

	stop context.CancelFunc
}

// flow starts a stream of orders, and stops it with a rate of 0.
func (p *Page) flow(ctx context.Context, in asked) (any, error) {
	if in.Rate < 0 || in.Rate > mostPerSecond {
		return nil, fmt.Errorf("%w: 0 to %d orders a second", errAsked, mostPerSecond)
	}
	if err := p.ready(ctx); in.Rate > 0 && err != nil {
		return nil, err
	}
	p.mu.Lock()
	if p.stream.stop != nil {
		p.stream.stop()
	}
	running, stop := context.WithCancel(p.ctx)
	p.stream.Rate, p.stream.stop = in.Rate, stop
	p.mu.Unlock()
	if in.Rate > 0 {
		go p.place(running, in)
	}
	p.note(ctx, Lab, "client", fmt.Sprintf("%g orders a second", in.Rate))
	return struct{}{}, nil
}

// place places orders at a rate, however long each of them takes.
func (p *Page) place(ctx context.Context, in asked) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / in.Rate))
	defer tick.Stop()
	var orders errgroup.Group
	orders.SetLimit(mostUnanswered)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		placed := orders.TryGo(func() error { // goes on when the stream is stopped: a client does not give up an order that it has sent
			ctx, cancel := context.WithTimeout(p.ctx, clientPatience)
			defer cancel()
			_, _ = p.shop.Checkout(ctx, in.Card, shop.Item{SKU: in.SKU, Quantity: 1}) // its timeline says what became of it
			return nil
		})
		if placed {
			p.mu.Lock()
			p.stream.Placed++
			p.mu.Unlock()
		}
	}
}
