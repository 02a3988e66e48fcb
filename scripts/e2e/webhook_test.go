package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/shared/platform/fault"
)

// processorNews is a webhook of the processor, as its outbox has it.
type processorNews struct {
	ID   uuid.UUID
	Type string
	Body []byte
}

// send delivers it by hand, signed as the processor signs.
func (n processorNews) send(ctx context.Context, t *testing.T, at time.Time, secret string) int {
	t.Helper()
	signer, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.Sign("evt_"+n.ID.String(), at, n.Body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, acme.Payments+"/webhooks/processor", bytes.NewReader(n.Body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("webhook-id", "evt_"+n.ID.String())
	request.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	request.Header.Set("webhook-signature", signature)
	response, err := acme.HTTP.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// newsOf reads the processor's webhooks about a payment.
func newsOf(ctx context.Context, t *testing.T, paymentID string) []processorNews {
	t.Helper()
	rows, err := truth.Sandbox.Query(ctx, `
		SELECT e.id, e.type, e.body
		  FROM processor_events e
		  JOIN processor_charges c ON c.id = e.charge_id
		 WHERE c.reference = $1
		 ORDER BY e.id`,
		paymentID)
	if err != nil {
		t.Fatal(err)
	}
	news, err := pgx.CollectRows(rows, pgx.RowToStructByPos[processorNews])
	if err != nil {
		t.Fatal(err)
	}
	return news
}

// Three webhooks, one of them twice, in every order there is: the payment, the
// refunds and the books end the same.
func TestWebhook_EveryOrderOfArrivalEndsTheSame(t *testing.T) {
	ctx := limit(t)
	misbehave(ctx, t, `{"rules":[{"contract":"webhooks","fault":"refuse"}]}`) // we deliver them ourselves
	secret := system.Env()["PROCESSOR_WEBHOOK_SECRET"]
	orders := permutations(4)
	ends := map[string][]string{}
	for _, sequence := range orders {
		o := sold(ctx, t, mug)
		for _, part := range []int{300, 200} {
			if a, err := acme.Post(ctx, acme.Payments+"/v1/refunds", uuid.NewString(), partOf(o, part)); err != nil || a.Status != http.StatusCreated {
				t.Fatalf("%d %s, %v", a.Status, a.Body, err)
			}
		}
		news := newsOf(ctx, t, o.PaymentID)
		if len(news) != 3 {
			t.Fatalf("%d webhooks, want 3", len(news))
		}
		news = append(news, news[1]) // one comes twice
		for _, i := range sequence {
			if status := news[i].send(ctx, t, time.Now(), secret); status != http.StatusNoContent {
				t.Fatalf("status %d", status)
			}
		}
		end := booksAfter(ctx, t, o.PaymentID)
		ends[end] = append(ends[end], fmt.Sprint(sequence))
	}
	if len(ends) != 1 {
		t.Errorf("%d orders of arrival have %d ends:\n%v", len(orders), len(ends), ends)
	}
	misbehave(ctx, t, `{"rules":[]}`) // now the processor sends them all once more
	allHolds(ctx, t)
	t.Logf("%d orders of arrival, %d end", len(orders), len(ends))
}

// booksAfter waits until every webhook of a payment is applied and booked, and
// shows what the books then say of it.
func booksAfter(ctx context.Context, t *testing.T, paymentID string) string {
	t.Helper()
	for {
		rows, err := truth.Ledger.Query(ctx, `
			SELECT format('%s %s %s', e.kind, split_part(p.account_id, ':', 1), p.amount_minor)
			  FROM entries e
			  JOIN postings p ON p.entry_id = e.id
			 WHERE e.reference = $1
			   AND e.kind LIKE '%settlement'
			 ORDER BY 1`,
			paymentID)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) == 4+2+2 {
			return strings.Join(lines, "; ")
		}
		if ctx.Err() != nil {
			t.Fatalf("%s: only %v is booked", paymentID, lines)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var all [][]int
	for _, shorter := range permutations(n - 1) {
		for at := range n {
			longer := append(append(append([]int{}, shorter[:at]...), n-1), shorter[at:]...)
			all = append(all, longer)
		}
	}
	return all
}

// The news of the settlement comes while we have not noted the capture yet.
func TestWebhook_BeforeOurOwnRecordIsHeld(t *testing.T) {
	ctx := limit(t)
	if err := acme.ArmDelay(ctx, acme.Payments, fault.PaymentsCaptureAfterProcessor, 1500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	o := order(ctx, t, shop.CardWorks, mug)
	held := false
	for finished := false; !finished; {
		var status string
		var news int
		err := truth.Payments.QueryRow(ctx, `
			SELECT p.status, (SELECT count(*) FROM received_events WHERE stream = 'pay_' || p.id AND applied_at IS NULL)
			  FROM payments p WHERE 'ord_' || p.order_id = $1`, o.ID).Scan(&status, &news)
		held = held || err == nil && status == "authorised" && news == 1
		finished = status == "captured"
		if ctx.Err() != nil {
			t.Fatal("not captured")
		}
	}
	if !held {
		t.Error("the news did not overtake the capture, so nothing was shown")
	}
	allHolds(ctx, t)
}

func TestWebhook_WithoutAValidSignatureIsRefused(t *testing.T) {
	ctx := limit(t)
	n := processorNews{ID: uuid.New(), Body: []byte(`{"type":"charge.settled","data":{"reference":"pay_` + uuid.NewString() + `"}}`)}
	secret := system.Env()["PROCESSOR_WEBHOOK_SECRET"]
	if status := n.send(ctx, t, time.Now(), "whsec_"+strings.Repeat("A", 32)); status != http.StatusUnauthorized {
		t.Errorf("signed by somebody else: %d", status)
	}
	if status := n.send(ctx, t, time.Now().Add(-10*time.Minute), secret); status != http.StatusUnauthorized {
		t.Errorf("a copy of an old one: %d", status)
	}
	var stored int
	if err := truth.Payments.QueryRow(ctx, `SELECT count(*) FROM received_events WHERE event_id = $1`, "evt_"+n.ID.String()).Scan(&stored); err != nil || stored != 0 {
		t.Errorf("%d were stored, %v", stored, err)
	}
}

// News of a payment that we do not know is kept, acknowledged and held.
func TestWebhook_OfAnUnknownPaymentIsKept(t *testing.T) {
	ctx := limit(t)
	n := processorNews{ID: uuid.New(), Body: fmt.Appendf(nil, `{"type":"charge.settled","timestamp":"2026-01-31T12:00:00Z","data":{"operation_id":%q,"reference":"pay_%s","amount":{"minor":1,"currency":"GBP"}}}`,
		uuid.NewString(), uuid.NewString())}
	if status := n.send(ctx, t, time.Now(), system.Env()["PROCESSOR_WEBHOOK_SECRET"]); status != http.StatusNoContent {
		t.Errorf("status %d", status)
	}
	var held bool
	if err := truth.Payments.QueryRow(ctx, `SELECT applied_at IS NULL FROM received_events WHERE event_id = $1`, "evt_"+n.ID.String()).Scan(&held); err != nil || !held {
		t.Errorf("held %v, %v", held, err)
	}
	allHolds(ctx, t)
}
