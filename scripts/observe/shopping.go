package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/wait"
)

// decoded is the body of an answer that is no refusal.
func decoded[T any](a shop.Answer, err error) (out T, _ error) {
	if err == nil && a.Status >= http.StatusBadRequest {
		err = fmt.Errorf("answered %s", a)
	}
	if err == nil {
		err = json.Unmarshal(a.Body, &out)
	}
	return out, err
}

// eventually waits until a query says true.
func (w *world) eventually(ctx context.Context, service, query string, args ...any) error {
	return w.inDatabase(ctx, service, func(db *pgx.Conn) error {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		return wait.Until(ctx, 50*time.Millisecond, query, func() (bool, error) {
			var so *bool // NULL: no row is there yet
			err := db.QueryRow(ctx, query, args...).Scan(&so)
			return so != nil && *so, err
		})
	})
}

// ops runs the command that the runbook names.
func (w *world) ops(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"run", "./scripts/ops"}, args...)...)
	cmd.Dir, cmd.Env = w.Root, os.Environ()
	for _, name := range []string{"POSTGRES_URL", "PAYMENTS_URL", "SERVICE_KEY", "AMQP_URL"} {
		cmd.Env = append(cmd.Env, name+"="+w.Env()[name])
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ops %v: %w\n%s", args, err, out)
	}
	return nil
}

// payout asks for one, once there is something to pay out.
func (w *world) payout(ctx context.Context) (shop.Answer, error) {
	err := w.eventually(ctx, stack.Ledger, `SELECT sum(balance_minor) > 100 FROM accounts WHERE merchant_id = 'mer_acme' AND kind = 'merchant_available' AND currency = 'GBP'`)
	if err != nil {
		return shop.Answer{}, err
	}
	return w.shop.Post(ctx, w.shop.Payments+"/v1/payouts", uuid.NewString(), []byte(`{"amount":{"minor":100,"currency":"GBP"}}`))
}

// reconcile runs one to its end.
func (w *world) reconcile(ctx context.Context) error {
	type run struct{ ID string }
	r, err := decoded[run](w.shop.Post(ctx, w.shop.Payments+"/v1/reconciliations", "", nil))
	if err != nil {
		return err
	}
	return w.eventually(ctx, stack.Payments, `SELECT status = 'finished' FROM reconciliations WHERE 'rec_' || id = $1`, r.ID)
}

// busyFor is longer than the longest window of the rules.
const busyFor = longest + 5*time.Second

// someOfEverything orders, refunds, pays out and reconciles for a while.
func (w *world) someOfEverything(ctx context.Context) error {
	stop := w.stream(ctx, stack.Orders, 200*time.Millisecond)
	defer stop(ctx) //nolint:errcheck // it has none
	var all error
	for begun := time.Now(); time.Since(begun) < busyFor && all == nil; {
		for _, card := range []string{shop.CardWorks, shop.CardDeclined, shop.CardLosesAnswer} {
			o, err := w.shop.Buy(ctx, card, mug)
			if err == nil && o.Status == "confirmed" {
				_, err = w.shop.Post(ctx, w.shop.Payments+"/v1/refunds", uuid.NewString(), fmt.Appendf(nil, `{"payment_id":%q,"amount":{"minor":100,"currency":"GBP"}}`, o.PaymentID))
			}
			all = errors.Join(all, err)
		}
		_, err := w.payout(ctx)
		all = errors.Join(all, err, w.reconcile(ctx))
	}
	return all
}
