// Package mutants proves the auditor. Each mutant is the system with one pattern
// taken out of its source; it must turn exactly the invariant red that the pattern
// is there for. An audit that no mutant turns red checks nothing.
//
// A mutant is an edit of the source, applied by `go build -overlay`: the diff of the
// pattern's experiment where that is what the invariant is there for, or a handful of
// replacements. The tree is not touched, and the services carry no switch that turns a
// pattern off. When the code moves on and an edit does not fit any more, the mutant fails.
package mutants

import (
	"fmt"
	"slices"
	"strings"

	"example.com/failwell/scripts/lab/experiments/edits"
)

// Edit replaces text that stands exactly once in a file.
type Edit struct{ File, Old, New string }

// Mutant is a system without a pattern.
type Mutant struct {
	ID        string
	Pattern   string // what is taken away
	Invariant string // what must turn red
	Says      string
	Diff      string // the pattern whose experiment has the edit; or:
	Edits     []Edit
	Drive     Drive // makes the system do what the pattern is needed for
}

// All mutants.
var All = []Mutant{
	{
		ID: "refusal-ignored", Pattern: "saga", Invariant: "order-terminal",
		Says: "a participant's refusal is taken for a late reply",
		Edits: []Edit{
			{"services/orders/saga.go", `if !expected {`, `if !expected || reply.Outcome == saga.Refused {`},
		},
		Drive: declined,
	},
	{
		ID: "saga-forgotten", Pattern: "saga", Invariant: "order-terminal",
		Says:  "with the end of an order its saga is deleted",
		Edits: []Edit{{"services/orders/end.go", `	if notification`, "	b.Queue(`DELETE FROM sagas WHERE id = $1`, o.ID)\n\tif notification"}},
		Drive: soldTwice,
	},
	{
		ID: "key-not-sent", Pattern: "idempotency-key-external", Invariant: "charged-once",
		Says:  "calls to the processor carry no key",
		Diff:  "idempotency-key-external",
		Drive: answerLost,
	},
	{
		ID: "published-before-commit", Pattern: "transactional-outbox", Invariant: "charged-once",
		Says: "the first command of an order is on its way before the order is committed",
		Edits: []Edit{
			{"services/orders/accept.go", `err = s.commit(ctx, fault.OrdersAcceptBeforeCommit`, `if err := postgres.Write(ctx, s.db, command.Append); err != nil {
		return idempotency.Recorded{}, err
	}
	err = s.commit(ctx, fault.OrdersAcceptBeforeCommit`},
			{"services/orders/accept.go", `command.Append(b)`, ``},
		},
		Drive: diedBeforeCommit,
	},
	{
		ID: "compensation-skipped", Pattern: "saga", Invariant: "stock-conserved",
		Says: "a cancelled order does not put its stock back",
		Edits: []Edit{{"services/orders/end.go", `	} else {
		release(b, o)
	}`, `	}`}},
		Drive: declined,
	},
	{
		ID: "balance-not-moved", Pattern: "acid-transaction", Invariant: "books-balance",
		Says:  "an entry's last balance is left for later",
		Edits: []Edit{{"services/ledger/entry.go", `for _, account := range inOrder {`, `for _, account := range inOrder[:len(inOrder)-1] {`}},
		Drive: soldTwice,
	},
	{
		ID: "step-skipped", Pattern: "recovery-point", Invariant: "ledger-complete",
		Says:  "a refund writes its point and does not tell the books",
		Edits: []Edit{{"services/payments/refund.go", `if err := s.ledger.book(ctx, refundEntry(*r)); err != nil {`, `if err := ctx.Err(); err != nil {`}},
		Drive: refunded,
	},
	{
		ID: "news-not-stored", Pattern: "out-of-order-messages", Invariant: "ledger-complete",
		Says: "the processor's news is acknowledged and not stored",
		Edits: []Edit{{"services/payments/webhook.go", `id := c.Request().Header.Get("webhook-id")`, `id := c.Request().Header.Get("webhook-id")
	if rank > 0 {
		return c.NoContent(http.StatusNoContent)
	}`}},
		Drive: soldTwice,
	},
	{
		// Both, because each alone is enough: nothing that the audit sees depends on
		// the inbox only.
		ID: "inbox-not-written", Pattern: "change-record", Invariant: "ledger-complete",
		Says:  "neither the message nor the source of an entry is kept to be used once",
		Diff:  "change-record",
		Drive: deliveredTwice,
	},
	{
		ID: "sum-not-kept", Pattern: "atomic-read-then-write", Invariant: "refund-bounded",
		Says: "what is being given back is not noted on the payment, and the processor does not look either",
		Edits: []Edit{
			{"services/payments/refund.go", `refunded_minor + $2,`, `refunded_minor + 0 * $2::bigint,`},
			{"scripts/sandbox/changes.go", `ch.RefundedMinor += moved`, ``},
		},
		Drive: refundedTwice,
	},
	{
		ID: "guard-removed", Pattern: "at-most-once-guard", Invariant: "payout-at-most-once",
		Says:  "nothing is written before the bank is asked",
		Diff:  "at-most-once-guard",
		Drive: paidOut,
	},
	{
		ID: "completer-idle", Pattern: "completer", Invariant: "nothing-in-doubt",
		Says:  "what its client gave up on stays as it is",
		Diff:  "completer",
		Drive: refundLeft,
	},
	{
		ID: "news-forgotten", Pattern: "callback", Invariant: "called-back",
		Says:  "the end of an order writes no callback",
		Edits: []Edit{{"services/orders/end.go", `		callback.Enqueue(b, *notification)`, `		_ = callback.Enqueue`}},
		Drive: soldTwice,
	},
	{
		ID: "reference-first", Pattern: "store-then-reference", Invariant: "no-dangling-reference",
		Says:  "the reference is written, the document is to follow",
		Edits: []Edit{{"shared/pattern/storethenreference/store_then_reference.go", `err := s.Bucket.WriteAll(ctx, ref.Name, body,`, `err := s.Bucket.WriteAll(ctx, "later/"+ref.Name, body,`}},
		Drive: soldTwice,
	},
	{
		ID: "answered-anew", Pattern: "response-record", Invariant: "same-answer",
		Says: "a replay is answered with 200, as many do",
		Edits: []Edit{{"shared/pattern/idempotency/response.go", `w.Header().Set(HeaderReplayed, "true")`, `w.Header().Set(HeaderReplayed, "true")
		a.Status = http.StatusOK`}},
		Drive: askedTwice,
	},
	{
		ID: "answer-misrecorded", Pattern: "response-record", Invariant: "same-answer",
		Says:  "what is recorded under a key is not what was answered",
		Edits: []Edit{{"shared/pattern/idempotency/response.go", `answer.Body, r.Retention)`, `bytes.Replace(answer.Body, []byte("ord_"), []byte("ord_f"), 1), r.Retention)`}},
		Drive: soldTwice,
	},
	{
		ID: "work-mistaken", Pattern: "idempotency-key-lock", Invariant: "same-answer",
		Says:  "a key is recorded as standing for other work than was done",
		Edits: []Edit{{"shared/pattern/idempotency/lock.go", `lock.OperationID, lock.token, lease`, `uuid.New(), lock.token, lease`}},
		Drive: refunded,
	},
}

// Chosen returns the mutants whose name contains one of the texts, or all when there
// is none. A text that no name contains is a mistake of the caller.
func Chosen(only []string) ([]Mutant, error) {
	return chosen(All, only, func(m Mutant) string { return m.ID })
}

// ChosenBugs is Chosen for the track record.
func ChosenBugs(only []string) ([]Bug, error) {
	return chosen(Bugs, only, func(b Bug) string { return b.ID })
}

func chosen[T any](all []T, only []string, id func(T) string) ([]T, error) {
	if len(only) == 0 {
		return all, nil
	}
	for _, text := range only {
		if !slices.ContainsFunc(all, func(t T) bool { return strings.Contains(id(t), text) }) {
			var ids []string
			for _, t := range all {
				ids = append(ids, id(t))
			}
			return nil, fmt.Errorf("no name contains %q; there are: %s", text, strings.Join(ids, ", "))
		}
	}
	var some []T
	for _, t := range all {
		if slices.ContainsFunc(only, func(text string) bool { return strings.Contains(id(t), text) }) {
			some = append(some, t)
		}
	}
	return some, nil
}

// Overlay reads the files that the mutant changes, and returns them changed.
func (m Mutant) Overlay(root string) (map[string]string, error) {
	if m.Diff == "" {
		return overlay(root, m.ID, m.Edits)
	}
	kept, err := edits.Of(m.Diff)
	if err != nil {
		return nil, err
	}
	return edits.Overlay(root, m.ID, kept)
}

// Overlay returns the files with the bug back in them.
func (b Bug) Overlay(root string) (map[string]string, error) { return overlay(root, b.ID, b.Edits) }

func overlay(root, id string, list []Edit) (map[string]string, error) {
	var all []edits.Edit
	for _, e := range list {
		all = append(all, edits.Edit(e))
	}
	return edits.Overlay(root, id, all)
}
