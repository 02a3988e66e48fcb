package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/shared/platform/fault"
)

// sold places an order and waits until it is confirmed.
func sold(ctx context.Context, t *testing.T, items ...shop.Item) shop.Order {
	t.Helper()
	o, err := acme.Finished(ctx, order(ctx, t, shop.CardWorks, items...).ID)
	if err != nil || o.Status != "confirmed" {
		t.Fatalf("order %+v, %v", o, err)
	}
	return o
}

// asked is a request that is ready to be sent.
type asked struct {
	url  string
	body []byte
}

// refundable sells something and returns the request that gives it back.
func refundable(ctx context.Context, t *testing.T) asked {
	t.Helper()
	return asked{acme.Payments + "/v1/refunds", fmt.Appendf(nil, `{"payment_id":%q}`, sold(ctx, t, mug).PaymentID)}
}

func partOf(o shop.Order, minor int) []byte {
	return fmt.Appendf(nil, `{"payment_id":%q,"amount":{"minor":%d,"currency":"GBP"}}`, o.PaymentID, minor)
}

type refundAnswer struct {
	ID, Status, Failure string
}

func TestRefund_IsAnsweredAtOnceAndReplayedByteForByte(t *testing.T) {
	ctx := limit(t)
	request, key := refundable(ctx, t), uuid.NewString()
	first, err := acme.Post(ctx, request.url, key, request.body)
	if err != nil || first.Status != http.StatusCreated {
		t.Fatalf("status %d, %v: %s", first.Status, err, first.Body)
	}
	second, err := acme.Post(ctx, request.url, key, request.body)
	if err != nil || !bytes.Equal(first.Body, second.Body) || second.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the replay differs: %d %s, %v", second.Status, second.Body, err)
	}
	other, err := acme.Post(ctx, request.url, key, []byte(`{"payment_id":"pay_`+uuid.NewString()+`"}`))
	if err != nil || other.Status != http.StatusUnprocessableEntity {
		t.Errorf("other content under the key: %d %s, %v", other.Status, other.Body, err)
	}
	shown, err := acme.Get(ctx, acme.Payments+first.Header.Get("Location"))
	if err != nil || !bytes.Equal(bytes.TrimSpace(shown.Body), bytes.TrimSpace(first.Body)) {
		t.Errorf("GET shows %s, the answer was %s (%v)", shown.Body, first.Body, err)
	}
	allHolds(ctx, t)
}

// Fifty clients with fifty keys each want a fifth of the same payment back.
func TestRefund_ConcurrentOnesStayWithinTheCapture(t *testing.T) {
	ctx := limit(t)
	o := sold(ctx, t, shop.Item{SKU: "shirt", Quantity: 1}) // 25.00
	var mu sync.Mutex
	statuses := map[int]int{}
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() {
			a, _, err := acme.InsistAt(ctx, acme.Payments+"/v1/refunds", uuid.NewString(), partOf(o, 500), nil)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[a.Status]++
		})
	}
	clients.Wait()
	if done := statuses[http.StatusCreated] + statuses[http.StatusAccepted]; done != 5 || statuses[http.StatusUnprocessableEntity] != 45 {
		t.Errorf("statuses %v, want 5 accepted and 45 refused", statuses)
	}
	allHolds(ctx, t)
}

func TestRefund_RefusedByTheCardFreesItsAmount(t *testing.T) {
	ctx := limit(t)
	o := sold(ctx, t, mug)
	misbehave(ctx, t, `{"rules":[{"contract":"charges.refund","fault":"refuse","times":1}]}`)
	var got refundAnswer
	a, err := acme.Post(ctx, acme.Payments+"/v1/refunds", uuid.NewString(), partOf(o, 1250))
	if err == nil {
		err = json.Unmarshal(a.Body, &got)
	}
	if err != nil || a.Status != http.StatusCreated || got.Status != "failed" || got.Failure != "refund_failed" {
		t.Errorf("status %d, %v: %s", a.Status, err, a.Body)
	}
	if a, err := acme.Post(ctx, acme.Payments+"/v1/refunds", uuid.NewString(), partOf(o, 1250)); err != nil || a.Status != http.StatusCreated {
		t.Errorf("the second try: status %d, %v: %s", a.Status, err, a.Body)
	}
	allHolds(ctx, t)
}

// The answer of the processor is lost: the outcome is not known, so the client
// is told "accepted", and the completer finishes it under the same key.
func TestRefund_WhoseAnswerIsLostIsMadeOnce(t *testing.T) {
	ctx := limit(t)
	for name, rule := range map[string]string{
		"lost":     `{"contract":"charges.refund","fault":"lose_answer","times":1}`,
		"too late": `{"contract":"charges.refund","fault":"delay","delay_ms":2500,"times":1}`,
		"not done": `{"contract":"charges.refund","fault":"fail_before","times":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			o := sold(ctx, t, mug)
			misbehave(ctx, t, `{"rules":[`+rule+`]}`)
			a, err := acme.Post(ctx, acme.Payments+"/v1/refunds", uuid.NewString(), partOf(o, 1000))
			if err != nil || a.Status != http.StatusAccepted {
				t.Errorf("status %d, %v: %s", a.Status, err, a.Body)
			}
			allHolds(ctx, t)
			var got refundAnswer
			shown, err := acme.Get(ctx, acme.Payments+a.Header.Get("Location"))
			if err == nil {
				err = json.Unmarshal(shown.Body, &got)
			}
			if err != nil || got.Status != "succeeded" {
				t.Errorf("in the end: %s, %v", shown.Body, err)
			}
		})
	}
}

// A retry arrives while the first request is still at work: it waits, for a
// bounded time, then it is told to come back; it never works beside the first.
func TestRefund_ConcurrentRetryWaitsThenGets409(t *testing.T) {
	ctx := limit(t)
	request, key := refundable(ctx, t), uuid.NewString()
	if err := acme.ArmDelay(ctx, acme.Payments, fault.PaymentsRefundAfterProcessor, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	first := make(chan shop.Answer, 1)
	go func() {
		a, _ := acme.Post(ctx, request.url, key, request.body)
		first <- a
	}()
	awaitLock(ctx, t, key)
	second, err := acme.Post(ctx, request.url, key, request.body)
	if err != nil || second.Status != http.StatusConflict || second.Header.Get("Retry-After") == "" {
		t.Errorf("the retry got %d %s, %v", second.Status, second.Body, err)
	}
	a := <-first
	if a.Status != http.StatusCreated {
		t.Errorf("the first request got %d %s", a.Status, a.Body)
	}
	third, err := acme.Post(ctx, request.url, key, request.body)
	if err != nil || !bytes.Equal(third.Body, a.Body) {
		t.Errorf("afterwards the retry got %d %s, %v", third.Status, third.Body, err)
	}
	allHolds(ctx, t)
}

// The first request is slower than its lease. A retry takes the key over and
// finishes; the first one comes back to life and must not write any more.
func TestRefund_TakenOverWritesNothing(t *testing.T) {
	ctx := limit(t)
	request, key := refundable(ctx, t), uuid.NewString()
	if err := acme.ArmDelay(ctx, acme.Payments, fault.PaymentsRefundAfterProcessor, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	first := make(chan shop.Answer, 1)
	go func() {
		a, _ := acme.Post(ctx, request.url, key, request.body)
		first <- a
	}()
	awaitLock(ctx, t, key)
	second, _, err := acme.InsistAt(ctx, request.url, key, request.body, nil)
	if err != nil || second.Status != http.StatusCreated {
		t.Errorf("the retry got %d %s, %v", second.Status, second.Body, err)
	}
	select {
	case a := <-first:
		t.Errorf("the first request was done before the retry: %d %s", a.Status, a.Body)
	default:
	}
	if a := <-first; a.Status != http.StatusCreated || !bytes.Equal(a.Body, second.Body) {
		t.Errorf("the first request, overtaken, got %d %s, the retry %s", a.Status, a.Body, second.Body)
	}
	allHolds(ctx, t)
}

// awaitLock waits until somebody works under the key.
func awaitLock(ctx context.Context, t *testing.T, key string) {
	t.Helper()
	for {
		var locked bool
		err := truth.Payments.QueryRow(ctx, `SELECT EXISTS (SELECT FROM idempotency_keys WHERE key = $1 AND locked_until > now())`, key).Scan(&locked)
		if locked {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("no request took the key: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestRefund_BadRequestsAreRefusedAndChangeNothing(t *testing.T) {
	ctx := limit(t)
	o := sold(ctx, t, mug)
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"no payment":      {`{}`, 422},
		"unknown payment": {`{"payment_id":"pay_` + uuid.NewString() + `"}`, 422},
		"zero":            {string(partOf(o, 0)), 422},
		"negative":        {string(partOf(o, -1)), 422},
		"too much":        {string(partOf(o, 1251)), 422},
		"other currency":  {fmt.Sprintf(`{"payment_id":%q,"amount":{"minor":1,"currency":"EUR"}}`, o.PaymentID), 422},
		"unknown field":   {fmt.Sprintf(`{"payment_id":%q,"amont":1}`, o.PaymentID), 422},
		"not json":        {`{`, 400},
	} {
		a, err := acme.Post(ctx, acme.Payments+"/v1/refunds", uuid.NewString(), []byte(c.body))
		if err != nil || a.Status != c.status || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s, %v", name, a.Status, a.Body, err)
		}
	}
	if a, err := acme.Post(ctx, acme.Payments+"/v1/refunds", "", partOf(o, 1)); err != nil || a.Status != http.StatusBadRequest {
		t.Errorf("no key: %d %s, %v", a.Status, a.Body, err)
	}
	var refunds int
	if err := truth.Payments.QueryRow(ctx, `SELECT count(*) FROM refunds WHERE 'pay_' || payment_id = $1`, o.PaymentID).Scan(&refunds); err != nil || refunds != 0 {
		t.Errorf("%d refunds were written, %v", refunds, err)
	}
}
