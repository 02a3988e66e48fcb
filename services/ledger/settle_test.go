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
