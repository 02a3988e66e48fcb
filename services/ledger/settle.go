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
	var in settlement
	message, err := decodeNews(e, &in, func() (string, string, money.Money) { return in.MerchantID, in.PaymentID, in.Amount })
	if err != nil {
		return err
	}
	amount, currency := in.Amount.Minor, in.Amount.Currency
	receivable, clearing := platformAccount("card_receivable", currency), platformAccount("processor_clearing", currency)
	booked := entry{Reference: in.PaymentID, MerchantID: in.MerchantID}
	switch in.Kind {
	case "charge":
		share, err := s.shareOfSale(ctx, in)
		if err != nil {
			return err
		}
		booked.Kind, booked.Source = "settlement", in.PaymentID
		booked.Postings = []posting{
			{Account: receivable, Amount: amount},
			{Account: clearing, Amount: -amount},
			{Account: merchantAccount("merchant_pending", in.MerchantID, currency), Amount: -share},
			{Account: merchantAccount("merchant_available", in.MerchantID, currency), Amount: share},
		}
	case "refund":
		booked.Kind, booked.Source = "refund-settlement", "op_"+in.OperationID.String()
		if err := s.isRefunded(ctx, in, booked.Source); err != nil {
			return err
		}
		booked.Postings = []posting{{Account: receivable, Amount: -amount}, {Account: clearing, Amount: amount}}
	default:
		return reliableretries.Permanent(fmt.Errorf("settlement of %s: unknown kind %q", in.PaymentID, in.Kind))
	}
	return s.bookOnce(ctx, message, booked)
}

// shareOfSale is what the sale of this payment, over this amount, left to the merchant. It
// is read from the books, not computed from the fee of today: that may have changed since.
// A sale that is not there yet will be.
func (s *service) shareOfSale(ctx context.Context, in settlement) (int64, error) {
	var share int64
	err := s.db.QueryRow(ctx, `
		SELECT share.amount_minor
		  FROM entries e
		  JOIN postings share ON share.entry_id = e.id AND share.account_id = $3
		  JOIN postings owed  ON owed.entry_id  = e.id AND owed.account_id  = $4
		 WHERE e.source = $1
		   AND e.kind = 'sale'
		   AND e.reference = $2
		   AND owed.amount_minor = -$5::bigint`,
		in.OrderID, in.PaymentID, merchantAccount("merchant_pending", in.MerchantID, in.Amount.Currency),
		platformAccount("card_receivable", in.Amount.Currency), in.Amount.Minor).Scan(&share)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("settlement of %s: no sale of %s over %v in the books yet", in.PaymentID, in.OrderID, in.Amount)
	}
	return share, err
}

// isRefunded is nil when the books have a refund of this payment that is not settled, or
// this very settlement.
func (s *service) isRefunded(ctx context.Context, in settlement, source string) error {
	var refunded bool
	err := s.db.QueryRow(ctx, `
		SELECT COALESCE(sum(p.amount_minor) >= $4 OR bool_or(e.source = $1), false)
		  FROM entries e
		  JOIN postings p ON p.entry_id = e.id AND p.account_id = $3
		 WHERE e.reference = $2
		   AND e.merchant_id = $5
		   AND e.kind IN ('refund', 'refund-settlement')`,
		source, in.PaymentID, platformAccount("card_receivable", in.Amount.Currency), in.Amount.Minor, in.MerchantID).Scan(&refunded)
	if err == nil && !refunded {
		err = fmt.Errorf("settlement of %s: no refund of %v in the books that is not settled", in.PaymentID, in.Amount)
	}
	return err
}

// bookOnce books an entry for a message. The message may come twice, and so may
// another message with the same meaning: the entry's source tells.
func (s *service) bookOnce(ctx context.Context, message changerecord.Message, e entry) error {
	if err := fault.Point(ctx, fault.LedgerSettleBeforeCommit); err != nil {
		return err
	}
	e.ID = uuid.Must(uuid.NewV7())
	err := e.bookWith(func(book func(b *pgx.Batch)) error {
		return s.writer.Write(ctx, func(b *pgx.Batch) {
			message.Record(b)
			book(b)
		})
	})
	if changerecord.IsDuplicate(err) || postgres.Violates(err, "entries_once") {
		return nil
	}
	if err != nil {
		return err
	}
	return fault.Point(ctx, fault.LedgerSettleAfterCommit)
}
