package main

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
)

// The states of a sale; "" is a sale that the ledger has not heard of.
const (
	posted   = "posted"
	reversed = "reversed"
)

// sale is what is known of an order before a command about it is carried out.
type sale struct {
	State    string
	Version  int
	Postings []posting // of the sale's entry
	Closed   bool      // an account that a sale would touch is closed
	Seen     bool      // the message was handled before
}

// read looks up how the sale of an order stands, in one round trip.
func (s *service) read(ctx context.Context, cmd command) (sale, error) {
	var now sale
	err := postgres.Read(ctx, s.db, func(b *pgx.Batch) {
		cmd.message.Seen(b, &now.Seen)
		b.Queue(`
			SELECT state, version
			  FROM sales
			 WHERE order_id = $1`,
			cmd.orderID,
		).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				if err := rows.Scan(&now.State, &now.Version); err != nil {
					return err
				}
			}
			return rows.Err()
		})
		b.Queue(`
			SELECT p.account_id, p.amount_minor
			  FROM entries e
			  JOIN postings p ON p.entry_id = e.id
			 WHERE e.source = $1
			   AND e.kind = 'sale'
			 ORDER BY p.line_no`,
			cmd.OrderID,
		).Query(func(rows pgx.Rows) error {
			var err error
			now.Postings, err = pgx.CollectRows(rows, pgx.RowToStructByPos[posting])
			return err
		})
		b.Queue(`
			SELECT EXISTS (
				SELECT FROM accounts
				 WHERE id = $1
				   AND closed)`,
			merchantAccount("merchant_pending", cmd.MerchantID, cmd.Amount.Currency),
		).QueryRow(func(row pgx.Row) error { return row.Scan(&now.Closed) })
	})
	return now, err
}

// postSale books a sale: the customer's card owes the amount, the merchant is
// owed it less the platform's fee.
//
// Nearly every sale is news, so it is written as news in one round trip. What is
// not as expected makes the write fail (a sale or a reversal that is there already,
// a closed account), and only then is it looked at.
//
// Pattern: atomic-read-then-write (the constraints decide)
func (s *service) postSale(ctx context.Context, cmd command) error {
	var now sale
	expected := true
	return postgres.RetryStale(ctx, func() error {
		if !expected {
			var err error
			if now, err = s.read(ctx, cmd); err != nil {
				return err
			}
		}
		expected = false
		switch {
		case now.Seen:
			return nil
		case now.State == posted:
			return s.answer(ctx, cmd, "post-sale", done, "", nil, nil)
		case now.State == reversed:
			// The reversal overtook us. Posting now would leave money on the books
			// of an order that was walked back.
			return s.answer(ctx, cmd, "post-sale", refused, "reversed", nil, nil)
		case now.Closed:
			return s.answer(ctx, cmd, "post-sale", refused, "account_closed", nil, nil)
		}
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		e := entry{
			ID: id, Kind: "sale", Source: cmd.OrderID, Reference: cmd.PaymentID, MerchantID: cmd.MerchantID,
			Postings: salePostings(cmd, s.cfg.FeeBasisPoints),
		}
		return s.answer(ctx, cmd, "post-sale", done, "", &e, func(b *pgx.Batch) {
			// Of a sale and a reversal, or of two sales, at the same moment one
			// inserts this row and the other must look again.
			b.Queue(`
				INSERT INTO sales (order_id, state)
				SELECT $1, CASE WHEN EXISTS (SELECT FROM accounts WHERE id = $2 AND closed) THEN 'account_closed' ELSE 'posted' END`,
				cmd.orderID, merchantAccount("merchant_pending", cmd.MerchantID, cmd.Amount.Currency))
		})
	})
}

// reverseSale takes a sale back by its exact mirror. Of a sale that is not there
// it leaves a tombstone, so that it will not be there later either.
func (s *service) reverseSale(ctx context.Context, cmd command) error {
	return postgres.RetryStale(ctx, func() error {
		now, err := s.read(ctx, cmd)
		switch {
		case err != nil || now.Seen:
			return err
		case now.State == reversed:
			return s.answer(ctx, cmd, "reverse-sale", done, "", nil, nil)
		case now.State == "":
			return s.answer(ctx, cmd, "reverse-sale", done, "", nil, func(b *pgx.Batch) {
				b.Queue(`
					INSERT INTO sales (order_id, state)
					VALUES ($1, 'reversed')`,
					cmd.orderID)
			})
		}
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		e := entry{
			ID: id, Kind: "sale-reversal", Source: cmd.OrderID, Reference: cmd.PaymentID, MerchantID: cmd.MerchantID,
			Postings: mirrored(now.Postings),
		}
		return s.answer(ctx, cmd, "reverse-sale", done, "", &e, func(b *pgx.Batch) {
			b.Queue(`
				UPDATE sales
				   SET state   = 'reversed',
				       version = CASE WHEN version = $2 THEN version + 1 ELSE -1 END
				 WHERE order_id = $1`,
				cmd.orderID, now.Version)
		})
	})
}

// salePostings splits the amount. The fee is rounded down to the minor unit, in
// the merchant's favour; the rest is the merchant's, so the parts add up exactly.
func salePostings(cmd command, feeBasisPoints int64) []posting {
	amount, currency := cmd.Amount.Minor, cmd.Amount.Currency
	// Divided first: amount × basis points could overflow.
	fee := amount/10_000*feeBasisPoints + amount%10_000*feeBasisPoints/10_000
	postings := []posting{
		{Account: platformAccount("card_receivable", currency), Amount: -amount},
		{Account: merchantAccount("merchant_pending", cmd.MerchantID, currency), Amount: amount - fee},
		{Account: platformAccount("platform_fee", currency), Amount: fee},
	}
	if fee == 0 {
		postings = postings[:2]
	}
	return postings
}

func mirrored(postings []posting) []posting {
	mirror := make([]posting, len(postings))
	for i, p := range postings {
		mirror[i] = posting{Account: p.Account, Amount: -p.Amount}
	}
	return mirror
}

// answer records the message, does the work and books the entry if there is any,
// and queues the reply, in one transaction and one round trip.
//
// Pattern: change-record
func (s *service) answer(ctx context.Context, cmd command, step, outcome, reason string, e *entry, work func(b *pgx.Batch)) error {
	reply, err := cmd.reply(ctx, s.outbox, step, outcome, reason)
	if err != nil {
		return err
	}
	if err := fault.Point(ctx, fault.LedgerSaleBeforeCommit); err != nil {
		return err
	}
	err = s.books.write(ctx, e, func(b *pgx.Batch) {
		cmd.message.Record(b)
		reply.Append(b)
		if work != nil {
			work(b)
		}
	})
	switch {
	case changerecord.IsDuplicate(err):
		return nil
	case postgres.Violates(err, "sales_pkey"), postgres.Violates(err, "sales_version_current"), postgres.Violates(err, "sales_state_known"), postgres.Violates(err, "entries_once"):
		return postgres.ErrStale
	case err != nil:
		return err
	}
	if e != nil && e.Kind == "sale" {
		s.shares.remember(*e)
	}
	s.relay.Wake()
	return fault.Point(ctx, fault.LedgerSaleAfterCommit)
}
