package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/platform/postgres"
)

// Between sales lie entries that say nothing to the outside, more of them than a
// page holds. A reader of the journal sees all of the rest.
func TestJournal_GoesOnPastEntriesThatItLeavesOut(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	want := []string{}
	for n := range 12 {
		e := transfer(fmt.Sprint("inside-", n), cash, available, 1)
		if n%4 == 3 {
			e = transfer(fmt.Sprint("seen-", n), cash, transit, 1)
			want = append(want, e.Source)
		}
		l.book(e).want(t, http.StatusCreated, "")
	}
	for limit := 1; limit <= 12; limit++ {
		got, cursor := []string{}, ""
		for first := true; first || cursor != ""; first = false {
			var page struct {
				Data       []struct{ Source string }
				NextCursor *string `json:"next_cursor"`
			}
			l.call(http.MethodGet, fmt.Sprintf("/v1/journal?limit=%d&cursor=%s", limit, cursor), serviceKey, nil).decode(t, &page)
			for _, line := range page.Data {
				got = append(got, line.Source)
			}
			cursor = ""
			if page.NextCursor != nil {
				cursor = *page.NextCursor
			}
		}
		same(t, fmt.Sprint("pages of ", limit), got, want)
	}
}

// A settlement has inserted its postings, and so holds its accounts by their keys; it
// has not moved a balance yet. A payout that locked the accounts against that would
// wait for it, while it waits for the payout.
func TestMayPay_DecidesBesideASettlementOnTheSameAccounts(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	const pending = "merchant_pending:mer_acme:GBP"
	l.book(transfer("opening", cash, pending, 500)).want(t, http.StatusCreated, "")
	l.book(transfer("funding", cash, available, 500)).want(t, http.StatusCreated, "")
	settlement := l.beforeItsLocks(stored(transfer("settlement", pending, available, 100)))

	tx, err := l.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // it has changed nothing
	if _, err := tx.Exec(t.Context(), `SET LOCAL lock_timeout = '2s'`); err != nil {
		t.Fatal(err)
	}
	if err := mayPay(t.Context(), tx, stored(transfer("payout", available, transit, 500))); err != nil {
		t.Errorf("the payout waits for the settlement's keys: %v", err)
	}
	// What it has read cannot change all the same: the balances are locked.
	if _, err := settlement.Exec(t.Context(), `SET LOCAL lock_timeout = '100ms'`); err != nil {
		t.Fatal(err)
	}
	if settlement.run(t.Context(), 1); settlement.err == nil {
		t.Error("a balance moves while a payout of it is being decided")
	}
}

func TestAmount_ThatCouldOverflowABalanceIsRefused(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	l.book(transfer("largest", cash, transit, maxMinor)).want(t, http.StatusCreated, "")
	for _, amount := range []int64{maxMinor + 1, math.MaxInt64, math.MinInt64 + 1} {
		l.book(transfer(fmt.Sprint(amount), cash, transit, amount)).want(t, http.StatusUnprocessableEntity, "invalid-field")
	}
	// One posting too large either way, and the others together its opposite.
	for _, sign := range []int64{1, -1} {
		split := transfer(fmt.Sprint("split ", sign), cash, transit, sign*maxMinor)
		split.Postings = append(split.Postings, split.Postings[0])
		split.Postings[1].Amount.Minor *= 2
		l.book(split).want(t, http.StatusUnprocessableEntity, "invalid-field")
	}
	sale := order(math.MaxInt64)
	for kind, data := range map[string]any{
		"ledger.post-sale": sale, "ledger.reverse-sale": sale,
		"ledger.settle":          settlement{Kind: "refund", OperationID: uuid.New(), OrderID: sale.OrderID, PaymentID: sale.PaymentID, MerchantID: acme, Amount: sale.Amount},
		"ledger.payout-sent":     payoutNews{PayoutID: "pyo_1", MerchantID: acme, Amount: sale.Amount},
		"ledger.payout-returned": payoutNews{PayoutID: "pyo_2", MerchantID: acme, Amount: sale.Amount},
	} {
		if err := l.receive(t.Context(), message(t, kind, data)); err == nil {
			t.Errorf("%s over %d is accepted", kind, sale.Amount.Minor)
		}
	}
	same(t, "balances", l.balances(), map[string]int64{cash: -maxMinor, transit: maxMinor})

	// The largest entry moves one account without overflowing.
	full := stored(newEntry{Kind: "test", Source: "full", Reference: "r", MerchantID: acme})
	for range maxPostings {
		full.Postings = append(full.Postings, posting{cash, maxMinor})
	}
	var b pgx.Batch
	full.insert(&b)
	moved := b.QueuedQueries[len(b.QueuedQueries)-1].Arguments[1]
	same(t, "moved", moved, any(int64(maxPostings*maxMinor)))
}

// What all merchants do adds up on the platform's accounts: no sum stops a sale.
func TestBalance_OfThePlatformHasNoBound(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	l.deliver(message(t, "ledger.post-sale", order(100)))
	if _, err := l.db.Exec(t.Context(), `UPDATE accounts SET balance_minor = -9223372036854775807 WHERE id = 'card_receivable:GBP'`); err != nil {
		t.Fatal(err)
	}
	sale := order(1000)
	l.deliver(message(t, "ledger.post-sale", sale))
	same(t, "replies", l.replies(sale.OrderID), []string{"post-sale done"})
}

// A merchant's own balance fits the number that it is shown as. A sale beyond that is refused.
func TestBalance_OfAMerchantIsBounded(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	l.deliver(message(t, "ledger.post-sale", order(100)))
	if _, err := l.db.Exec(t.Context(), `UPDATE accounts SET balance_minor = 9000000000000000000 WHERE id = 'merchant_pending:mer_acme:GBP'`); err != nil {
		t.Fatal(err)
	}
	sale := order(1000)
	l.deliver(message(t, "ledger.post-sale", sale))
	same(t, "replies", l.replies(sale.OrderID), []string{"post-sale refused account_full"})
	l.book(transfer("more", cash, "merchant_pending:mer_acme:GBP", 1)).want(t, http.StatusUnprocessableEntity, "insufficient-balance")
}

func TestAccount_MayBeAskedForWithEscapedColons(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	l.book(transfer("funding", cash, available, 100)).want(t, http.StatusCreated, "")
	var view accountView
	l.call(http.MethodGet, "/v1/accounts/merchant_available%3Amer_acme%3AGBP", acmeKey, nil).decode(t, &view)
	same(t, "balance", view.Balance, gbp(100))
}

// A client that can send a message on the broker moves only what the books know of.
func TestReceive_AForgedMessageMovesNothing(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	sale := order(1000)
	l.deliver(message(t, "ledger.post-sale", sale))
	l.book(transfer("funding", cash, available, 1000)).want(t, http.StatusCreated, "")
	payout := newEntry{Kind: "payout", Source: "pyo_1", Reference: "pyo_1", MerchantID: acme, Postings: transfer("", available, transit, 500).Postings}
	l.book(payout).want(t, http.StatusCreated, "")
	refund := newEntry{Kind: "refund", Source: "ref_1", Reference: sale.PaymentID, MerchantID: acme,
		Postings: transfer("", "merchant_pending:mer_acme:GBP", "card_receivable:GBP", 300).Postings}
	l.book(refund).want(t, http.StatusCreated, "")
	before := l.balances()
	charge := func(payment string, amount int64) settlement {
		return settlement{Kind: "charge", OrderID: sale.OrderID, PaymentID: payment, MerchantID: acme, Amount: gbp(amount)}
	}
	refunded := func(payment, merchant string, amount int64) settlement {
		return settlement{Kind: "refund", OperationID: uuid.New(), OrderID: sale.OrderID, PaymentID: payment, MerchantID: merchant, Amount: gbp(amount)}
	}
	for what, m := range map[string]event.Event{
		"a payout that was not":       message(t, "ledger.payout-returned", payoutNews{PayoutID: "pyo_2", MerchantID: acme, Amount: gbp(500)}),
		"more than was paid out":      message(t, "ledger.payout-returned", payoutNews{PayoutID: "pyo_1", MerchantID: acme, Amount: gbp(5_000_000)}),
		"another's payout":            message(t, "ledger.payout-returned", payoutNews{PayoutID: "pyo_1", MerchantID: other, Amount: gbp(500)}),
		"more than was sent":          message(t, "ledger.payout-sent", payoutNews{PayoutID: "pyo_1", MerchantID: acme, Amount: gbp(501)}),
		"more than was sold":          message(t, "ledger.settle", charge(sale.PaymentID, 2000)),
		"another payment of the sale": message(t, "ledger.settle", charge("pay_other", 1000)),
		"more than was refunded":      message(t, "ledger.settle", refunded(sale.PaymentID, acme, 301)),
		"another's refund":            message(t, "ledger.settle", refunded(sale.PaymentID, other, 300)),
		"a refund that was not":       message(t, "ledger.settle", refunded("pay_other", acme, 1)),
	} {
		if err := l.receive(t.Context(), m); err == nil {
			t.Errorf("%s: booked", what)
		}
	}
	same(t, "balances", l.balances(), before)

	// What the books know of is booked, and ends once.
	l.deliver(message(t, "ledger.payout-sent", payoutNews{PayoutID: "pyo_1", MerchantID: acme, Amount: gbp(500)}),
		message(t, "ledger.settle", charge(sale.PaymentID, 1000)), message(t, "ledger.settle", refunded(sale.PaymentID, acme, 300)))
	returned := message(t, "ledger.payout-returned", payoutNews{PayoutID: "pyo_1", MerchantID: acme, Amount: gbp(500)})
	if err := l.receive(t.Context(), returned); !postgres.Violates(err, "entries_payout_ends_once") {
		t.Errorf("returned after it was sent: %v", err)
	}
	if err := l.receive(t.Context(), message(t, "ledger.settle", refunded(sale.PaymentID, acme, 1))); err == nil {
		t.Error("more was settled than was refunded")
	}
	l.booksBalance()
}

func TestQuery_TextPostgreSQLCannotHoldIsTheClientsError(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	for _, path := range []string{"entries?reference=%00", "entries?reference=pay_%00", "entries?reference=%ff", "accounts/%ff", "accounts/cash%00"} {
		l.call(http.MethodGet, "/v1/"+path, acmeKey, nil).want(t, http.StatusBadRequest, "malformed-url")
	}
	a := l.call(http.MethodGet, "/v1/entries?reference=", acmeKey, nil)
	a.want(t, http.StatusUnprocessableEntity, "invalid-field")
	var p struct{ Field string }
	a.decode(t, &p)
	same(t, "field", p.Field, "reference")
	l.call(http.MethodGet, "/v1/accounts/nothing", acmeKey, nil).want(t, http.StatusNotFound, "no-such-account")
}

// A database that cannot be asked says nothing about what is prepared in it: the
// alert must not fall silent.
func TestResolveInDoubt_KeepsTheAgeWhenItCannotBeRead(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	registry := prometheus.NewRegistry()
	l.preparedAge = newPreparedAge(registry)
	l.preparedAge.Set(42)
	l.cfg.TwoPhaseSweep = time.Millisecond
	l.db.Close()
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	l.resolveInDoubt(ctx)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(families, err)
	}
	same(t, "age", families[0].Metric[0].Gauge.GetValue(), 42)
}
