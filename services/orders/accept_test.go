package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
	"example.com/failwell/shared/testenv"
)

// A request that waited too long learns what it waited for: the first request with its
// key, or a product that others are buying.
func TestAccept_SaysWhatItWaitedForInVain(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		hold   func(b *pgx.Batch)
		status int
		slug   string
	}{
		"the key": {func(b *pgx.Batch) {
			earlier := idempotency.Request{Merchant: "mer_acme", Operation: "POST /v1/orders", Key: "key", Retention: time.Hour}
			earlier.Record(b, idempotency.Response{Status: http.StatusAccepted})
		}, http.StatusConflict, "idempotency-key-in-use"},
		"the stock": {func(b *pgx.Batch) {
			b.Queue(`SELECT FROM products FOR UPDATE`)
		}, http.StatusServiceUnavailable, "busy"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 8)
			holder, err := b.db.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer holder.Rollback(t.Context()) //nolint:errcheck // a test's
			var held pgx.Batch
			c.hold(&held)
			if err := holder.SendBatch(t.Context(), &held).Close(); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			answer := b.place("key")
			var p web.Problem
			if err := json.Unmarshal(answer.Body.Bytes(), &p); err != nil || answer.Code != c.status || !strings.HasSuffix(p.Type, "/"+c.slug) {
				t.Errorf("%d %s", answer.Code, answer.Body)
			}
			if answer.Header().Get("Retry-After") != "1" {
				t.Errorf("Retry-After %q", answer.Header().Get("Retry-After"))
			}
			if took := time.Since(begun); took > 12*time.Second {
				t.Errorf("after %v", took)
			}
			if err := holder.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.accept("key") // and the same request succeeds then
		})
	}
}

// What was read may have changed before it is written. Each of these writes on the
// strength of an old read.
func TestAccept_OldReadWritesNothing(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"another price":    `UPDATE products SET price_minor = 1300 WHERE sku = 'cap'`,
		"another currency": `UPDATE products SET currency = 'EUR' WHERE sku = 'cap'`,
		"gone":             `DELETE FROM products WHERE sku = 'cap'`,
		"sold out":         `UPDATE products SET available = 0, initial = 0 WHERE sku = 'cap'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 4)
			b.exec(aCap)
			in := newOrder{CustomerID: "cus_1", PaymentToken: "tok_1", Items: []item{{SKU: "cap", Quantity: 1}, {SKU: "mug", Quantity: 1}}}
			products := map[string]product{}
			if err := postgres.Read(t.Context(), b.db, func(batch *pgx.Batch) { loadProducts(batch, "mer_acme", in.skus(), products) }); err != nil {
				t.Fatal(err)
			}
			b.exec(change)
			request := idempotency.Request{Merchant: "mer_acme", Operation: "POST /v1/orders", Key: "key", Retention: time.Hour}
			if _, err := b.s.place(t.Context(), request, "mer_acme", in, products); !errors.Is(err, postgres.ErrStale) {
				t.Errorf("got %v, want ErrStale", err)
			}
			var rows, reserved int
			err := b.db.QueryRow(t.Context(), `
				SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM order_lines) + (SELECT count(*) FROM outbox) + (SELECT count(*) FROM idempotency_keys),
				       (SELECT sum(reserved) FROM products)`).Scan(&rows, &reserved)
			if err != nil || rows != 0 || reserved != 0 {
				t.Errorf("%d rows written, %d units reserved, %v", rows, reserved, err)
			}
		})
	}
}

const aCap = `INSERT INTO products (merchant_id, sku, name, price_minor, currency, available, initial) VALUES ('mer_acme', 'cap', 'Cap', 900, 'GBP', 10, 10)`

func TestAccept_ChargesThePriceOfTheMoment(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	b.accept("first")
	for i, change := range []string{`price_minor = 1300`, `currency = 'EUR'`} {
		b.exec(`UPDATE products SET ` + change)
		answer := b.place(fmt.Sprint("key-", i))
		var o orderView
		if err := json.Unmarshal(answer.Body.Bytes(), &o); err != nil || answer.Code != http.StatusAccepted {
			t.Fatalf("%d %s", answer.Code, answer.Body)
		}
		var minor int64
		var currency string
		if err := b.db.QueryRow(t.Context(), `SELECT price_minor, currency FROM products`).Scan(&minor, &currency); err != nil {
			t.Fatal(err)
		}
		if o.Total.Minor != minor || o.Total.Currency != currency {
			t.Errorf("%s: charged %v", change, o.Total)
		}
	}
}

func TestAccept_SoldOutIsRefusedUntilThereIsStockAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	b.accept("first")
	b.exec(`UPDATE products SET available = 0, initial = reserved + sold`)
	if answer := b.place("second"); answer.Code != http.StatusConflict {
		t.Errorf("sold out: %d %s", answer.Code, answer.Body)
	}
	b.exec(`UPDATE products SET available = 1, initial = initial + 1`)
	b.accept("second")
}

func TestAccept_RetryGetsItsAnswerFromAnyReplica(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t, migrations)
	one, other := newReplica(t, url, 4), newReplica(t, url, 4)
	one.exec(aCap)
	first := one.order("key", "mug", "cap")
	for name, b := range map[string]bench{"the same": one, "another": other} {
		if again := b.order("key", "mug", "cap"); again.Body.String() != first.Body.String() || again.Header().Get("Idempotent-Replayed") != "true" {
			t.Errorf("%s replica: %d %s", name, again.Code, again.Body)
		}
	}
	// Also when the basket could not be priced any more.
	one.exec(`UPDATE products SET currency = 'EUR' WHERE sku = 'cap'`)
	if again := other.order("key", "mug", "cap"); again.Body.String() != first.Body.String() {
		t.Errorf("after a change of the currency: %d %s", again.Code, again.Body)
	}
	if mixed := other.order("new", "mug", "cap"); mixed.Code != http.StatusUnprocessableEntity {
		t.Errorf("a new order of two currencies: %d %s", mixed.Code, mixed.Body)
	}
}

// A client, or what stands between it and us, sends a request many times before the first
// one is answered: through one replica, and through another. Each has looked for an answer
// before any of them writes: the last statement of the look-up waits for a lock.
func TestAccept_ManyAtOnceWithOneKeyMakeOneOrder(t *testing.T) {
	t.Parallel()
	const requests = 16
	url := testenv.Postgres(t, migrations)
	replicas := []bench{newReplica(t, url, requests/2+1), newReplica(t, url, requests/2+1)} // a connection for each request, and one for the test
	holder, err := replicas[0].db.Begin(t.Context())
	if err == nil {
		defer holder.Rollback(t.Context()) //nolint:errcheck // it is rolled back below, and here when the test has failed
		_, err = holder.Exec(t.Context(), `LOCK TABLE products IN ACCESS EXCLUSIVE MODE`)
	}
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan string, requests)
	for n := range requests {
		go func() {
			answer := replicas[n%2].place("key")
			answers <- fmt.Sprint(answer.Code, " ", answer.Body)
		}()
	}
	waiting := 0
	for deadline := time.Now().Add(30 * time.Second); waiting < requests; time.Sleep(5 * time.Millisecond) {
		err := replicas[1].db.QueryRow(t.Context(), `
			SELECT count(*)
			  FROM pg_stat_activity
			 WHERE datname = current_database()
			   AND wait_event_type = 'Lock'`).Scan(&waiting)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%d of %d requests have looked for an answer, %v", waiting, requests, err)
		}
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for range requests {
		told[<-answers]++
	}
	if made := replicas[0].orders(); len(made) != 1 {
		t.Errorf("%d requests under one key made %d orders, want 1", requests, len(made))
	}
	for answer, times := range told {
		if times != requests || !strings.HasPrefix(answer, "202 ") {
			t.Errorf("%d of %d requests under one key are answered %s, want one answer to all", times, requests, answer)
		}
	}
}

// The process is killed before its commit, or between the commit and the answer. The client
// has heard nothing, and sends its request again.
func TestAccept_RetryAfterTheProcessHasDiedLeadsToOneOrder(t *testing.T) {
	t.Parallel()
	for point, before := range map[string]int{fault.OrdersAcceptBeforeCommit: 0, fault.OrdersAcceptAfterCommit: 1} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			url := testenv.Postgres(t, migrations)
			// Another process, because it is killed in the middle of its work.
			first := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAccept_HelperProcessThatDies$")
			first.Env = append(os.Environ(), "ORDERS_TEST_DB="+url, "ORDERS_TEST_POINT="+point)
			if out, err := first.CombinedOutput(); err == nil {
				t.Fatalf("the process should have died at %s:\n%s", point, out)
			}
			b := newReplica(t, url, 4)
			if made := b.orders(); len(made) != before {
				t.Errorf("the process died at %s and left %d orders, want %d", point, len(made), before)
			}
			retry := b.place("key")
			made := b.orders()
			if retry.Code != http.StatusAccepted || len(made) != 1 || !strings.Contains(retry.Body.String(), made[0]) {
				t.Errorf("the process died at %s, and the client sent its request again: there are %d orders %v, and it is told %d %s; want one order, and 202 with its id",
					point, len(made), made, retry.Code, retry.Body)
			}
			if again := b.place("key"); again.Body.String() != retry.Body.String() {
				t.Errorf("the process died at %s; the retry is answered %s, and the next one %s", point, retry.Body, again.Body)
			}
		})
	}
}

// TestAccept_HelperProcessThatDies is the other process of the test above.
func TestAccept_HelperProcessThatDies(t *testing.T) {
	if os.Getenv("ORDERS_TEST_DB") == "" {
		t.Skip("only as another process")
	}
	b := newReplica(t, os.Getenv("ORDERS_TEST_DB"), 4)
	if err := fault.Arm(fault.Order{Point: os.Getenv("ORDERS_TEST_POINT"), Action: fault.Crash}); err != nil {
		t.Skip(err)
	}
	answer := b.place("key")
	t.Logf("it lives: %d %s", answer.Code, answer.Body)
}

func TestAccept_KeyIsForOneRequestUntilItExpires(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	b.exec(aCap)
	first := b.place("key")
	if other := b.order("key", "mug", "cap"); other.Code != http.StatusUnprocessableEntity || !strings.Contains(other.Body.String(), "idempotency-key-reused") {
		t.Errorf("another request: %d %s", other.Code, other.Body)
	}
	b.exec(`UPDATE idempotency_keys SET expires_at = now() - interval '1 second'`)
	if anew := b.place("key"); anew.Code != http.StatusAccepted || anew.Body.String() == first.Body.String() || anew.Header().Get("Idempotent-Replayed") != "" {
		t.Errorf("after its answer has expired: %d %s", anew.Code, anew.Body)
	}
}

// We have become stricter between a request and its retry: the retry gets its answer.
func TestAccept_RetryOfAnAcceptedOrderAfterADeploy(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	const body = `{"customer_id":"cus_1","items":[],"coupon":"a field that we took once"}`
	if answer := b.call(http.MethodPost, "/v1/orders", body, "Idempotency-Key", "new"); answer.Code != http.StatusUnprocessableEntity {
		t.Fatalf("new: %d %s", answer.Code, answer.Body)
	}
	earlier := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/orders", nil)
	earlier.Header.Set("Idempotency-Key", "old")
	request, err := idempotency.FromRequest(earlier, "mer_acme", "POST /v1/orders", []byte(body), time.Hour)
	if err == nil {
		err = postgres.Write(t.Context(), b.db, func(batch *pgx.Batch) {
			request.Record(batch, idempotency.Response{Status: http.StatusAccepted, Body: []byte("the first answer")})
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	answer := b.call(http.MethodPost, "/v1/orders", body, "Idempotency-Key", "old")
	if answer.Code != http.StatusAccepted || answer.Body.String() != "the first answer" {
		t.Errorf("the retry: %d %s", answer.Code, answer.Body)
	}
}
