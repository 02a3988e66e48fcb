package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/sequence"
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

// settle applies one piece of the processor's news, when its time has come: the
// payment's own record of the capture, or of the refund, must be there first. It
// marks the payment and tells the ledger. Nobody orchestrates this part: each
// service reacts to what the one before it has said.
//
// Pattern: out-of-order-messages
// Pattern: saga (choreographed)
func (s *service) settle(ctx context.Context, tx pgx.Tx, e sequence.Event) error {
	var n news
	if err := json.Unmarshal(e.Body, &n); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	id, ok := parseID("pay_", n.Data.Reference)
	if !ok {
		return sequence.ErrNotYet // nobody we know; held, and reported when it stays unknown
	}
	rows, err := tx.Query(ctx, selectPayment+`
		 WHERE id = $1
		   FOR UPDATE`,
		id)
	if err != nil {
		return err
	}
	p, err := pgx.CollectExactlyOneRow(rows, scanPayment)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return sequence.ErrNotYet
	case err != nil:
		return err
	case p.Status != captured:
		return sequence.ErrNotYet
	}
	kind := "charge"
	if e.Type == refundSettled {
		kind = "refund"
		if ready, err := settleRefund(ctx, tx, p, n.Data); err != nil || !ready {
			return errors.Join(err, notYetUnless(ready))
		}
	} else if ready, err := settleCharge(ctx, tx, p, n.Data); err != nil || !ready {
		return errors.Join(err, notYetUnless(ready))
	}
	message, err := source.Seal(ctx, outbox.Message{Type: "ledger.settle", Subject: p.wireOrderID(), Data: settlement{
		Kind: kind, OperationID: n.Data.OperationID, OrderID: p.wireOrderID(), PaymentID: p.wireID(), MerchantID: p.MerchantID, Amount: n.Data.Amount,
	}})
	if err != nil {
		return err
	}
	if err := message.AppendTx(ctx, tx); err != nil {
		return err
	}
	return fault.Point(ctx, fault.PaymentsSettleBeforeCommit)
}

func notYetUnless(ready bool) error {
	if ready {
		return nil
	}
	return sequence.ErrNotYet
}

// settleCharge marks the payment as settled. An amount that is not ours is not
// settled: it stays held, and reconciliation shows both sides.
func settleCharge(ctx context.Context, tx pgx.Tx, p payment, n settled) (ready bool, err error) {
	if p.SettledAt != nil || n.Amount != p.Amount {
		return false, nil
	}
	_, err = tx.Exec(ctx, `
		UPDATE payments
		   SET settled_at = now()
		 WHERE id = $1`,
		p.ID)
	return true, err
}

// settleRefund marks one refund of this amount. The processor names the charge
// and the amount only; of two equal refunds it does not matter which is which.
func settleRefund(ctx context.Context, tx pgx.Tx, p payment, n settled) (ready bool, err error) {
	if p.SettledAt == nil {
		return false, nil
	}
	tag, err := tx.Exec(ctx, `
		UPDATE refunds
		   SET settled_at = now()
		 WHERE id = (SELECT id
		               FROM refunds
		              WHERE payment_id = $1
		                AND amount_minor = $2
		                AND currency = $3
		                AND decision = 'succeeded'
		                AND recovery_point = 'finished'
		                AND settled_at IS NULL
		              ORDER BY id
		              LIMIT 1)`,
		p.ID, n.Amount.Minor, n.Amount.Currency)
	return tag.RowsAffected() == 1, err
}
