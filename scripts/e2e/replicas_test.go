package e2e

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/lab/world"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

// With three replicas of each service a message must not wait for a poll: a replica
// publishes what it wrote itself. And while one replica has no broker, the others publish
// what that one writes. The poll is so long that a slow machine is not taken for one; what
// the periods of production give is in docs/performance.md.
func TestReplicas_OrdersWaitForNoPollAndForNoReplicaWithoutABroker(t *testing.T) {
	const poll, cutOff = 5 * time.Second, "orders-3"
	env := []string{"OUTBOX_POLL=" + poll.String(), "OUTBOX_TAKEOVER=6s", "SAGA_STEP_TIMEOUT=15m"}
	ctx := limit(t)
	w, err := world.Start(ctx, stack.Options{
		Out: os.Stderr, IgnoreGiven: true, BrokerLinks: []string{cutOff},
		Replicas: map[string]int{stack.Orders: 3, stack.Payments: 3, stack.Ledger: 3},
		Env:      map[string][]string{stack.Orders: env, stack.Payments: env, stack.Ledger: env},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	replicas, truth := w.System, w.Truth

	var took []time.Duration
	for i := range 21 {
		took = append(took, confirm(ctx, t, replicas, []string{stack.Orders, "orders-2", cutOff}[i%3]))
		if t.Failed() {
			return
		}
	}
	slices.Sort(took)
	t.Logf("from placed to confirmed p50 %s, from %s to %s", took[10], took[0], took[20])
	// One wait for a poll, somewhere on its way, takes half of it on average.
	if took[10] > poll/4 {
		t.Errorf("p50 %s with a poll of %s", took[10], poll)
	}

	link := stack.BrokerLink(cutOff)
	replicas.Network.Cut(link)
	var placed sync.WaitGroup
	for range 5 {
		placed.Go(func() {
			t.Logf("accepted by the replica that is cut off, and confirmed after %s", confirm(ctx, t, replicas, cutOff))
		})
	}
	placed.Wait()
	if err := replicas.Network.Heal(ctx, link); err != nil {
		t.Fatal(err)
	}
	allHoldsIn(ctx, t, truth)
}

// confirm places an order at one replica and returns how long it took until it was confirmed.
func confirm(ctx context.Context, t *testing.T, system *stack.Stack, replica string) time.Duration {
	t.Helper()
	customer := shop.New(system.Env())
	customer.Orders = system.URL[replica]
	token, err := customer.Token(ctx, shop.CardWorks)
	if err != nil {
		t.Error(err)
		return 0
	}
	begun := time.Now()
	answer, _, err := customer.Insist(ctx, uuid.NewString(), customer.Basket(token, mug), nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	var o shop.Order
	if err := json.Unmarshal(answer.Body, &o); err != nil {
		t.Error(err)
		return 0
	}
	if o, err := customer.Finished(ctx, o.ID); err != nil || o.Status != "confirmed" {
		t.Errorf("%s: %s, error %v", o.ID, o.Status, err)
	}
	return time.Since(begun)
}
