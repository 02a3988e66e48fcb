package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/problem"
)

// A request that could not finish its refund in time looks once more before it says
// "later". Somebody may have finished it; and what is not recorded is pending,
// however far it has come: 201 and 202 for one key would be two answers.
func TestAnswerPending_GivesTheAnswerThatIsRecordedByNow(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	cmd := s.order(cardWorks)
	s.deliver(message(t, toAuthorise, cmd), message(t, toCapture, cmd))
	p := s.payment(cmd)
	for key, c := range map[string]struct {
		finish func(ctx context.Context, tx pgx.Tx, lock idempotency.Lock) error
		status int
		says   string
	}{
		"finished": {func(ctx context.Context, tx pgx.Tx, lock idempotency.Lock) error {
			return lock.Finish(ctx, tx, idempotency.Response{Status: http.StatusCreated, Header: map[string]string{}, Body: []byte("the answer")})
		}, http.StatusCreated, "the answer"},
		"posted": {func(ctx context.Context, tx pgx.Tx, lock idempotency.Lock) error {
			_, err := tx.Exec(ctx, `UPDATE refunds SET decision = 'succeeded', recovery_point = 'posted' WHERE id = $1`, lock.OperationID)
			return err
		}, http.StatusAccepted, `"status":"pending"`},
	} {
		r := idempotency.Request{Merchant: acme, Operation: s.refunds().name, Key: key, Retention: time.Hour}
		_, lock, err := r.Acquire(t.Context(), s.db, s.cfg.lockOptions(), func(ctx context.Context, tx pgx.Tx) (uuid.UUID, error) {
			amount := p.Amount
			amount.Minor = 1
			return startRefund(ctx, tx, acme, newRefund{PaymentID: p.wireID(), paymentID: p.ID, Amount: &amount})
		})
		if err == nil {
			err = postgres.InTx(t.Context(), s.db, func(ctx context.Context, tx pgx.Tx) error { return c.finish(ctx, tx, lock) })
		}
		if err != nil {
			t.Fatal(err)
		}
		told := httptest.NewRecorder()
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/refunds", nil)
		if err := s.answerPending(echo.New().NewContext(request, told), s.refunds(), r, lock, errors.New("too slow")); err != nil {
			t.Fatal(err)
		}
		if told.Code != c.status || !contains(told, c.says) {
			t.Errorf("%s: told %d %s", key, told.Code, told.Body)
		}
	}
}

// The money is given back and the books refuse it for good: no try helps, and an alert
// must say so. The refund stays where it is.
func TestResumeRefund_ThatTheLedgerRefusesNeedsAPerson(t *testing.T) {
	t.Parallel()
	s, ledger := newBanking(t)
	ledger.never = true
	_, lock := s.startedRefund(500)
	if _, err := s.resume(t.Context(), s.refunds(), lock); !errors.Is(err, errContradiction) {
		t.Error(err)
	}
	var counted dto.Metric
	if err := s.personNeeded.WithLabelValues(s.refunds().name).Write(&counted); err != nil {
		t.Fatal(err)
	}
	same(t, "a person is needed", counted.GetCounter().GetValue(), 1)
	r, err := s.loadRefund(t.Context(), lock.OperationID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "point", r.Point, refundDecided)
}

// We have become stricter between a request and its retry: the retry gets its answer.
func TestPerform_RecordedAnswerComesBeforeValidation(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	for _, op := range []operation{s.refunds(), s.payouts()} {
		path := strings.TrimPrefix(op.name, "POST ")
		const body = `{"coupon":"a field that we took once"}`
		post := func(key string) *http.Request {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
			for name, value := range map[string]string{"Idempotency-Key": key, "Content-Type": "application/json", "Authorization": "Bearer " + acmeKey} {
				r.Header.Set(name, value)
			}
			return r
		}
		api := s.routes(t.Context(), prometheus.NewRegistry(), nil)
		told := httptest.NewRecorder()
		if api.ServeHTTP(told, post("new")); told.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s, new: %d %s", op.name, told.Code, told.Body)
		}
		request, err := idempotency.FromRequest(post("old"), acme, op.name, []byte(body), time.Hour)
		if err == nil {
			err = postgres.InTx(t.Context(), s.db, func(ctx context.Context, tx pgx.Tx) error {
				return request.RecordTx(ctx, tx, idempotency.Response{Status: http.StatusCreated, Body: []byte("the first answer")})
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		told = httptest.NewRecorder()
		if api.ServeHTTP(told, post("old")); told.Code != http.StatusCreated || told.Body.String() != "the first answer" {
			t.Errorf("%s, the retry: %d %s", op.name, told.Code, told.Body)
		}
	}
}

// Two keys, one payment, the same moment: the second of two refunds decides on what the
// first has left, although that was not committed when the second began.
func TestStartRefund_TwoAtOnceStayWithinTheCapture(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	cmd := s.order(cardWorks)
	s.deliver(message(t, toAuthorise, cmd), message(t, toCapture, cmd))
	p := s.payment(cmd)
	amount := p.Amount
	amount.Minor = p.Amount.Minor/2 + 1
	start := func(ctx context.Context, tx pgx.Tx) error {
		_, err := startRefund(ctx, tx, acme, newRefund{PaymentID: p.wireID(), paymentID: p.ID, Amount: &amount})
		return err
	}
	first, err := s.db.Begin(t.Context())
	if err == nil {
		err = start(t.Context(), first)
	}
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error, 1)
	go func() { second <- postgres.InTx(t.Context(), s.db, start) }()
	eventually(t, "the second waits for the first", func() bool {
		var waiting bool
		err := s.db.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid)))`,
			first.Conn().PgConn().PID()).Scan(&waiting)
		return err == nil && waiting
	})
	if err := first.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = <-second
	if refused, ok := errors.AsType[*problem.Problem](err); !ok || refused.Status != http.StatusUnprocessableEntity {
		t.Errorf("two refunds of %v at once, of a payment of %v: the second ends with the error %v, want a 422 that says how much is left; our row says that %d are given back",
			amount, p.Amount, err, s.payment(cmd).Refunded)
	}
	same(t, "to be given back, by our row", s.payment(cmd).Refunded, amount.Minor)
}

// The request was lost on its way. No row may say that the money was given back.
func TestResumeRefund_ThatNeverArrivedIsAskedForAgain(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	cmd, lock := s.startedRefund(500)
	s.arm(rule{Contract: "charges.refund", Fault: "fail_before", Times: 1})
	if _, err := s.resumeRefund(t.Context(), lock); err == nil {
		t.Fatal("it was answered")
	}
	if answer, err := s.resumeRefund(t.Context(), lock); err != nil || answer.Status != http.StatusCreated {
		t.Errorf("answered %d, %v", answer.Status, err)
	}
	s.sameRefunded(cmd, 500)
}
