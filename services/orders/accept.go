package main

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
)

// accept takes an order: POST /v1/orders.
//
// The client may send the same request any number of times, at once or later, for
// as long as its key is kept; it gets one order and one answer. Two round trips to
// the database, and both again when what was read is no longer true:
//
//  1. Read the response that is recorded for the key, if any, and the products.
//     Power fails here: nothing happened.
//  2. Write everything in one transaction: the key with its response, the order,
//     the saga, the first command, the stock.
//     Power fails before the commit: nothing happened, the retry starts afresh.
//     Power fails after it: the order stands, the retry gets the recorded answer,
//     and the relay finds the command in the outbox.
//
// Pattern: idempotency-key
// Pattern: reject-non-identical
// Pattern: response-record
// Pattern: reject-duplicate (avoided: a retry gets the first answer, never an error)
func (s *service) accept(c echo.Context) error {
	ctx, merchant := c.Request().Context(), web.MerchantID(c)
	body, err := web.ReadJSON(c)
	if err != nil {
		return err
	}
	request, err := idempotency.FromRequest(c.Request(), merchant, "POST /v1/orders", body, s.cfg.KeyRetention)
	if err != nil {
		return err
	}
	in, invalid := web.Decode[newOrder](body)
	var answer idempotency.Recorded // that of an earlier request with this key, or ours
	err = postgres.RetryStale(ctx, func() error {
		products := map[string]product{}
		err = postgres.Read(ctx, s.db, func(b *pgx.Batch) {
			request.Lookup(b, &answer)
			loadProducts(b, merchant, in.skus(), products)
		})
		switch {
		case err != nil:
			return err
		case answer.Exists:
			return nil // even if the order would be refused today
		case invalid != nil:
			return invalid
		}
		answer, err = s.place(ctx, request, merchant, in, products)
		return err
	})
	if err != nil {
		return err
	}
	return answer.Answer(c.Response())
}

// place writes the order with all that belongs to it. ErrStale means that a constraint
// refused the write. Reading again shows the reason: another request committed the same
// key first, another buyer took the stock, the price has changed, or the product is gone.
//
// Pattern: acid-transaction
// Pattern: atomic-read-then-write (the constraint decides: the stock that was
// read may be gone by the time we write, the price may be another one)
// Pattern: transactional-outbox (the first command)
func (s *service) place(ctx context.Context, request idempotency.Request, merchant string, in newOrder, products map[string]product) (idempotency.Recorded, error) {
	if err := s.checkCallback(in.CallbackURL); err != nil {
		return idempotency.Recorded{}, err
	}
	if err := s.shedLoad(); err != nil {
		return idempotency.Recorded{}, err
	}
	lines, total, err := price(in.Items, products)
	if err != nil {
		return idempotency.Recorded{}, err
	}
	o := newPending(merchant, in, lines, total)
	begin := orderPlan.Begin()
	command, err := s.compose(ctx, o, begin.Step)
	if err != nil {
		return idempotency.Recorded{}, err
	}
	response, err := idempotency.JSON(http.StatusAccepted, "/v1/orders/"+o.wireID(), o.view())
	if err != nil {
		return idempotency.Recorded{}, err
	}
	err = s.commit(ctx, fault.OrdersAcceptBeforeCommit, fault.OrdersAcceptAfterCommit, func(b *pgx.Batch) {
		// The key goes first: a concurrent retry is refused here, before it locks anything else.
		// It waits for our commit; if it is in the same group, it is first expelled from the group.
		request.Record(b, response)
		o.insert(b)
		saga.Insert(ctx, b, o.ID, begin, s.cfg.SagaStepTimeout)
		command.Append(b)
		// The stock goes last: all buyers of a product wait for its row, so it is locked
		// as late as possible.
		reserveAndInsertLines(b, o)
	})
	switch {
	case idempotency.IsDuplicate(err), isNotReserved(err):
		return idempotency.Recorded{}, postgres.ErrStale
	case idempotency.IsInUse(err):
		return idempotency.Recorded{}, idempotency.ErrKeyInUse
	case err != nil:
		return idempotency.Recorded{}, err
	}
	s.relay.Wake()
	return idempotency.Fresh(response), nil
}

// commit writes a batch, and passes the points at which the lab lets the process fail.
func (s *service) commit(ctx context.Context, before, after string, fill func(b *pgx.Batch)) error {
	if err := fault.Point(ctx, before); err != nil {
		return err
	}
	if err := s.writer.Write(ctx, fill); err != nil {
		return err
	}
	return fault.Point(ctx, after)
}

// newPending makes an order that is not stored yet. We choose its ids ourselves, so the
// response can be written in the same transaction. A void finds an authorisation whose
// answer never came by the payment's id.
func newPending(merchant string, in newOrder, lines []priced, total money.Money) order {
	return order{
		ID: uuid.Must(uuid.NewV7()), PaymentID: uuid.Must(uuid.NewV7()), MerchantID: merchant, CustomerID: in.CustomerID,
		Status: statusPending, PaymentToken: in.PaymentToken, Total: total,
		CallbackURL: in.CallbackURL, Lines: lines,
		// PostgreSQL keeps microseconds: rounded now, later reads show the same time.
		CreatedAt: time.Now().UTC().Truncate(time.Microsecond),
	}
}

// insert queues the order. reserveAndInsertLines queues its lines.
func (o order) insert(b *pgx.Batch) {
	b.Queue(`
		INSERT INTO orders (id, merchant_id, customer_id, payment_id, payment_token, total_minor, currency, callback_url, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		o.ID, o.MerchantID, o.CustomerID, o.PaymentID, o.PaymentToken, o.Total.Minor, o.Total.Currency, o.CallbackURL, o.CreatedAt)
}

func (n newOrder) skus() []string {
	skus := make([]string, len(n.Items))
	for i, it := range n.Items {
		skus[i] = it.SKU
	}
	return skus
}
