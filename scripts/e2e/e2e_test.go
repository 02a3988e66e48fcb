// Package e2e tests the whole system from outside: real processes, a real
// PostgreSQL and RabbitMQ, and SIGKILL.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/lab/world"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

// One system for all tests of the package. Tests that break something in it
// (crashes, servers that go away) do not run side by side with others.
var (
	system *stack.Stack
	acme   *shop.Shop
	truth  *audit.Databases
)

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	ctx := context.Background()
	started, err := world.Start(ctx, stack.Options{Out: os.Stderr, IgnoreGiven: true, Env: tracesOn()})
	if err != nil {
		return 1, err
	}
	defer started.Close()
	system, acme, truth = started.System, started.Shop, started.Truth
	documents, err := newDocumented(system.URL, acme.HTTP.Transport)
	if err != nil {
		return 1, err
	}
	acme.HTTP.Transport = documents
	code := m.Run()
	fmt.Fprintf(os.Stderr, "%d answers held against the OpenAPI documents\n", documents.checked)
	if len(documents.faults) > 0 {
		return 1, fmt.Errorf("answers that are not as documented:\n%s", strings.Join(documents.faults, "\n"))
	}
	return code, nil
}

// limit bounds one test's waiting; it is reached only when something is broken.
func limit(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// order places an order with a fresh token and key and insists on an answer.
func order(ctx context.Context, t *testing.T, card string, items ...shop.Item) shop.Order {
	t.Helper()
	o, err := acme.Checkout(ctx, card, items...)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func decode(t *testing.T, a shop.Answer) shop.Order {
	t.Helper()
	var o shop.Order
	if a.Status != http.StatusAccepted {
		t.Fatalf("status %d: %s", a.Status, a.Body)
	}
	if err := json.Unmarshal(a.Body, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// allHolds waits until nothing is going on and checks every invariant.
func allHolds(ctx context.Context, t *testing.T) {
	t.Helper()
	allHoldsIn(ctx, t, truth)
}

func allHoldsIn(ctx context.Context, t *testing.T, truth *audit.Databases) {
	t.Helper()
	if err := audit.WaitQuiet(ctx, truth); err != nil {
		t.Fatal(err)
	}
	if err := audit.Demand(ctx, truth); err != nil {
		t.Fatal(err)
	}
}

var mug = shop.Item{SKU: "mug", Quantity: 1}

func TestOrder_EveryTestCardLeadsToItsOutcome(t *testing.T) {
	ctx := limit(t)
	for card, want := range map[string][2]string{
		shop.CardWorks:        {"confirmed", ""},
		shop.CardDeclined:     {"cancelled", "card_declined"},
		shop.CardNoFunds:      {"cancelled", "insufficient_funds"},
		shop.CardCaptureFails: {"cancelled", "capture_failed"},
		shop.CardFailsOnce:    {"confirmed", ""},
		shop.CardLosesAnswer:  {"confirmed", ""},
	} {
		o, err := acme.Finished(ctx, order(ctx, t, card, mug, shop.Item{SKU: "shirt", Quantity: 2}).ID)
		if err != nil {
			t.Fatal(err)
		}
		if o.Status != want[0] || o.Reason != want[1] {
			t.Errorf("card %s: %s %q, want %s %q", card, o.Status, o.Reason, want[0], want[1])
		}
	}
	allHolds(ctx, t)
}

func TestAccept_FiftyIdenticalRequestsMakeOneOrder(t *testing.T) {
	ctx := limit(t)
	token, err := acme.Token(ctx, shop.CardWorks)
	if err != nil {
		t.Fatal(err)
	}
	answers := &shop.Answers{URL: acme.Orders + "/v1/orders", Key: uuid.NewString()}
	body := acme.Basket(token, mug)
	var first atomic.Int32
	var all sync.WaitGroup
	const requests = 50
	for range requests {
		all.Go(func() {
			a, err := acme.Place(ctx, answers.Key, body)
			if err != nil {
				t.Error(err)
			}
			answers.Heard(a)
			if a.Header.Get("Idempotent-Replayed") == "" {
				first.Add(1)
			}
		})
	}
	all.Wait()
	if compared, differing := answers.Verdict(); compared != requests || len(differing) > 0 {
		t.Fatalf("%d of %d answers compared, different: %v", compared, requests, differing)
	}
	if first.Load() != 1 {
		t.Errorf("%d answers were not replays, want 1", first.Load())
	}
	o := decode(t, *answers.First())
	if _, err := acme.Finished(ctx, o.ID); err != nil {
		t.Fatal(err)
	}
	var orders int
	if err := truth.Orders.QueryRow(ctx, `SELECT count(*) FROM orders WHERE payment_token = $1`, token).Scan(&orders); err != nil || orders != 1 {
		t.Errorf("%d orders, want 1 (error %v)", orders, err)
	}
	allHolds(ctx, t)
}

func TestStock_TheLastItemsAreNotOversold(t *testing.T) {
	ctx := limit(t)
	const stock, buyers = 7, 50
	sku := "rare-" + uuid.NewString()
	if _, err := truth.Orders.Exec(ctx, `
		INSERT INTO products (merchant_id, sku, name, price_minor, currency, available, initial)
		VALUES ('mer_acme', $1, 'Rare', 100, 'GBP', $2, $2)`, sku, stock); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	accepted := []string{}
	var all sync.WaitGroup
	for range buyers {
		all.Go(func() {
			token, err := acme.Token(ctx, shop.CardWorks)
			if err != nil {
				t.Error(err)
				return
			}
			a, _, err := acme.Insist(ctx, uuid.NewString(), acme.Basket(token, shop.Item{SKU: sku, Quantity: 1}), nil)
			switch {
			case err != nil:
				t.Error(err)
			case a.Status == http.StatusAccepted:
				var o shop.Order
				if err := json.Unmarshal(a.Body, &o); err != nil {
					t.Error(err)
				}
				mu.Lock()
				accepted = append(accepted, o.ID)
				mu.Unlock()
			case a.Status != http.StatusConflict || !bytes.Contains(a.Body, []byte("out-of-stock")):
				t.Errorf("status %d: %s", a.Status, a.Body)
			}
		})
	}
	all.Wait()
	if len(accepted) != stock {
		t.Errorf("%d orders were accepted for %d items", len(accepted), stock)
	}
	for _, id := range accepted {
		if o, err := acme.Finished(ctx, id); err != nil || o.Status != "confirmed" {
			t.Errorf("%s: %s, error %v", id, o.Status, err)
		}
	}
	allHolds(ctx, t)
}

func TestListOrders_PagesWithoutGapOrRepetition(t *testing.T) {
	ctx := limit(t)
	for range 5 {
		order(ctx, t, shop.CardWorks, mug)
	}
	want := map[string]bool{}
	rows, err := truth.Orders.Query(ctx, `SELECT 'ord_' || id FROM orders WHERE merchant_id = 'mer_acme'`)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		want[id] = true
	}
	cursor, last := "", "ord_z"
	for {
		a, err := acme.Get(ctx, acme.Orders+"/v1/orders?limit=3&cursor="+cursor)
		if err != nil {
			t.Fatal(err)
		}
		var page struct {
			Data       []shop.Order
			NextCursor string `json:"next_cursor"`
		}
		if err := json.Unmarshal(a.Body, &page); err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Data {
			if !want[o.ID] || o.ID >= last {
				t.Errorf("%s after %s: unknown, repeated or out of order", o.ID, last)
			}
			delete(want, o.ID)
			last = o.ID
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if len(want) > 0 {
		t.Errorf("%d orders were left out", len(want))
	}
	allHolds(ctx, t)
}

func TestLedger_ShowsTheEntriesOfAnOrder(t *testing.T) {
	ctx := limit(t)
	o := order(ctx, t, shop.CardCaptureFails, mug)
	if _, err := acme.Finished(ctx, o.ID); err != nil {
		t.Fatal(err)
	}
	for _, reference := range []string{o.ID, o.PaymentID} {
		a, err := acme.Get(ctx, acme.Ledger+"/v1/entries?reference="+reference)
		if err != nil {
			t.Fatal(err)
		}
		var entries struct {
			Data []struct{ Kind string }
		}
		if err := json.Unmarshal(a.Body, &entries); err != nil || len(entries.Data) != 2 ||
			entries.Data[0].Kind != "sale" || entries.Data[1].Kind != "sale-reversal" {
			t.Errorf("%s: %s, error %v", reference, a.Body, err)
		}
	}
	for _, path := range []string{acme.Ledger + "/v1/accounts", acme.Ledger + "/v1/accounts/merchant_pending:mer_acme:GBP",
		acme.Payments + "/v1/payments?order_id=" + o.ID, acme.Orders + "/v1/products", acme.Orders + "/healthz"} {
		if a, err := acme.Get(ctx, path); err != nil || a.Status != http.StatusOK {
			t.Errorf("%s: %d, error %v", path, a.Status, err)
		}
	}
}

func TestCancel_RacingTheSagaLeavesNothingHeld(t *testing.T) {
	ctx := limit(t)
	outcomes := map[string]int{}
	for i := range 40 {
		o := order(ctx, t, shop.CardWorks, mug)
		time.Sleep(time.Duration(i) * time.Millisecond) // spread over the way of an order, about 40 ms
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, acme.Orders+"/v1/orders/"+o.ID+"/cancel", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+acme.Key)
		response, err := acme.HTTP.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		end, err := acme.Finished(ctx, o.ID)
		if err != nil {
			t.Fatal(err)
		}
		promised := map[int]string{http.StatusAccepted: "cancelled", http.StatusConflict: "confirmed"}[response.StatusCode]
		if end.Status != promised {
			t.Errorf("cancel was answered %d, and the order ended %s", response.StatusCode, end.Status)
		}
		outcomes[end.Status]++
	}
	t.Logf("outcomes: %v", outcomes)
	allHolds(ctx, t)
}
