package main

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
)

// The states of a sale; "" is a sale that is not in the books.
const (
	posted   = "posted"
	reversed = "reversed"
)

// sale is what the books say of an order's sale before a command is carried out.
type sale struct {
	State    string
	Version  int
	Postings []posting // of the sale's entry
	Closed   bool      // the merchant's account takes no sale
}

// read looks up how the sale of an order stands, in one round trip.
func (s *service) read(ctx context.Context, cmd command) (sale, error) {
	var now sale
	err := postgres.Read(ctx, s.db, func(b *pgx.Batch) {
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
// Pattern: atomic-read-then-write (the constraints decide)
func (s *service) postSale(ctx context.Context, cmd command) error {
	return postgres.RetryStale(ctx, func() error {
		now, err := s.read(ctx, cmd)
		switch {
		case err != nil:
			return err
		case now.State == posted:
			return s.answer(ctx, cmd, cmd.Done(), nil)
		case now.State == reversed:
			// The reversal overtook us. Posting now would leave money on the books
			// of an order that was compensated.
			return s.answer(ctx, cmd, cmd.Refused("reversed"), nil)
		case now.Closed:
			return s.answer(ctx, cmd, cmd.Refused("account_closed"), nil)
		}
		e := saleEntry("sale", cmd, salePostings(cmd, s.cfg.FeeBasisPoints))
		err = e.bookWith(func(book func(b *pgx.Batch)) error {
			return s.answer(ctx, cmd, cmd.Done(), func(b *pgx.Batch) {
				// Of a sale and a reversal, or of two sales, at the same moment one
				// inserts this row and the other must look again.
				b.Queue(`
					INSERT INTO sales (order_id, state)
					VALUES ($1, 'posted')`,
					cmd.orderID)
				book(b)
			})
		})
		if postgres.Violates(err, "accounts_bounded") {
			return s.answer(ctx, cmd, cmd.Refused("account_full"), nil)
		}
		return err
	})
}

// reverseSale takes a sale back by its exact mirror. Of a sale that is not there
// it leaves a tombstone, so that it will not be there later either.
func (s *service) reverseSale(ctx context.Context, cmd command) error {
	return postgres.RetryStale(ctx, func() error {
		now, err := s.read(ctx, cmd)
		switch {
		case err != nil:
			return err
		case now.State == reversed:
			return s.answer(ctx, cmd, cmd.Done(), nil)
		case now.State == "":
			return s.answer(ctx, cmd, cmd.Done(), func(b *pgx.Batch) {
				b.Queue(`
					INSERT INTO sales (order_id, state)
					VALUES ($1, 'reversed')`,
					cmd.orderID)
			})
		}
		e := saleEntry("sale-reversal", cmd, mirrored(now.Postings))
		return s.answer(ctx, cmd, cmd.Done(), func(b *pgx.Batch) {
			b.Queue(`
				UPDATE sales
				   SET state   = 'reversed',
				       version = CASE WHEN version = $2 THEN version + 1 ELSE -1 END
				 WHERE order_id = $1`,
				cmd.orderID, now.Version)
			e.insert(b)
		})
	})
}

// answer commits what a command has led to in one transaction: what work queues, and the
// reply. The error is postgres.ErrStale when the books have changed since they were read.
//
// Pattern: saga (a participant)
// Pattern: change-record (of the command)
// Pattern: transactional-outbox (the reply)
func (s *service) answer(ctx context.Context, cmd command, reply saga.Reply, work func(b *pgx.Batch)) error {
	if err := fault.Point(ctx, fault.LedgerSaleBeforeCommit); err != nil {
		return err
	}
	p := saga.Participant{Outbox: s.outbox, ReplyTo: "orders.saga-reply", Write: s.writer.Write}
	err := p.Answer(ctx, cmd.Command, reply, work)
	for _, stale := range []string{"sales_pkey", "sales_version_current", "sales_account_open", "entries_once"} {
		if postgres.Violates(err, stale) {
			return postgres.ErrStale
		}
	}
	if err != nil {
		return err
	}
	s.relay.Wake()
	return fault.Point(ctx, fault.LedgerSaleAfterCommit)
}

func saleEntry(kind string, cmd command, postings []posting) *entry {
	return &entry{
		ID: uuid.Must(uuid.NewV7()), Kind: kind, Source: cmd.OrderID, Reference: cmd.PaymentID, MerchantID: cmd.MerchantID, Postings: postings,
	}
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
