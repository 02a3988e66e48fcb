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

// whoPasses says which processes pass a point, and with which card. Points of a
// pattern are passed by every service that uses it.
func whoPasses(point string) (services []string, card string) {
	card = shop.CardWorks
	switch service, _, _ := strings.Cut(point, "."); service {
	case "orders", "callback":
		services = []string{stack.Orders}
	case "payments":
		services = []string{stack.Payments}
	case "ledger":
		services = []string{stack.Ledger}
	default:
		services = stack.Services
	}
	switch point {
	case fault.PaymentsVoidAfterIntent, fault.PaymentsVoidAfterProcessor:
		card = shop.CardCaptureFails
	}
	return services, card
}

// Every point on the order's way, every process that passes it, SIGKILL. The
// client insists with its key; the process comes back; nothing is lost, nothing
// is done twice.
func TestACrashAtAnyPointLosesNothingAndDoublesNothing(t *testing.T) {
	for _, point := range fault.Points {
		services, card := whoPasses(point.Name)
		for _, service := range services {
			t.Run(point.Name+"/"+service, func(t *testing.T) { crashAt(t, point.Name, service, card) })
		}
	}
}

func crashAt(t *testing.T, point, service, card string) {
	ctx := limit(t)
	if point == fault.PaymentsRedeemBeforeRecovery {
		redeemTwice(ctx, t)
	}
	before, _ := system.Starts(service)
	if err := acme.Arm(ctx, system.URL[service], point, "crash", 1); err != nil {
		t.Fatal(err)
	}
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
	for starts(service) == before {
		if ctx.Err() != nil {
			t.Fatalf("nothing passed %s in %s", point, service)
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("%d tries of the client, %s", tries, o.Status)
	allHolds(ctx, t)
}

// redeemTwice makes the processor do the work of the next redemption and lose
// the answer, so that the second try meets its own first one.
func redeemTwice(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := acme.Misbehave(ctx, `{"rules":[{"contract":"payment_methods","fault":"lose_answer","times":1}]}`); err != nil {
		t.Fatal(err)
	}
}

func starts(service string) int {
	n, _ := system.Starts(service)
	return n
}
