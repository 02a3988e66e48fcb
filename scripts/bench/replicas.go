package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/bench/figures"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

// cutOff is the replica of orders that loses its broker.
const cutOff = "orders-3"

var threeOfEach = stack.Options{
	Replicas:    map[string]int{stack.Orders: 3, stack.Payments: 3, stack.Ledger: 3},
	BrokerLinks: []string{cutOff},
}

// replicas measures what it costs an order that there are three of each service, beside a
// system with one of each; and how long orders take while one replica has no broker, and
// goes on accepting them.
func (b *bench) replicas(ctx context.Context) error {
	one, err := b.second(ctx, stack.Options{})
	if err != nil {
		return err
	}
	defer one.Close()
	shops := []*shop.Shop{b.Shop}
	for _, name := range []string{"orders-2", cutOff} {
		replica := *b.Shop
		replica.Orders = b.System.URL[name]
		shops = append(shops, &replica)
	}
	var three, single []sample
	var ratios []float64
	for round := range b.rounds + 1 {
		s, err := b.oneByOne(ctx, shops)
		alone, aloneErr := one.oneByOne(ctx, []*shop.Shop{one.Shop})
		if err := errors.Join(err, aloneErr); err != nil {
			return err
		}
		if round > 0 { // the first one warms
			three, single = append(three, s), append(single, alone)
			ratios = append(ratios, float64(s.p50)/float64(alone.p50))
		}
	}
	slices.Sort(ratios)
	s := median(three)
	b.report.add(figures.Row{
		Line: "order, accepted to confirmed with 3 replicas of each service", Unit: "2 clients, one order at a time each", P50: s.p50, P99: s.p99,
		Beside: "p50 with one of each, in ms", Theirs: float64(median(single).p50.Microseconds()) / 1000,
		Min: ratios[0], Median: ratios[len(ratios)/2], Max: ratios[len(ratios)-1], MostRatio: 1.2,
	})
	return b.withoutBroker(ctx, shops)
}

// withoutBroker cuts one of the replicas off from the broker, and places orders at all of
// them. Should no other process publish what that one writes, it gets its broker back in the end,
// and the orders show how long they have waited.
func (b *bench) withoutBroker(ctx context.Context, shops []*shop.Shop) error {
	link, fixed := stack.BrokerLink(cutOff), make(chan error, 1)
	b.System.Network.Cut(link)
	later := time.AfterFunc(15*time.Second, func() { fixed <- b.System.Network.Heal(ctx, link) })
	s, err := b.atRate(ctx, 20, shops...)
	if err == nil && !later.Stop() {
		err = <-fixed
	}
	b.report.add(figures.Row{
		Line: "order, accepted to confirmed while 1 of 3 replicas has no broker", Unit: "at 20/s, at all three in turn",
		P50: s.p50, P99: s.p99, LimitP99: 3 * time.Second,
	})
	return err
}

// oneByOne has two clients who wait for each order to be confirmed before they place the
// next one, at the next replica.
func (b *bench) oneByOne(ctx context.Context, shops []*shop.Shop) (sample, error) {
	from, err := b.now(ctx)
	if err != nil {
		return sample{}, err
	}
	var next atomic.Int64
	placed, err := b.drive(ctx, 2, func(ctx context.Context, _ int) error {
		at := shops[int(next.Add(1))%len(shops)]
		token, err := at.Token(ctx, shop.CardWorks)
		if err != nil {
			return err
		}
		a, err := at.Place(ctx, uuid.NewString(), b.basket(token))
		var order shop.Order
		if err := errors.Join(answered(a, err, http.StatusAccepted), json.Unmarshal(a.Body, &order)); err != nil {
			return err
		}
		_, err = at.Finished(ctx, order.ID)
		return err
	})
	if err != nil {
		return sample{}, err
	}
	s, err := b.sinceAccepted(ctx, from)
	s.perSecond = placed.perSecond
	return s, err
}
