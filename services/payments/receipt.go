package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"
	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob" // RECEIPTS_URL=file:///…
	_ "gocloud.dev/blob/memblob"  // RECEIPTS_URL=mem://
	_ "gocloud.dev/blob/s3blob"   // RECEIPTS_URL=s3://…

	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/storethenreference"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
)

//go:embed receipt.html
var receiptText string

var receiptPage = template.Must(template.New("receipt").Parse(receiptText))

// receiptBatch is how many receipts one transaction refers to. A receipt can wait
// a few milliseconds for its neighbours, and a commit for each would cost an
// order as much as its capture does.
const receiptBatch = 50

// receiptPause is waited after a batch that was not full.
const receiptPause = 50 * time.Millisecond

// receiptLease is how long a replica is the one that writes receipts. Two who
// both do it leave documents without a reference, and nothing worse.
const receiptLease = 10 * time.Second

// timeToRefer bounds what is left to do once it is known that a reference is in time:
// the statement that writes it. The commit has as long again; see settings.Validate.
const timeToRefer = time.Second

// receiptNews is the data of orders.receipts.
type receiptNews struct {
	Receipts []receiptOfOrder `json:"receipts"`
}

type receiptOfOrder struct {
	OrderID   string `json:"order_id"`
	ReceiptID string `json:"receipt_id"`
}

// A payment has one receipt, so it shares the payment's id.
func (p payment) receiptID() string { return "rcp_" + p.ID.String() }

// openReceipts opens the store of documents.
func (s *service) openReceipts(ctx context.Context) error {
	bucket, err := blob.OpenBucket(ctx, s.cfg.ReceiptsURL)
	if err != nil {
		return fmt.Errorf("RECEIPTS_URL: %w", err)
	}
	s.receipts = storethenreference.New(storethenreference.Config{Bucket: bucket, Dir: "receipts", Grace: s.cfg.ReceiptGrace})
	return nil
}

// writeReceipts runs until ctx ends and writes a receipt for each payment that
// was captured and has none.
func (s *service) writeReceipts(ctx context.Context) {
	for ctx.Err() == nil {
		written, err := s.writeSomeReceipts(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("receipts not written, will be tried again", "error", err)
		}
		if written == receiptBatch && err == nil {
			continue
		}
		due, wait := s.receiptDue, s.cfg.ReceiptPoll
		if written > 0 {
			due, wait = nil, receiptPause // a moment later there are more to write together
		}
		select {
		case <-due:
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// writeSomeReceipts stores the documents first and refers to them last.
//
//  1. Read which payments have none.
//  2. Store each document under a new name.
//     Power fails here: documents that no row speaks of. The next try stores
//     others, and the sweep removes these.
//  3. Refer to them, and tell orders, in one transaction.
//
// Pattern: store-then-reference
// Pattern: transactional-outbox
func (s *service) writeSomeReceipts(ctx context.Context) (int, error) {
	if ours, err := s.receiptsAreOurs(ctx); err != nil || !ours {
		return 0, err
	}
	now := storethenreference.ClockReading{Read: time.Now()}
	var due []payment
	err := postgres.Read(ctx, s.db, func(b *pgx.Batch) {
		b.Queue(`SELECT now()`).QueryRow(func(row pgx.Row) error { return row.Scan(&now.Database) })
		b.Queue(selectPayment+`
			 WHERE status = 'captured'
			   AND receipt_name = ''
			 ORDER BY updated_at
			 LIMIT $1`,
			receiptBatch).Query(func(rows pgx.Rows) (err error) {
			due, err = pgx.CollectRows(rows, scanPayment)
			return err
		})
	})
	if err != nil || len(due) == 0 {
		return 0, err
	}
	ids, names := make([]uuid.UUID, len(due)), make([]string, len(due))
	var before time.Time // the same for all: they have one moment
	news := receiptNews{}
	for i, p := range due {
		var page bytes.Buffer
		if err := receiptPage.Execute(&page, p.view()); err != nil {
			return 0, fmt.Errorf("receipt of %s: %w", p.wireID(), err)
		}
		ref, err := s.receipts.Put(ctx, now, "text/html; charset=utf-8", page.Bytes())
		if err != nil {
			return 0, err
		}
		ids[i], names[i], before = p.ID, ref.Name, ref.CommitBy
		news.Receipts = append(news.Receipts, receiptOfOrder{OrderID: p.wireOrderID(), ReceiptID: p.receiptID()})
	}
	if err := fault.Point(ctx, fault.PaymentsReceiptAfterStore); err != nil {
		return 0, err
	}
	message, err := s.outbox.Envelope(ctx, outbox.Message{Type: "orders.receipts", Subject: due[0].wireOrderID(), Data: news})
	if err != nil {
		return 0, err
	}
	err = postgres.Write(ctx, s.db, func(b *pgx.Batch) {
		message.Append(b)
		// A transaction that holds one of the rows is waited for here. The time is read after
		// that: now() is when the transaction began, and would call a reference "in
		// time" that is written after its document was swept.
		b.Queue(`
			SELECT FROM payments
			 WHERE id = ANY($1)
			 ORDER BY id
			   FOR NO KEY UPDATE`,
			ids)
		b.Queue(`SELECT set_config('statement_timeout', $1, true)`, strconv.FormatInt(timeToRefer.Milliseconds(), 10))
		// Only where there is none: a document that somebody may have seen is
		// never exchanged for another. Too late a reference is refused by
		// payments_receipt_in_time, because the sweep may have begun.
		b.Queue(`
			UPDATE payments
			   SET receipt_name   = stored.name,
			       receipt_at     = clock_timestamp(),
			       receipt_before = $3
			  FROM unnest($1::uuid[], $2::text[]) AS stored (id, name)
			 WHERE payments.id = stored.id
			   AND receipt_name = ''`,
			ids, names, before)
	})
	if err != nil {
		return 0, err
	}
	s.relay.Wake()
	return len(due), fault.Point(ctx, fault.PaymentsReceiptAfterReference)
}

// receiptsAreOurs tells whether this replica is the one that writes receipts. The
// lease is extended when a third of it has passed, not at each batch: a batch has
// three round trips, and this would be a fourth, with a write.
func (s *service) receiptsAreOurs(ctx context.Context) (bool, error) {
	if time.Since(s.receiptLeased) < receiptLease/3 {
		return true, nil
	}
	begun := time.Now()
	ours, err := postgres.TryLease(ctx, s.db, "receipts", s.cfg.InstanceName(), receiptLease)
	if err == nil && ours {
		s.receiptLeased = begun
	}
	return ours, err
}

// wakeReceipts tells the writer that there is one to write. It never blocks.
func (s *service) wakeReceipts() {
	select {
	case s.receiptDue <- struct{}{}:
	default:
	}
}

// getReceipt shows the receipt of a payment: GET /v1/payments/{id}/receipt.
func (s *service) getReceipt(c echo.Context) error {
	p, err := s.find(c)
	if err != nil {
		return err
	}
	if p.ReceiptName == "" {
		return web.NewProblem(http.StatusNotFound, "no-receipt-yet", "No receipt",
			"This payment has no receipt. One is written soon after it was captured.")
	}
	body, err := s.receipts.Get(c.Request().Context(), p.ReceiptName)
	if errors.Is(err, storethenreference.ErrDamaged) {
		s.personMustLook(c.Request().Context(), "GET /v1/payments/:id/receipt", p.wireID(), err)
	}
	if err != nil {
		return err
	}
	c.Response().Header().Set("Cache-Control", "private, max-age=31536000, immutable") // it never changes
	return c.HTMLBlob(http.StatusOK, body)
}

// sweepReceipts removes documents that no payment refers to.
func (s *service) sweepReceipts(ctx context.Context, limit int) (int64, error) {
	return s.receipts.Sweep(ctx, s.db, limit, func(ctx context.Context, names []string) ([]string, error) {
		rows, _ := s.db.Query(ctx, `
			SELECT receipt_name
			  FROM payments
			 WHERE receipt_name = ANY($1)`,
			names)
		return pgx.CollectRows(rows, pgx.RowTo[string])
	})
}
