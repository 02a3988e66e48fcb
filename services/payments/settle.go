package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/outoforder"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/money"
)

// settlement is the data of ledger.settle.
type settlement struct {
	Kind        string      `json:"kind"` // charge or refund
	OperationID uuid.UUID   `json:"operation_id"`
	OrderID     string      `json:"order_id"`
	PaymentID   string      `json:"payment_id"`
	MerchantID  string      `json:"merchant_id"`
	Amount      money.Money `json:"amount"`
}

// settlement composes the message that tells the ledger of one operation.
func (s *service) settlement(ctx context.Context, p payment, kind string, operation uuid.UUID, minor int64) (outbox.Envelope, error) {
	return s.outbox.Envelope(ctx, outbox.Message{Type: "ledger.settle", Subject: p.wireOrderID(), Data: settlement{
		Kind: kind, OperationID: operation, OrderID: p.wireOrderID(), PaymentID: p.wireID(), MerchantID: p.MerchantID,
		Amount: money.Money{Minor: minor, Currency: p.Amount.Currency},
	}})
}

// settle applies one piece of the processor's news, when its time has come: the
// payment's own record of the capture, or of the refund, must be there first. It
// marks the payment and tells the ledger. No orchestrator drives this part: each
// service reacts to what the one before it has said.
//
// Pattern: out-of-order-messages
// Pattern: saga (choreographed)
// Pattern: transactional-outbox
func (s *service) settle(ctx context.Context, tx pgx.Tx, e outoforder.Event) error {
	n, err := decodeNews(e.Body)
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	id, _ := parseID("pay_", n.Data.Reference)
	rows, _ := tx.Query(ctx, selectPayment+`
		 WHERE id = $1
		   FOR UPDATE`,
		id)
	p, err := pgx.CollectExactlyOneRow(rows, scanPayment)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && p.Status != captured:
		return outoforder.ErrNotYet // held, and reported when the payment stays unknown
	case err != nil:
		return err
	}
	var writes pgx.Batch
	kind, isNew := "charge", false
	if e.Type == refundSettled {
		kind = "refund"
		isNew, err = settleRefund(ctx, tx, p, n.Data)
	} else {
		isNew, err = settleCharge(&writes, p, n.Data)
	}
	if err != nil || !isNew {
		return err
	}
	message, err := s.settlement(ctx, p, kind, n.Data.OperationID, n.Data.Amount.Minor)
	if err != nil {
		return err
	}
	message.Append(&writes)
	if err := tx.SendBatch(ctx, &writes).Close(); err != nil {
		return err
	}
	return fault.Point(ctx, fault.PaymentsSettleBeforeCommit)
}

// settleCharge queues the mark that the payment has settled; false when this very operation has
// marked it before. An amount that is not ours is not settled: it stays held, and
// reconciliation shows both sides.
func settleCharge(writes *pgx.Batch, p payment, n settled) (isNew bool, err error) {
	if n.Amount != p.Amount {
		return false, outoforder.ErrNotYet
	}
	if p.SettledAt != nil {
		return false, nil
	}
	writes.Queue(`
		UPDATE payments
		   SET settled_at        = now(),
		       settled_operation = $2
		 WHERE id = $1`,
		p.ID, n.OperationID)
	return true, nil
}

// settleRefund marks one refund of this amount; false when this very operation
// has marked one before. The processor names the charge and the amount only; of
// two equal refunds it does not matter which is which.
func settleRefund(ctx context.Context, tx pgx.Tx, p payment, n settled) (isNew bool, err error) {
	if p.SettledAt == nil {
		return false, outoforder.ErrNotYet
	}
	var before bool
	err = tx.QueryRow(ctx, `
		SELECT EXISTS (
			SELECT FROM refunds
			 WHERE payment_id = $1
			   AND settled_operation = $2)`,
		p.ID, n.OperationID).Scan(&before)
	if err != nil || before {
		return false, err
	}
	tag, err := tx.Exec(ctx, `
		UPDATE refunds
		   SET settled_at        = now(),
		       settled_operation = $4
		 WHERE id = (SELECT id
		               FROM refunds
		              WHERE payment_id = $1
		                AND amount_minor = $2
		                AND currency = $3
		                AND decision = 'succeeded'
		                AND recovery_point = 'finished'
		                AND settled_operation IS NULL
		              ORDER BY id
		              LIMIT 1)`,
		p.ID, n.Amount.Minor, n.Amount.Currency, n.OperationID)
	if err == nil && tag.RowsAffected() == 0 {
		return false, outoforder.ErrNotYet // our own record of the refund is still on its way
	}
	return true, err
}
