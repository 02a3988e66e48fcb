package main

import (
	"context"
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
)

// receipt says where the receipt is: at payments, under this path.
type receipt struct {
	ID   string `json:"id"`
	Path string `json:"path"`
}

// receipt is nil until payments has written one.
func (o order) receipt() *receipt {
	if o.ReceiptID == "" {
		return nil
	}
	return &receipt{ID: o.ReceiptID, Path: "/v1/payments/" + o.wirePaymentID() + "/receipt"}
}

// receiptNews is the data of orders.receipts: payments has written receipts.
type receiptNews struct {
	Receipts []struct {
		OrderID   string `json:"order_id"`
		ReceiptID string `json:"receipt_id"`
	} `json:"receipts"`
}

// noteReceipts notes the receipts of some orders. A receipt may come before its
// order is confirmed, and the same one any number of times.
//
// Pattern: change-record
func (s *service) noteReceipts(ctx context.Context, e event.Event) error {
	msg, err := changerecord.Of(e.Source(), e.ID())
	if err != nil {
		return reliableretries.Permanent(err)
	}
	var in receiptNews
	if err := e.DataAs(&in); err != nil {
		return reliableretries.Permanent(fmt.Errorf("decode receipts: %w", err))
	}
	ids, receipts := make([]uuid.UUID, len(in.Receipts)), make([]string, len(in.Receipts))
	for i, r := range in.Receipts {
		if ids[i], err = parseID(r.OrderID); err != nil {
			return reliableretries.Permanent(err)
		}
		receipts[i] = r.ReceiptID
	}
	err = postgres.Write(ctx, s.db, func(b *pgx.Batch) {
		msg.Record(b)
		// Locked in the order of their ids: two batches that share orders would
		// otherwise wait for each other.
		b.Queue(`
			UPDATE orders o
			   SET receipt_id = r.receipt_id
			  FROM (SELECT o.id, r.receipt_id
			          FROM unnest($1::uuid[], $2::text[]) AS r (id, receipt_id)
			          JOIN orders o ON o.id = r.id
			         ORDER BY o.id
			           FOR UPDATE OF o) r
			 WHERE o.id = r.id`,
			ids, receipts)
	})
	if changerecord.IsDuplicate(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return fault.Point(ctx, fault.OrdersReceiptsAfterCommit)
}
