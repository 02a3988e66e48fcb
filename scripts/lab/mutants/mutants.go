// Package mutants proves the auditor. Each mutant is the system with one pattern
// taken out of its source; it must turn exactly the invariant red that the pattern
// is there for. An audit that no mutant turns red checks nothing.
//
// A mutant is a handful of replacements in the source, applied by `go build
// -overlay`: the tree is not touched, and the services carry no switch that turns
// a pattern off. When the code moves on and a replacement does not fit any more,
// the mutant fails.
package mutants

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

// Edit replaces text that stands exactly once in a file.
type Edit struct{ File, Old, New string }

// Mutant is a system without a pattern.
type Mutant struct {
	ID        string
	Pattern   string // what is taken away
	Invariant string // what must turn red
	Says      string
	Edits     []Edit

	// Drive makes the system do what the pattern is needed for. It may return a
	// result of its own, for what only a client can see.
	Drive func(ctx context.Context, w *World) (*audit.Result, error)
}

// World is the mutated system.
type World struct {
	System *stack.Stack
	Shop   *shop.Shop
	Truth  *audit.Databases
}

// All mutants.
var All = []Mutant{
	{
		ID: "refusal-ignored", Pattern: "saga", Invariant: "order-terminal",
		Says: "a participant's refusal is taken for a late reply",
		Edits: []Edit{
			{"services/orders/saga.go", `if !remembered || !ok {`, `if !remembered || !ok || answer.Outcome == saga.Refused {`},
			{"services/orders/saga.go", `answer.Outcome); !ok {`, `answer.Outcome); !ok || answer.Outcome == saga.Refused {`},
		},
		Drive: orders(shop.CardDeclined),
	},
	{
		ID: "key-not-sent", Pattern: "idempotency-key-external", Invariant: "charged-once",
		Says:  "calls to the processor carry no key",
		Edits: []Edit{{"services/payments/processor.go", `if key != "" {`, `if key == "never" {`}},
		Drive: orders(shop.CardLosesAnswer),
	},
	{
		ID: "compensation-skipped", Pattern: "saga", Invariant: "stock-conserved",
		Says: "a cancelled order does not put its stock back",
		Edits: []Edit{{"services/orders/outcome.go", `	} else {
		release(b, r.order)
	}`, `	}`}},
		Drive: orders(shop.CardDeclined),
	},
	{
		ID: "balance-not-moved", Pattern: "acid-transaction", Invariant: "books-balance",
		Says:  "an entry's last balance is left for later",
		Edits: []Edit{{"services/ledger/entry.go", `for _, account := range inOrder {`, `for _, account := range inOrder[:len(inOrder)-1] {`}},
		Drive: orders(shop.CardWorks),
	},
	{
		ID: "step-skipped", Pattern: "recovery-point", Invariant: "ledger-complete",
		Says:  "a refund writes its point and does not tell the books",
		Edits: []Edit{{"services/payments/refund.go", `if err := s.books.post(ctx, refundEntry(r)); err != nil {`, `if err := ctx.Err(); err != nil {`}},
		Drive: refund(""),
	},
	{
		ID: "sum-not-kept", Pattern: "atomic-read-then-write", Invariant: "refund-bounded",
		Says:  "what is being given back is not noted on the payment",
		Edits: []Edit{{"services/payments/refund.go", `SET refunded_minor = refunded_minor + $2,`, `SET refunded_minor = refunded_minor + 0 * $2::bigint,`}},
		Drive: refund(""),
	},
	{
		ID: "guard-removed", Pattern: "at-most-once-guard", Invariant: "payout-at-most-once",
		Says: "the bank is asked until it answers",
		Edits: []Edit{
			{"services/payments/payout.go", `SET recovery_point = 'guarded'`, `SET recovery_point = 'booked'`},
			{"services/payments/payout.go", `			if !first {
				continue
			}
`, `			_ = first
`},
			{"services/payments/payout.go", `				outcome = payoutUnknown
				s.log`, `				return idempotency.Response{}, err
				s.log`},
		},
		Drive: payout(`{"rules":[{"contract":"bank.transfers","fault":"lose_answer","times":1}]}`),
	},
	{
		ID: "nobody-completes", Pattern: "completer", Invariant: "nothing-in-doubt",
		Says: "what its client gave up on stays as it is",
		Edits: []Edit{{"shared/pattern/recovery/completer.go", `	locks, err := idempotency.Abandoned(`, `	if c.Grace > 0 {
		return nil
	}
	locks, err := idempotency.Abandoned(`}},
		Drive: refund(fault.PaymentsRefundAfterPosted),
	},
	{
		ID: "news-forgotten", Pattern: "callback", Invariant: "called-back",
		Says: "the end of an order owes nobody a callback",
		Edits: []Edit{{"services/orders/outcome.go", `if r.news != nil {`, `if r.news != nil && r.order.ID == uuid.Nil {`}, {"services/orders/outcome.go", `	"github.com/jackc/pgx/v5"
`, `	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
`}},
		Drive: orders(shop.CardWorks),
	},
	{
		ID: "reference-first", Pattern: "store-then-reference", Invariant: "no-dangling-reference",
		Says:  "the reference is written, the document is to follow",
		Edits: []Edit{{"shared/pattern/storeref/store_then_reference.go", `err := s.Bucket.WriteAll(ctx, ref.Name, body,`, `err := s.Bucket.WriteAll(ctx, "later/"+ref.Name, body,`}},
		Drive: orders(shop.CardWorks),
	},
	{
		ID: "answered-anew", Pattern: "response-record", Invariant: "same-answer",
		Says: "a replay is answered with 200, as many do",
		Edits: []Edit{{"shared/pattern/idempotency/response.go", `c.Response().Header().Set(HeaderReplayed, "true")`, `c.Response().Header().Set(HeaderReplayed, "true")
		answer.Status = http.StatusOK`}},
		Drive: sameOrderTwice,
	},
}

// Overlay reads the files that the mutant changes, and returns them changed.
func (m Mutant) Overlay(root string) (map[string]string, error) {
	return overlay(root, m.ID, m.Edits)
}

// Overlay returns the files with the bug back in them.
func (b Bug) Overlay(root string) (map[string]string, error) { return overlay(root, b.ID, b.Edits) }

func overlay(root, id string, edits []Edit) (map[string]string, error) {
	changed := map[string]string{}
	for _, e := range edits {
		text, ok := changed[e.File]
		if !ok {
			raw, err := os.ReadFile(filepath.Join(root, e.File))
			if err != nil {
				return nil, err
			}
			text = string(raw)
		}
		if n := strings.Count(text, e.Old); n != 1 {
			return nil, fmt.Errorf("%s does not fit any more: %s has this %d times:\n%s", id, e.File, n, e.Old)
		}
		changed[e.File] = strings.Replace(text, e.Old, e.New, 1)
	}
	return changed, nil
}

var mug = shop.Item{SKU: "mug", Quantity: 1}

// orders places two orders with a card.
func orders(card string) func(context.Context, *World) (*audit.Result, error) {
	return func(ctx context.Context, w *World) (*audit.Result, error) {
		for range 2 {
			if _, err := w.place(ctx, card); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
}

func (w *World) place(ctx context.Context, card string) (shop.Order, error) {
	token, err := w.Shop.Token(ctx, card)
	if err != nil {
		return shop.Order{}, err
	}
	a, _, err := w.Shop.Insist(ctx, uuid.NewString(), w.Shop.Basket(token, mug), nil)
	if err != nil {
		return shop.Order{}, err
	}
	var o shop.Order
	return o, json.Unmarshal(a.Body, &o)
}

// refund gives an order back; with a crash at a point and a client that is gone,
// if there is a point.
func refund(point string) func(context.Context, *World) (*audit.Result, error) {
	return func(ctx context.Context, w *World) (*audit.Result, error) {
		o, err := w.place(ctx, shop.CardWorks)
		if err == nil {
			o, err = w.Shop.Finished(ctx, o.ID)
		}
		if err == nil && point != "" {
			err = w.Shop.Arm(ctx, w.Shop.Payments, point, "crash", 1)
		}
		if err != nil {
			return nil, err
		}
		body := fmt.Appendf(nil, `{"payment_id":%q}`, o.PaymentID)
		_, err = w.Shop.Post(ctx, w.Shop.Payments+"/v1/refunds", uuid.NewString(), body)
		if point != "" {
			err = nil // it died, as it should
		}
		return nil, err
	}
}

// payout pays out while the outside world misbehaves.
func payout(rules string) func(context.Context, *World) (*audit.Result, error) {
	return func(ctx context.Context, w *World) (*audit.Result, error) {
		if _, err := w.place(ctx, shop.CardWorks); err != nil {
			return nil, err
		}
		if err := audit.WaitQuiet(ctx, w.Truth); err != nil {
			return nil, err
		}
		if err := w.Shop.Misbehave(ctx, rules); err != nil {
			return nil, err
		}
		_, err := w.Shop.Post(ctx, w.Shop.Payments+"/v1/payouts", uuid.NewString(), []byte(`{"amount":{"minor":100,"currency":"GBP"}}`))
		return nil, err
	}
}

// sameOrderTwice compares what one request is answered.
func sameOrderTwice(ctx context.Context, w *World) (*audit.Result, error) {
	token, err := w.Shop.Token(ctx, shop.CardWorks)
	if err != nil {
		return nil, err
	}
	result := &audit.Result{ID: "same-answer", Says: "every answer to a key is byte-identical to the first"}
	key, body := uuid.NewString(), w.Shop.Basket(token, mug)
	first := 0
	for range 2 {
		a, _, err := w.Shop.Insist(ctx, key, body, nil)
		if err != nil {
			return nil, err
		}
		result.Checked++
		if first == 0 {
			first = a.Status
		}
		if a.Status != first || a.Status != http.StatusAccepted {
			result.Violations = append(result.Violations, fmt.Sprintf("key %s: first %d, then %d", key, first, a.Status))
		}
	}
	return result, nil
}
