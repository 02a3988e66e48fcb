package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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
// The client may send the same request any number of times, at once or days
// later; it gets one order and one answer. At most two round trips to the database:
//
//  1. Read the response recorded for the key, if any, and the prices. Skipped while
//     the prices are remembered: the write finds out when they or the key were not
//     as we thought, and then this comes after all.
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
	ctx := c.Request().Context()
	body, err := web.ReadJSON(c)
	if err != nil {
		return err
	}
	var answer idempotency.Recorded
	key, bytes := sent(c, body)
	request, same, known := s.memory.again(key, bytes)
	var in newOrder
	if !same { // the same bytes need not be understood twice
		if in, err = web.Decode[newOrder](body); err != nil {
			return err
		}
		request, err = idempotency.FromRequest(c.Request(), web.MerchantID(c), "POST /v1/orders", body, s.cfg.KeyRetention)
		if err != nil {
			return err
		}
	}
	if known {
		err := postgres.Read(ctx, s.db, func(b *pgx.Batch) { request.Lookup(b, &answer) })
		if err != nil {
			return err
		}
		if answer.Exists {
			return answer.Answer(c.Response())
		}
	}
	if same { // and its answer has expired: what was a retry is something new
		if in, err = web.Decode[newOrder](body); err != nil {
			return err
		}
	}
	shelf, remembered := s.memory.shelf(web.MerchantID(c), in.skus())
	err = postgres.RetryStale(ctx, func() error {
		if !remembered {
			shelf = map[string]product{}
			err := postgres.Read(ctx, s.db, func(b *pgx.Batch) {
				request.Lookup(b, &answer)
				readShelf(b, web.MerchantID(c), in.skus(), shelf)
			})
			if err != nil || answer.Exists {
				return err
			}
			s.memory.rememberShelf(web.MerchantID(c), shelf)
		}
		fromMemory := remembered
		remembered = false // whatever fails now, the next try reads
		answer, err = s.place(ctx, request, web.MerchantID(c), in, shelf)
		if _, refused := errors.AsType[*web.Problem](err); refused && fromMemory {
			return postgres.ErrStale // what memory would refuse is looked up first
		}
		return err
	})
	if err != nil {
		s.memory.forgetShelf(web.MerchantID(c), in.skus())
		if errors.Is(err, errKeyInUse) {
			return idempotency.ErrKeyInUse
		}
		return err
	}
	s.memory.rememberAnswered(key, bytes, request)
	return answer.Answer(c.Response())
}

// errKeyInUse: another request with this key is still being written. It waits, for the
// stock perhaps, and we have waited for it.
var errKeyInUse = errors.New("orders: another request with this key is at work")

// place writes the order. ErrStale means that a constraint decided against us,
// and that reading again will tell why: another request committed the same key
// first, another buyer took the stock, the price has changed, or the product is gone.
//
// Pattern: acid-transaction
// Pattern: atomic-read-then-write (the constraint decides: the stock that was
// read may be gone by the time we write, the price may be another one)
func (s *service) place(ctx context.Context, request idempotency.Request, merchant string, in newOrder, shelf map[string]product) (idempotency.Recorded, error) {
	lines, total, err := price(in.Items, shelf)
	if err != nil {
		return idempotency.Recorded{}, err
	}
	o, err := newPending(merchant, in, lines, total)
	if err != nil {
		return idempotency.Recorded{}, err
	}
	command, err := s.ask(ctx, o, orderPlan.Begin())
	if err != nil {
		return idempotency.Recorded{}, err
	}
	body, err := json.Marshal(o.view())
	if err != nil {
		return idempotency.Recorded{}, err
	}
	response := idempotency.Response{
		Status: http.StatusAccepted,
		Header: map[string]string{
			echo.HeaderContentType: echo.MIMEApplicationJSON,
			echo.HeaderLocation:    "/v1/orders/" + o.wireID(),
		},
		Body: body,
	}

	if err := fault.Point(ctx, fault.OrdersAcceptBeforeCommit); err != nil {
		return idempotency.Recorded{}, err
	}
	var keyIsOurs bool
	err = s.writer.Write(ctx, func(b *pgx.Batch) {
		// The key goes first: a concurrent retry waits here until we are done.
		keyIsOurs = false
		request.Record(b, response).Exec(func(pgconn.CommandTag) error { keyIsOurs = true; return nil })
		o.insert(b)
		saga.Insert(b, o.ID, orderPlan.Begin(), s.cfg.SagaPatience)
		command.Append(b)
		// The stock goes last: all buyers of a product queue for its row, and so
		// it is held for the shortest time.
		reserve(b, o)
	})
	if idempotency.IsDuplicate(err) || isNotReserved(err) {
		return idempotency.Recorded{}, postgres.ErrStale
	}
	if postgres.LockTimedOut(err) && !keyIsOurs {
		return idempotency.Recorded{}, errKeyInUse
	}
	if err != nil {
		return idempotency.Recorded{}, err
	}
	s.memory.rememberOrder(o, saga.NewRow(o.ID, orderPlan.Begin()))
	s.relay.Wake()
	return idempotency.Fresh(response), fault.Point(ctx, fault.OrdersAcceptAfterCommit)
}

// newPending makes an order that is not stored yet. Its ids are ours to choose,
// so the response can be composed, and recorded, in the transaction itself. The
// payment's id too: it is the name under which a void finds an authorisation
// whose answer never came.
func newPending(merchant string, in newOrder, lines []priced, total money.Money) (order, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return order{}, err
	}
	paymentID, err := uuid.NewV7()
	if err != nil {
		return order{}, err
	}
	return order{
		ID: id, PaymentID: paymentID, MerchantID: merchant, CustomerID: in.CustomerID,
		Status: statusPending, PaymentToken: in.PaymentToken, Total: total,
		CallbackURL: in.CallbackURL, Lines: lines,
		// PostgreSQL keeps microseconds: rounded now, later reads show the same time.
		CreatedAt: time.Now().UTC().Truncate(time.Microsecond),
	}, nil
}

// insert queues the order and its lines.
func (o order) insert(b *pgx.Batch) {
	b.Queue(`
		INSERT INTO orders (id, merchant_id, customer_id, payment_id, payment_token, total_minor, currency, callback_url, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		o.ID, o.MerchantID, o.CustomerID, o.PaymentID, o.PaymentToken, o.Total.Minor, o.Total.Currency, o.CallbackURL, o.CreatedAt)

	for i, l := range o.Lines {
		b.Queue(`
			INSERT INTO order_lines (order_id, line_no, sku, quantity, unit_price_minor)
			VALUES ($1, $2, $3, $4, $5)`,
			o.ID, i+1, l.SKU, l.Quantity, l.UnitPrice.Minor)
	}
}

func (n newOrder) skus() []string {
	skus := make([]string, len(n.Items))
	for i, it := range n.Items {
		skus[i] = it.SKU
	}
	return skus
}
