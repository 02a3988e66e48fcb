package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/postgres"
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

// settle books that the processor has settled: what the card owed, the processor
// now owes, and the merchant's share of the sale becomes available to it.
//
// Pattern: saga (choreographed: no service waits for a reply)
// Pattern: change-record
func (s *service) settle(ctx context.Context, e event.Event) error {
	message, err := changerecord.Of(e.Source(), e.ID())
	if err != nil {
		return reliableretries.Permanent(err)
	}
	var in settlement
	if err := e.DataAs(&in); err != nil {
		return reliableretries.Permanent(fmt.Errorf("decode %s: %w", e.Type(), err))
	}
	if err := in.Amount.Validate(); err != nil {
		return reliableretries.Permanent(fmt.Errorf("settlement of %s: %w", in.PaymentID, err))
	}
	if in.Amount.Minor <= 0 || in.Amount.Minor > maxMinor || in.MerchantID == "" || in.PaymentID == "" || in.OrderID == "" {
		return reliableretries.Permanent(fmt.Errorf("settlement of %q of %q over %s makes no sense", in.PaymentID, in.OrderID, in.Amount))
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	booked := entry{ID: id, Reference: in.PaymentID, MerchantID: in.MerchantID}
	amount, currency := in.Amount.Minor, in.Amount.Currency
	switch in.Kind {
	case "charge":
		share, err := s.shareOfSale(ctx, in)
		if err != nil {
			return err
		}
		booked.Kind, booked.Source = "settlement", in.PaymentID
		booked.Postings = []posting{
			{Account: platformAccount("card_receivable", currency), Amount: amount},
			{Account: platformAccount("processor_clearing", currency), Amount: -amount},
			{Account: merchantAccount("merchant_pending", in.MerchantID, currency), Amount: -share},
			{Account: merchantAccount("merchant_available", in.MerchantID, currency), Amount: share},
		}
	case "refund":
		booked.Kind, booked.Source = "refund-settlement", "op_"+in.OperationID.String()
		booked.Postings = []posting{
			{Account: platformAccount("card_receivable", currency), Amount: -amount},
			{Account: platformAccount("processor_clearing", currency), Amount: amount},
		}
	default:
		return reliableretries.Permanent(fmt.Errorf("settlement of %s: unknown kind %q", in.PaymentID, in.Kind))
	}
	return s.bookOnce(ctx, message, booked)
}

// shareOfSale is what the sale left to the merchant. It is read from the books, not
// computed from the fee of today: that may have changed since. A sale that is not there
// yet will be.
func (s *service) shareOfSale(ctx context.Context, in settlement) (int64, error) {
	var share int64
	err := s.db.QueryRow(ctx, `
		SELECT p.amount_minor
		  FROM entries e
		  JOIN postings p ON p.entry_id = e.id
		 WHERE e.source = $1
		   AND e.kind = 'sale'
		   AND p.account_id = $2`,
		in.OrderID, merchantAccount("merchant_pending", in.MerchantID, in.Amount.Currency)).Scan(&share)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("settlement of %s: no sale of %s in the books yet", in.PaymentID, in.OrderID)
	}
	return share, err
}

// bookOnce books an entry for a message. The message may come twice, and so may
// another message with the same meaning: the entry's source tells.
func (s *service) bookOnce(ctx context.Context, message changerecord.Message, e entry) error {
	if err := fault.Point(ctx, fault.LedgerSettleBeforeCommit); err != nil {
		return err
	}
	err := s.writer.Write(ctx, func(b *pgx.Batch) {
		message.Record(b)
		e.insert(b)
	})
	if changerecord.IsDuplicate(err) || postgres.Violates(err, "entries_once") {
		return nil
	}
	if err != nil {
		return err
	}
	return fault.Point(ctx, fault.LedgerSettleAfterCommit)
}
