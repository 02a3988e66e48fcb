package main

import (
	"testing"

	"github.com/google/uuid"
)

// A settlement that comes before its sale fails, and comes again later. Its first try must
// leave nothing behind that makes the second one look like a duplicate.
func TestSettle_ThatOvertakesItsSaleIsBookedWhenItComesAgain(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	cmd := order(100)
	settled := message(t, "ledger.settle", settlement{
		Kind: "charge", OperationID: uuid.New(), OrderID: cmd.OrderID, PaymentID: cmd.PaymentID, MerchantID: cmd.MerchantID, Amount: cmd.Amount,
	})
	if err := l.receive(t.Context(), settled); err == nil {
		t.Error("a settlement without a sale was done with")
	}
	l.deliver(message(t, "ledger.post-sale", cmd), settled, settled)
	if n := l.kinds(cmd.PaymentID)["settlement"]; n != 1 {
		t.Errorf("settled %d times, want 1", n)
	}
	l.booksBalance()
}

// A payout in doubt keeps the merchant's account locked: the booking fails and comes again,
// although the sale is there. What the first try has written must not make the second one
// look like a duplicate.
func TestSettle_WhoseBookingFailsIsBookedWhenItComesAgain(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	cmd := order(100)
	l.deliver(message(t, "ledger.post-sale", cmd))
	settled := message(t, "ledger.settle", settlement{
		Kind: "charge", OperationID: uuid.New(), OrderID: cmd.OrderID, PaymentID: cmd.PaymentID, MerchantID: cmd.MerchantID, Amount: cmd.Amount,
	})
	payout, err := l.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer payout.Rollback(t.Context()) //nolint:errcheck // it is rolled back below, and here when the test has failed
	if _, err := payout.Exec(t.Context(), `SELECT FROM accounts WHERE id = $1 FOR NO KEY UPDATE`, pending); err != nil {
		t.Fatal(err)
	}
	if err := l.receive(t.Context(), settled); err == nil {
		t.Error("a settlement was done with, although its account is locked")
	}
	if err := payout.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.deliver(settled, settled)
	if n := l.kinds(cmd.PaymentID)["settlement"]; n != 1 {
		t.Errorf("its account was locked when the message came first; it came twice more, and is settled %d times, want 1", n)
	}
	l.booksBalance()
}
