package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"example.com/failwell/shared/testenv"
)

// What is remembered may be wrong at any time. These tests make it wrong.

func (b bench) row(id string) string {
	b.t.Helper()
	var says string
	err := b.db.QueryRow(b.t.(*testing.T).Context(), `
		SELECT o.status || ' ' || s.phase || ' ' || s.step
		  FROM orders o
		  JOIN sagas s USING (id)
		 WHERE 'ord_' || id = $1`, id).Scan(&says)
	if err != nil {
		b.t.Fatal(err)
	}
	return says
}

func (b bench) exec(statement string) {
	b.t.Helper()
	if _, err := b.db.Exec(b.t.(*testing.T).Context(), statement); err != nil {
		b.t.Fatal(err)
	}
}

func TestARememberedPriceThatHasChangedIsNotCharged(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, 4)
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

// An update of no row is no error. An order of a product that is remembered and not
// there any more must not go its way with nothing reserved.
func TestARememberedProductThatIsGoneIsNotSold(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, 4)
	b.exec(`INSERT INTO products (merchant_id, sku, name, price_minor, currency, available, initial) VALUES ('mer_acme', 'cap', 'Cap', 900, 'GBP', 10, 10)`)
	if first := b.order("first", "cap", "mug"); first.Code != http.StatusAccepted {
		t.Fatalf("%d %s", first.Code, first.Body)
	}
	b.exec(`DELETE FROM products WHERE sku = 'cap'`)
	if answer := b.order("second", "cap", "mug"); answer.Code != http.StatusUnprocessableEntity || !strings.Contains(answer.Body.String(), "unknown-sku") {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
	var orders, reserved int
	err := b.db.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM orders), (SELECT reserved FROM products WHERE sku = 'mug')`).Scan(&orders, &reserved)
	if err != nil || orders != 1 || reserved != 1 {
		t.Errorf("%d orders, %d mugs reserved, %v", orders, reserved, err)
	}
}

func TestWhatIsSoldOutIsSaidToBeSoldOutAndComesBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, 4)
	b.accept("first")
	b.exec(`UPDATE products SET available = 0, initial = reserved + sold`)
	if answer := b.place("second"); answer.Code != http.StatusConflict {
		t.Errorf("sold out: %d %s", answer.Code, answer.Body)
	}
	b.exec(`UPDATE products SET available = 1, initial = initial + 1`)
	b.accept("second")
}

func TestARetryGetsItsAnswerFromAnyReplica(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t, migrations)
	one, other := newReplica(t, url, nil, 4), newReplica(t, url, nil, 4)
	other.accept("warm") // it remembers the prices, and so tries to write first
	first := one.place("key")
	for name, b := range map[string]bench{"the same": one, "another": other} {
		if again := b.place("key"); again.Body.String() != first.Body.String() || again.Header().Get("Idempotent-Replayed") != "true" {
			t.Errorf("%s replica: %d %s", name, again.Code, again.Body)
		}
	}
}

// The same bytes under the same key are not parsed again. What they are answered with is
// still the database's to say.
func TestTheSameBytesAgainAreAnsweredByTheDatabase(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, 4)
	b.exec(`INSERT INTO products (merchant_id, sku, name, price_minor, currency, available, initial) VALUES ('mer_acme', 'cap', 'Cap', 900, 'GBP', 10, 10)`)
	first := b.place("key")
	for range 2 { // the second time it is the wrong request that is remembered
		if other := b.order("key", "mug", "cap"); other.Code != http.StatusUnprocessableEntity || !strings.Contains(other.Body.String(), "idempotency-key-reused") {
			t.Errorf("another request: %d %s", other.Code, other.Body)
		}
	}
	for range 2 {
		if again := b.place("key"); again.Body.String() != first.Body.String() || again.Header().Get("Idempotent-Replayed") != "true" {
			t.Errorf("the same request: %d %s", again.Code, again.Body)
		}
	}
	b.exec(`UPDATE idempotency_keys SET expires_at = now() - interval '1 second'`)
	if anew := b.place("key"); anew.Code != http.StatusAccepted || anew.Body.String() == first.Body.String() || anew.Header().Get("Idempotent-Replayed") != "" {
		t.Errorf("after its answer has expired: %d %s", anew.Code, anew.Body)
	}
}

// Replicas take turns with the answers of a saga, each remembering the state in
// which it left it: none of them drops an answer that the saga is waiting for.
func TestNoAnswerIsDroppedBecauseOfAnOldMemory(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t, migrations)
	one, other := newReplica(t, url, nil, 4), newReplica(t, url, nil, 4)
	id := one.accept("key")
	other.answer(id, "authorise")
	one.answer(id, "post-sale") // it remembers that authorise is asked
	other.answer(id, "capture") // it remembers that post-sale is asked
	if got := one.row(id); got != "confirmed completed 2" {
		t.Errorf("the order: %s", got)
	}
}

// An old memory must not act either: a late answer to a question that was settled
// elsewhere changes nothing.
func TestALateAnswerChangesNothingWhateverIsRemembered(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t, migrations)
	one, other := newReplica(t, url, nil, 4), newReplica(t, url, nil, 4)
	id := one.accept("key")
	other.answer(id, "authorise")
	one.answer(id, "authorise")   // as another message; one believes that it is waited for
	other.answer(id, "authorise") // other knows that it is not
	if got := one.row(id); got != "pending forward 1" {
		t.Errorf("the order: %s", got)
	}
	var questions int
	if err := one.db.QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE type = 'ledger.post-sale'`).Scan(&questions); err != nil || questions != 1 {
		t.Errorf("asked %d times, %v", questions, err)
	}
}

func TestTheSameAnswerTwentyTimesAtOnceIsOneAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, 16)
	for round := range 5 {
		id := b.accept(fmt.Sprint(round))
		message := b.message(id, "authorise")
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if err := b.s.receive(t.Context(), message); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got := b.row(id); got != "pending forward 1" {
			t.Errorf("the order: %s", got)
		}
	}
}

// A retry whose basket could not be priced any more still gets its answer, also
// where only the prices are remembered: what memory would refuse is looked up.
func TestARetryIsAnsweredAlthoughItsPricesHaveChanged(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t, migrations)
	one, other := newReplica(t, url, nil, 4), newReplica(t, url, nil, 4)
	one.exec(`INSERT INTO products (merchant_id, sku, name, price_minor, currency, available, initial) VALUES ('mer_acme', 'cap', 'Cap', 900, 'GBP', 10, 10)`)
	first := one.order("key", "mug", "cap")
	if first.Code != http.StatusAccepted {
		t.Fatalf("%d %s", first.Code, first.Body)
	}
	one.exec(`UPDATE products SET currency = 'EUR' WHERE sku = 'cap'`)
	other.order("mug", "mug")
	other.order("cap", "cap")
	if again := other.order("key", "mug", "cap"); again.Body.String() != first.Body.String() {
		t.Errorf("the retry: %d %s", again.Code, again.Body)
	}
	if mixed := other.order("new", "mug", "cap"); mixed.Code != http.StatusUnprocessableEntity {
		t.Errorf("a new order of two currencies: %d %s", mixed.Code, mixed.Body)
	}
}
