package idempotency_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/postgres"
)

const tea, coffee = `{"item":"tea"}`, `{"item":"coffee"}`

// wantOneWinner checks that of answers to one request one is new and the others repeat it.
func wantOneWinner(t *testing.T, answers []answer) answer {
	t.Helper()
	i := slices.IndexFunc(answers, func(a answer) bool { return a.replayed == "" })
	if i < 0 {
		t.Fatal("every answer claims to be a replay")
	}
	first := answers[i]
	wantFirst(t, first)
	for _, a := range slices.Delete(answers, i, i+1) {
		wantReplay(t, a, first)
	}
	return first
}

func TestKey_FiftyConcurrentRequestsMakeOneOrder(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	wantOneWinner(t, s.atOnce(slices.Repeat([]request{{merchant: "acme", key: "k", basket: tea}}, 50)...))
	s.wantOrders(1)
}

func TestKey_RetryGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	first := s.must(request{merchant: "acme", key: "k", basket: tea})
	wantFirst(t, first)
	s.exec(`UPDATE orders SET basket = 'changed since'`)
	for _, r := range []request{
		{merchant: "acme", key: "k", basket: tea},
		{merchant: "acme", key: `"k"`, basket: ` { "item" : "tea" } `}, // written in another way, the same request
	} {
		wantReplay(t, s.must(r), first)
	}
	s.wantOrders(1)
}

// Answering the second basket with the first order would drop it without a word;
// working on it would break the promise to the first.
func TestKey_ReusedForOtherContentIsRefused(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	first := s.must(request{merchant: "acme", key: "k", basket: tea})
	wantFirst(t, first)
	wantReused(t, s.must(request{merchant: "acme", key: "k", basket: coffee}))
	s.wantOrders(1)
	wantReplay(t, s.must(request{merchant: "acme", key: "k", basket: tea}), first)

	// The path is content as well: one template, two shops.
	wantFirst(t, s.must(request{path: "/shops/north/orders", merchant: "acme", key: "k", basket: tea}))
	wantReused(t, s.must(request{path: "/shops/south/orders", merchant: "acme", key: "k", basket: tea}))
	s.wantOrders(2)
}

func TestKey_ConcurrentlyReusedForOtherContentIsRefused(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	answers := s.atOnce(request{merchant: "acme", key: "k", basket: tea}, request{merchant: "acme", key: "k", basket: coffee})
	if answers[0].status != http.StatusCreated {
		slices.Reverse(answers)
	}
	wantFirst(t, answers[0])
	wantReused(t, answers[1])
	s.wantOrders(1)
}

func TestKey_IsSeparateForEachMerchant(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	acme := s.must(request{merchant: "acme", key: "k", basket: tea})
	wantFirst(t, acme)
	other := s.must(request{merchant: "other", key: "k", basket: tea})
	wantFirst(t, other)
	s.wantOrders(2)
	wantReplay(t, s.must(request{merchant: "acme", key: "k", basket: tea}), acme)
	wantReplay(t, s.must(request{merchant: "other", key: "k", basket: tea}), other)
	s.wantOrders(2)
}

func TestKey_IsSeparateForEachOperation(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	requests := []request{
		{method: http.MethodPost, path: "/orders", merchant: "acme", key: "k", basket: tea},
		{method: http.MethodPut, path: "/orders", merchant: "acme", key: "k", basket: tea},
		{method: http.MethodPost, path: "/gifts", merchant: "acme", key: "k", basket: tea},
		{method: http.MethodPost, path: "/shops/north/orders", merchant: "acme", key: "k", basket: tea},
	}
	first := make([]answer, len(requests))
	for i, r := range requests {
		first[i] = s.must(r)
		wantFirst(t, first[i])
	}
	for i, r := range requests {
		wantReplay(t, s.must(r), first[i])
	}
	s.wantOrders(len(requests))
}

// After the retention the key is free, for other content too, and not only once.
func TestRecord_ExpiredIsReplaced(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	wantFirst(t, s.must(request{merchant: "acme", key: "k", basket: tea}))
	for orders := 2; orders <= 3; orders++ {
		s.exec(`UPDATE idempotency_keys SET created_at = now() - interval '1 hour', expires_at = now()`)
		again := s.must(request{merchant: "acme", key: "k", basket: coffee})
		wantFirst(t, again)
		wantReplay(t, s.must(request{merchant: "acme", key: "k", basket: coffee}), again)
		wantReused(t, s.must(request{merchant: "acme", key: "k", basket: tea}))
		s.wantOrders(orders)
	}
}

func TestRecord_ConcurrentRequestsReplaceAnExpiredOneOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	wantFirst(t, s.must(request{merchant: "acme", key: "k", basket: tea}))
	s.exec(`UPDATE idempotency_keys SET expires_at = now()`)
	wantOneWinner(t, s.atOnce(slices.Repeat([]request{{merchant: "acme", key: "k", basket: coffee}}, 20)...))
	s.wantOrders(2)
}

func TestRecord_IsKeptForTheRetention(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	r := request{merchant: "acme", key: "k", basket: tea}
	first := s.must(r)
	s.exec(`UPDATE idempotency_keys SET expires_at = expires_at - interval '59 minutes'`)
	wantReplay(t, s.must(r), first)
	s.exec(`UPDATE idempotency_keys SET expires_at = expires_at - interval '1 minute'`)
	wantFirst(t, s.must(r))
	s.wantOrders(2)
}

// A record without its work would answer "done" forever.
func TestRecord_WorkThatFailsLeavesTheKeyFree(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	r := request{merchant: "acme", key: "k", basket: tea}
	s.exec(`UPDATE stock SET remaining = 0`)
	if a := s.must(r); a.status != http.StatusInternalServerError {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	s.exec(`UPDATE stock SET remaining = 1000`)
	s.wantOrders(0)
	wantFirst(t, s.must(r))
	s.wantOrders(1)
}

// The other request's answer never gets into the caller's hands: a handler that compares
// nothing refuses the request all the same.
func TestLookup_FailsWhenTheKeyStandsForOtherContent(t *testing.T) {
	t.Parallel()
	db := open(t)
	asked := idempotency.Request{Merchant: "acme", Operation: "POST /orders", Key: "k", Fingerprint: [32]byte{1}, Retention: retention}
	other := asked
	other.Fingerprint = [32]byte{2}
	err := pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
		return asked.RecordTx(t.Context(), tx, idempotency.Response{Status: http.StatusCreated, Body: []byte("tea")})
	})
	if err != nil {
		t.Fatal(err)
	}
	for form, lookup := range map[string]func(r idempotency.Request) (idempotency.Recorded, error){
		"in a batch": func(r idempotency.Request) (found idempotency.Recorded, err error) {
			err = postgres.Read(t.Context(), db, func(b *pgx.Batch) { r.Lookup(b, &found) })
			return found, err
		},
		"in a transaction": func(r idempotency.Request) (found idempotency.Recorded, err error) {
			err = pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
				found, err = r.LookupTx(t.Context(), tx)
				return err
			})
			return found, err
		},
	} {
		if found, err := lookup(asked); err != nil || string(found.Body) != "tea" {
			t.Errorf("%s: found %q, %v", form, found.Body, err)
		}
		if found, err := lookup(other); !errors.Is(err, idempotency.ErrKeyReused) || found.Exists || len(found.Body) > 0 {
			t.Errorf("%s, other content: found %q, %v", form, found.Body, err)
		}
	}
}

// pgx's own transaction, without ours: the record undoes the work of a second one.
func TestRecordTx_UndoesTheWorkWhenTheKeyIsRecorded(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	r := idempotency.Request{Merchant: "acme", Operation: "POST /orders", Key: "k", Retention: retention}
	for i := range 2 {
		err := pgx.BeginFunc(t.Context(), s.db, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `INSERT INTO orders VALUES ($1, 'acme', '{}')`, uuid.New())
			_, err2 := tx.Exec(t.Context(), `UPDATE stock SET remaining = remaining - 1`)
			return errors.Join(err, err2, r.RecordTx(t.Context(), tx, idempotency.Response{Status: http.StatusCreated}))
		})
		if (err != nil) != (i == 1) || idempotency.IsDuplicate(err) != (i == 1) {
			t.Errorf("time %d: %v", i+1, err)
		}
	}
	s.wantOrders(1)
}

// An answer without body is one that clients wait for like any other.
func TestRecord_TakesAnAnswerWithoutHeadersAndBody(t *testing.T) {
	t.Parallel()
	db := open(t)
	accepted := idempotency.Response{Status: http.StatusAccepted}
	for key, record := range map[string]func(idempotency.Request) error{
		"with the work": func(r idempotency.Request) error {
			return postgres.Write(t.Context(), db, func(b *pgx.Batch) { r.Record(b, accepted) })
		},
		"after the work": func(r idempotency.Request) error {
			start := func(context.Context, pgx.Tx) (uuid.UUID, error) { return uuid.New(), nil }
			_, lock, err := r.Acquire(t.Context(), db, idempotency.LockOptions{Lease: retention}, start)
			if err != nil {
				return err
			}
			return postgres.InTx(t.Context(), db, func(ctx context.Context, tx pgx.Tx) error { return lock.Finish(ctx, tx, accepted) })
		},
	} {
		r := idempotency.Request{Merchant: "acme", Operation: "POST /orders", Key: key, Retention: retention}
		if err := record(r); err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		var found idempotency.Recorded
		if err := postgres.Read(t.Context(), db, func(b *pgx.Batch) { r.Lookup(b, &found) }); err != nil {
			t.Fatal(err)
		}
		out := httptest.NewRecorder()
		if err := found.Answer(out); err != nil {
			t.Fatal(err)
		}
		if out.Code != http.StatusAccepted || out.Body.Len() > 0 || out.Header().Get(idempotency.HeaderReplayed) != "true" {
			t.Errorf("%s: status %d, headers %v, body %s", key, out.Code, out.Header(), out.Body)
		}
	}
}
