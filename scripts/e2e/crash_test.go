package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

// passage says who passes a fault point, and what has to be asked for to make
// them. Points of a pattern are passed by every service that uses it.
type passage struct {
	services  []string
	card      string
	operation func(ctx context.Context, t *testing.T) asked // nil: an order
}

func passageOf(point string) passage {
	p := passage{card: shop.CardWorks}
	switch service, _, _ := strings.Cut(point, "."); service {
	case "orders", "callback":
		p.services = []string{stack.Orders}
	case "payments", "twophase":
		p.services = []string{stack.Payments}
	case "ledger":
		p.services = []string{stack.Ledger}
	default:
		p.services = stack.Services
	}
	switch {
	case strings.HasPrefix(point, "reconcile."):
		p.services = []string{stack.Payments}
	case point == fault.PaymentsVoidAfterIntent, point == fault.PaymentsVoidAfterProcessor:
		p.card = shop.CardCaptureFails
	case strings.HasPrefix(point, "payments.refund."), point == fault.LedgerEntryAfterCommit:
		p.operation = refundable
	case strings.HasPrefix(point, "payments.payout."), strings.HasPrefix(point, "ledger.payout."), strings.HasPrefix(point, "twophase."):
		p.operation = payable
	}
	return p
}

// Every point there is, every process that passes it, SIGKILL: once with a client
// that insists with its key, and, where the work is done while the client waits,
// once with a client that is never heard of again. The process comes back;
// nothing is lost, nothing is done twice, nothing stays half-way.
func TestACrashAtAnyPointLosesNothingAndDoublesNothing(t *testing.T) {
	for _, point := range fault.Points {
		p := passageOf(point.Name)
		for _, service := range p.services {
			if point.Name == fault.GarbageAfterBatch {
				t.Run(point.Name+"/"+service, func(t *testing.T) { crashDuringGarbageCollection(t, service) })
				continue
			}
			if strings.HasPrefix(point.Name, "reconcile.") {
				t.Run(point.Name+"/"+service, func(t *testing.T) { crashDuringReconciliation(t, point.Name) })
				continue
			}
			if p.operation == nil {
				t.Run(point.Name+"/"+service, func(t *testing.T) { crashDuringOrder(t, point.Name, service, p.card) })
				continue
			}
			t.Run(point.Name+"/"+service+"/client-retries", func(t *testing.T) { crashDuring(t, point.Name, service, p, true) })
			t.Run(point.Name+"/"+service+"/client-gone", func(t *testing.T) { crashDuring(t, point.Name, service, p, false) })
		}
	}
}

func crashDuringOrder(t *testing.T, point, service, card string) {
	ctx := limit(t)
	if point == fault.PaymentsRedeemBeforeRecovery {
		redeemTwice(ctx, t)
	}
	before := starts(service)
	arm(ctx, t, service, point)
	token, err := acme.Token(ctx, card)
	if err != nil {
		t.Fatal(err)
	}
	answer, tries, err := acme.Insist(ctx, uuid.NewString(), acme.Basket(token, mug), nil)
	if err != nil {
		t.Fatal(err)
	}
	o, err := acme.Finished(ctx, decode(t, answer).ID)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{shop.CardWorks: "confirmed", shop.CardCaptureFails: "cancelled"}[card]; o.Status != want {
		t.Errorf("the order is %s (%s), want %s", o.Status, o.Reason, want)
	}
	// The end can be reached before the crash: a callback is sent after it.
	crashed(ctx, t, service, point, before)
	t.Logf("%d tries of the client, %s", tries, o.Status)
	allHolds(ctx, t)
}

// asked is a request that is ready to be sent.
type asked struct {
	url  string
	body []byte
}

func crashDuring(t *testing.T, point, service string, p passage, retries bool) {
	ctx := limit(t)
	request := p.operation(ctx, t)
	before := starts(service)
	arm(ctx, t, service, point)
	key := uuid.NewString()
	if retries {
		answer, tries, err := acme.InsistAt(ctx, request.url, key, request.body, nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != 201 && answer.Status != 202 {
			t.Errorf("status %d: %s", answer.Status, answer.Body)
		}
		t.Logf("%d tries of the client, status %d", tries, answer.Status)
	} else {
		answer, err := acme.Post(ctx, request.url, key, request.body)
		t.Logf("the client got status %d, error %v, and does not come back", answer.Status, err)
	}
	crashed(ctx, t, service, point, before)
	allHolds(ctx, t)
}

func arm(ctx context.Context, t *testing.T, service, point string) {
	t.Helper()
	if err := acme.Arm(ctx, system.URL[service], point, "crash", 1); err != nil {
		t.Fatal(err)
	}
}

// crashed waits until the service has died and been started again.
func crashed(ctx context.Context, t *testing.T, service, point string, before int) {
	t.Helper()
	for starts(service) == before {
		if ctx.Err() != nil {
			t.Fatalf("nothing passed %s in %s", point, service)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// redeemTwice makes the processor do the work of the next redemption and lose
// the answer, so that the second try meets its own first one.
func redeemTwice(ctx context.Context, t *testing.T) {
	t.Helper()
	misbehave(ctx, t, `{"rules":[{"contract":"payment_methods","fault":"lose_answer","times":1}]}`)
}

func misbehave(ctx context.Context, t *testing.T, rules string) {
	t.Helper()
	if err := acme.Misbehave(ctx, rules); err != nil {
		t.Fatal(err)
	}
}

func starts(service string) int {
	n, _ := system.Starts(service)
	return n
}
