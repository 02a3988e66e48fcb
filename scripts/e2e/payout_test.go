package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
)

// payable makes sure that something is available, and returns the request that
// pays a little of it out.
func payable(ctx context.Context, t *testing.T) asked {
	t.Helper()
	sold(ctx, t, mug)
	for available(ctx, t) < 100 {
		if ctx.Err() != nil {
			t.Fatal("the sale was not settled")
		}
		time.Sleep(20 * time.Millisecond)
	}
	return asked{acme.Payments + "/v1/payouts", []byte(`{"amount":{"minor":100,"currency":"GBP"}}`)}
}

// available is what the merchant could have paid out.
func available(ctx context.Context, t *testing.T) (minor int64) {
	t.Helper()
	err := truth.Ledger.QueryRow(ctx, `
		SELECT COALESCE(sum(CASE kind WHEN 'merchant_available' THEN balance_minor ELSE LEAST(0, balance_minor) END), 0)::bigint
		  FROM accounts
		 WHERE merchant_id = 'mer_acme'
		   AND currency = 'GBP'`).Scan(&minor)
	if err != nil {
		t.Fatal(err)
	}
	return minor
}

type payoutAnswer struct {
	ID, Status, Failure string
}

func payout(ctx context.Context, t *testing.T, request asked, key string) (int, payoutAnswer, []byte) {
	t.Helper()
	a, _, err := acme.InsistAt(ctx, request.url, key, request.body, nil)
	if err != nil {
		t.Fatal(err)
	}
	var p payoutAnswer
	if err := json.Unmarshal(a.Body, &p); err != nil {
		t.Fatalf("%v: %s", err, a.Body)
	}
	return a.Status, p, a.Body
}

func TestPayout_IsSentOnceAndReplayedByteForByte(t *testing.T) {
	ctx := limit(t)
	request, key := payable(ctx, t), uuid.NewString()
	status, p, first := payout(ctx, t, request, key)
	if status != http.StatusCreated || p.Status != "sent" {
		t.Errorf("status %d: %s", status, first)
	}
	if _, _, second := payout(ctx, t, request, key); !bytes.Equal(first, second) {
		t.Errorf("the replay differs: %s and %s", first, second)
	}
	allHolds(ctx, t)
}

// The bank's answer is lost, after it has sent the money or before. We do not know
// which, and we do not ask again: at most once.
func TestPayout_WithoutABankAnswerIsUnknownAndSentNoMore(t *testing.T) {
	ctx := limit(t)
	for _, mishap := range []string{"lose_answer", "fail_before"} {
		request, key := payable(ctx, t), uuid.NewString()
		misbehave(ctx, t, `{"rules":[{"contract":"bank.transfers","fault":"`+mishap+`","times":1}]}`)
		status, p, body := payout(ctx, t, request, key)
		if status != http.StatusAccepted || p.Status != "unknown" {
			t.Errorf("%s: status %d: %s", mishap, status, body)
		}
		for range 3 {
			if _, _, again := payout(ctx, t, request, key); !bytes.Equal(body, again) {
				t.Errorf("%s: the replay differs: %s and %s", mishap, body, again)
			}
		}
		allHolds(ctx, t)
	}
}

func TestPayout_RefusedByTheBankReturnsToTheMerchant(t *testing.T) {
	ctx := limit(t)
	request := payable(ctx, t)
	allHolds(ctx, t) // nothing else is on its way to the account
	before := available(ctx, t)
	misbehave(ctx, t, `{"rules":[{"contract":"bank.transfers","fault":"refuse","times":1}]}`)
	status, p, body := payout(ctx, t, request, uuid.NewString())
	if status != http.StatusCreated || p.Status != "failed" || p.Failure != "transfer_refused" {
		t.Errorf("status %d: %s", status, body)
	}
	allHolds(ctx, t)
	if after := available(ctx, t); after != before {
		t.Errorf("available before %d, after %d", before, after)
	}
}

// Ten clients each want all that is available. One gets it; the others change
// nothing. What counts is decided under a lock, over two accounts.
func TestPayout_ConcurrentOnesNeverExceedTheBalance(t *testing.T) {
	ctx := limit(t)
	payable(ctx, t)
	allHolds(ctx, t) // nothing else is on its way to the account
	all, err := json.Marshal(map[string]any{"amount": map[string]any{"minor": available(ctx, t), "currency": "GBP"}})
	if err != nil {
		t.Fatal(err)
	}
	request := asked{acme.Payments + "/v1/payouts", all}
	var mu sync.Mutex
	statuses := map[int]int{}
	var clients sync.WaitGroup
	for range 10 {
		clients.Go(func() {
			a, _, err := acme.InsistAt(ctx, request.url, uuid.NewString(), request.body, nil)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[a.Status]++
		})
	}
	clients.Wait()
	allHolds(ctx, t)
	if paid := statuses[http.StatusCreated] + statuses[http.StatusAccepted]; paid < 1 || statuses[http.StatusUnprocessableEntity]+paid != 10 {
		t.Errorf("statuses %v", statuses)
	}
	var booked int
	err = truth.Ledger.QueryRow(ctx, `SELECT count(*) FROM postings p JOIN entries e ON e.id = p.entry_id WHERE e.kind = 'payout' AND p.account_id = 'merchant_available:mer_acme:GBP' AND p.amount_minor = -$1::bigint`,
		request.minor(t)).Scan(&booked)
	if err != nil || booked != 1 {
		t.Errorf("%d payouts of the whole balance were booked, %v", booked, err)
	}
}

func (a asked) minor(t *testing.T) int64 {
	t.Helper()
	var in struct {
		Amount struct {
			Minor int64 `json:"minor"`
		} `json:"amount"`
	}
	if err := json.Unmarshal(a.body, &in); err != nil {
		t.Fatal(err)
	}
	return in.Amount.Minor
}

func TestPayout_BeyondTheBalanceGetsTheSameRefusalEachTime(t *testing.T) {
	ctx := limit(t)
	answers := &shop.Answers{URL: acme.Payments + "/v1/payouts", Key: uuid.NewString()}
	for range 3 {
		a, _, err := acme.InsistAt(ctx, answers.URL, answers.Key, []byte(`{"amount":{"minor":900000000000,"currency":"GBP"}}`), answers.Heard)
		if err != nil || a.Status != http.StatusUnprocessableEntity {
			t.Fatalf("%s, %v", a, err)
		}
	}
	if _, differing := answers.Verdict(); len(differing) > 0 {
		t.Error(differing)
	}
	allHolds(ctx, t)
}
