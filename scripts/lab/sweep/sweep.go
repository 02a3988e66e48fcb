// Package sweep takes every fault point there is and lets the process that passes
// it die there, fail there, or take longer there than anybody waits; once with a
// client that insists, once with a client that is never heard of again. Then
// everything must still be right.
package sweep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

// Combination is one run of the sweep.
type Combination struct {
	Point   string       `json:"point"`
	Service string       `json:"service"` // the process that passes it
	Fault   fault.Action `json:"fault"`
	Gone    bool         `json:"client_gone"` // the client is not heard of again
}

// String names the combination as a test or a command line does.
func (c Combination) String() string {
	client := "client-retries"
	if c.Gone {
		client = "client-gone"
	}
	return fmt.Sprintf("%s/%s/%s/%s", c.Point, c.Service, c.Fault, client)
}

// delay is longer than anybody waits for an answer (CALL_TIMEOUT in scripts/lab.env).
const delay = 2500 * time.Millisecond

// All is every combination of the registry's points with the given faults. A point
// that the sweep does not know how to pass is passed by orders; when no process
// passes it there, the sweep fails.
func All(faults ...fault.Action) []Combination {
	var all []Combination
	for _, point := range fault.Points {
		for _, service := range whoPasses(point.Name) {
			for _, f := range faults {
				all = append(all, Combination{point.Name, service, f, false}, Combination{point.Name, service, f, true})
			}
		}
	}
	return all
}

// whoPasses: a service's own points by its name; those of a pattern by everybody
// who uses it.
func whoPasses(point string) []string {
	switch owner, _, _ := strings.Cut(point, "."); owner {
	case "orders", "callback":
		return []string{stack.Orders}
	case "payments", "twophase", "reconcile":
		return []string{stack.Payments}
	case "ledger":
		return []string{stack.Ledger}
	}
	return stack.Services
}

// World is a running system to sweep.
type World struct {
	System *stack.Stack
	Shop   *shop.Shop
	Truth  *audit.Databases
}

// ErrNotPassed means: nobody passed the point.
var ErrNotPassed = errors.New("nothing passed the point")

// Violated is the verdict when an invariant does not hold.
type Violated struct{ Results []audit.Result }

func (v *Violated) Error() string {
	var table strings.Builder
	audit.Print(&table, v.Results)
	return "invariants are violated:\n" + table.String()
}

// One runs one combination to its end and audits the system. nil: everything held.
func (w *World) One(ctx context.Context, c Combination) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	defer w.calm(context.WithoutCancel(ctx))
	act, err := w.prepare(ctx, c)
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	before, _ := w.System.Starts(c.Service)
	if c.Fault == fault.Delay {
		err = w.Shop.ArmDelay(ctx, w.System.URL[c.Service], c.Point, delay)
	} else {
		err = w.Shop.Arm(ctx, w.System.URL[c.Service], c.Point, string(c.Fault), 1)
	}
	if err != nil {
		return err
	}
	if err := act(ctx); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	if err := w.acted(ctx, c, before); err != nil {
		return err
	}
	if err := audit.WaitQuiet(ctx, w.Truth); err != nil {
		return err
	}
	results, err := audit.Run(ctx, w.Truth)
	if err == nil && !audit.Held(results) {
		err = &Violated{results}
	}
	return err
}

// acted waits until the fault has struck.
func (w *World) acted(ctx context.Context, c Combination, before int) error {
	for {
		if c.Fault == fault.Crash {
			if now, _ := w.System.Starts(c.Service); now > before && w.ready(ctx, c.Service) {
				return nil
			}
		} else if armed, err := w.armed(ctx, c); err == nil && !armed {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w %s in %s", ErrNotPassed, c.Point, c.Service)
		}
	}
}

func (w *World) ready(ctx context.Context, service string) bool {
	a, err := w.Shop.Get(ctx, w.System.URL[service]+"/readyz")
	return err == nil && a.Status == http.StatusOK
}

func (w *World) armed(ctx context.Context, c Combination) (bool, error) {
	a, err := w.Shop.Get(ctx, w.System.URL[c.Service]+"/lab/faults")
	if err != nil {
		return false, err
	}
	var list []fault.Status
	if err := json.Unmarshal(a.Body, &list); err != nil {
		return false, err
	}
	for _, s := range list {
		if s.Name == c.Point {
			return s.Armed != nil, nil
		}
	}
	return false, fmt.Errorf("%s does not know %s", c.Service, c.Point)
}

// calm takes back every fault that was not met.
func (w *World) calm(ctx context.Context) {
	_ = w.Shop.Misbehave(ctx, `{"rules":[]}`)
	for _, service := range stack.Services {
		request, err := http.NewRequestWithContext(ctx, http.MethodDelete, w.System.URL[service]+"/lab/faults", nil)
		if err != nil {
			continue
		}
		if response, err := w.Shop.HTTP.Do(request); err == nil {
			_ = response.Body.Close()
		}
	}
}

// prepare does what has to be there before the fault is armed, and returns what
// makes somebody pass the point.
func (w *World) prepare(ctx context.Context, c Combination) (act func(context.Context) error, err error) {
	switch {
	case c.Point == fault.GarbageAfterBatch:
		return func(ctx context.Context) error { return w.litter(ctx, c.Service) }, nil
	case strings.HasPrefix(c.Point, "reconcile."):
		return w.unknownPayout(ctx, c.Gone)
	case strings.HasPrefix(c.Point, "payments.refund."), c.Point == fault.LedgerEntryAfterCommit:
		o, err := w.sold(ctx)
		return w.request(w.Shop.Payments+"/v1/refunds", fmt.Appendf(nil, `{"payment_id":%q}`, o.PaymentID), c.Gone), err
	case strings.HasPrefix(c.Point, "payments.payout."), strings.HasPrefix(c.Point, "ledger.payout."), strings.HasPrefix(c.Point, "twophase."):
		return w.request(w.Shop.Payments+"/v1/payouts", []byte(payout), c.Gone), w.payable(ctx)
	}
	card := shop.CardWorks
	switch c.Point {
	case fault.PaymentsVoidAfterIntent, fault.PaymentsVoidAfterProcessor:
		card = shop.CardCaptureFails
	case fault.PaymentsRedeemBeforeRecovery:
		// The processor redeems and loses its answer, so that the second try meets the first.
		if err := w.Shop.Misbehave(ctx, `{"rules":[{"contract":"payment_methods","fault":"lose_answer","times":1}]}`); err != nil {
			return nil, err
		}
	}
	token, err := w.Shop.Token(ctx, card)
	return w.request(w.Shop.Orders+"/v1/orders", w.Shop.Basket(token, mug), c.Gone), err
}

var mug = shop.Item{SKU: "mug", Quantity: 1}

const payout = `{"amount":{"minor":100,"currency":"GBP"}}`

// request sends a request until there is a definite answer, or once.
func (w *World) request(url string, body []byte, gone bool) func(context.Context) error {
	return func(ctx context.Context) error {
		if gone {
			_, _ = w.Shop.Post(ctx, url, uuid.NewString(), body) // whatever came of it, nobody hears it
			return nil
		}
		a, _, err := w.Shop.InsistAt(ctx, url, uuid.NewString(), body, nil)
		if err == nil && a.Status >= http.StatusMultipleChoices {
			err = fmt.Errorf("status %d: %s", a.Status, a.Body)
		}
		return err
	}
}

// sold is an order that is confirmed.
func (w *World) sold(ctx context.Context) (shop.Order, error) {
	token, err := w.Shop.Token(ctx, shop.CardWorks)
	if err != nil {
		return shop.Order{}, err
	}
	a, _, err := w.Shop.Insist(ctx, uuid.NewString(), w.Shop.Basket(token, mug), nil)
	if err != nil {
		return shop.Order{}, err
	}
	var o shop.Order
	if err := json.Unmarshal(a.Body, &o); err != nil {
		return o, err
	}
	o, err = w.Shop.Finished(ctx, o.ID)
	if err == nil && o.Status != "confirmed" {
		err = fmt.Errorf("order %s is %s: %s", o.ID, o.Status, o.Reason)
	}
	return o, err
}

// payable sells, and waits until the money can be paid out.
func (w *World) payable(ctx context.Context) error {
	if _, err := w.sold(ctx); err != nil {
		return err
	}
	return audit.WaitQuiet(ctx, w.Truth)
}

// unknownPayout leaves a difference for a reconciliation to find and mend.
func (w *World) unknownPayout(ctx context.Context, gone bool) (func(context.Context) error, error) {
	if err := w.payable(ctx); err != nil {
		return nil, err
	}
	if err := w.Shop.Misbehave(ctx, `{"rules":[{"contract":"bank.transfers","fault":"lose_answer","times":1}]}`); err != nil {
		return nil, err
	}
	if err := w.request(w.Shop.Payments+"/v1/payouts", []byte(payout), false)(ctx); err != nil {
		return nil, err
	}
	for old := false; !old; { // than RECONCILE_GRACE, or it is judged to be on its way
		if err := w.Truth.Payments.QueryRow(ctx, `SELECT max(finished_at) < now() - interval '1.2 s' FROM payouts`).Scan(&old); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context) error {
		var unknown int
		for {
			_, _ = w.Shop.Post(ctx, w.Shop.Payments+"/v1/reconciliations", "", nil)
			if gone {
				break
			}
			if err := w.Truth.Payments.QueryRow(ctx, `SELECT count(*) FROM payouts WHERE outcome = 'unknown'`).Scan(&unknown); err != nil || unknown == 0 || ctx.Err() != nil {
				return err
			}
		}
		for unknown = 1; unknown > 0; { // the run is executed again without anybody asking
			if err := w.Truth.Payments.QueryRow(ctx, `SELECT count(*) FROM payouts WHERE outcome = 'unknown'`).Scan(&unknown); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// litter leaves change records of 1970 for a collector to find.
func (w *World) litter(ctx context.Context, service string) error {
	pool, sender := w.Truth.Payments, "/orders"
	switch service {
	case stack.Orders:
		pool, sender = w.Truth.Orders, "/payments"
	case stack.Ledger:
		pool = w.Truth.Ledger
	}
	_, err := pool.Exec(ctx, `
		INSERT INTO inbox (source, message_id)
		SELECT $1, ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid
		  FROM generate_series(1, 700) n
		    ON CONFLICT DO NOTHING`,
		sender)
	if err != nil {
		return err
	}
	for left := 1; left > 0; {
		if err := pool.QueryRow(ctx, `SELECT count(*) FROM inbox WHERE message_id < '00000001-0000-0000-0000-000000000000'`).Scan(&left); err != nil {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d of 700 are still there: %w", left, ctx.Err())
		}
	}
	return nil
}
