package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/reconciliation"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/postgres"
)

// Whose statements are compared with what we believe.
const (
	fromProcessor = "processor"
	fromBank      = "bank"
	fromLedger    = "ledger"
)

// changedSQL selects the payments and payouts that were begun since $1. Ids are UUIDv7, so
// the primary key finds them. What happens to an older one shows up in somebody's statement,
// except its settlement: RECONCILE_OVERLAP is longer than that may take.
const changedSQL = `
	SELECT id FROM payments WHERE id >= (lpad(to_hex(GREATEST(0, extract(epoch FROM $1::timestamptz) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
	UNION ALL
	SELECT id FROM payouts  WHERE id >= (lpad(to_hex(GREATEST(0, extract(epoch FROM $1::timestamptz) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid`

// ownersSQL selects whose the payments and payouts in $1 are, and what the outside
// calls them.
const ownersSQL = `
	SELECT id, merchant_id, 'pay_' || id FROM payments WHERE id = ANY($1)
	UNION ALL
	SELECT id, merchant_id, 'pyo_' || id FROM payouts  WHERE id = ANY($1)`

// expectedSQL selects what each of the others should say of the payments and
// payouts in $1, if we are right.
const expectedSQL = `
	SELECT unnest(ARRAY['processor', 'ledger']), unnest(ARRAY['capture', 'sale']), id, 1::bigint, amount_minor, currency, updated_at
	  FROM payments
	 WHERE id = ANY($1) AND status = 'captured'
	UNION ALL
	SELECT 'ledger', 'settlement', id, 1, amount_minor, currency, settled_at
	  FROM payments
	 WHERE id = ANY($1) AND settled_at IS NOT NULL
	UNION ALL
	SELECT unnest(ARRAY['processor', 'ledger']), 'refund', payment_id, count(*), sum(amount_minor)::bigint, min(currency), max(COALESCE(finished_at, created_at))
	  FROM refunds
	 WHERE payment_id = ANY($1) AND decision = 'succeeded'
	 GROUP BY payment_id
	UNION ALL
	SELECT 'ledger', 'refund-settlement', payment_id, count(*), sum(amount_minor)::bigint, min(currency), max(settled_at)
	  FROM refunds
	 WHERE payment_id = ANY($1) AND settled_at IS NOT NULL
	 GROUP BY payment_id
	UNION ALL
	SELECT 'bank', 'transfer', id, 1, amount_minor, currency, COALESCE(finished_at, created_at)
	  FROM payouts
	 WHERE id = ANY($1) AND outcome IN ('sent', 'unknown')
	   AND NOT (outcome = 'unknown' AND EXISTS (
	       -- On the statement after all: a difference, so that it is judged.
	       SELECT FROM statement_lines l WHERE l.subject = payouts.id AND l.source = 'bank'))
	UNION ALL
	SELECT 'ledger', 'payout', id, 1, amount_minor, currency, COALESCE(finished_at, created_at)
	  FROM payouts
	 WHERE id = ANY($1) AND recovery_point <> 'started' AND NOT (outcome = 'failed' AND failure = 'insufficient_balance')
	UNION ALL
	SELECT 'ledger', CASE outcome WHEN 'sent' THEN 'payout-sent' ELSE 'payout-returned' END, id, 1, amount_minor, currency, COALESCE(finished_at, created_at)
	  FROM payouts
	 WHERE id = ANY($1) AND (outcome = 'sent' OR outcome = 'failed' AND failure <> 'insufficient_balance')`

// verdicts, in short.
func pending(finding, note string) reconciliation.Judgement {
	return reconciliation.Judgement{Finding: finding, Verdict: reconciliation.Pending, Note: note}
}

func unresolvable(finding, note string) reconciliation.Judgement {
	return reconciliation.Judgement{Finding: finding, Verdict: reconciliation.Unresolvable, Note: note}
}

// judge looks at one difference. What is young may only be on its way. What the
// ordinary code would have done is done now, by the same code; it knows by itself
// when it was done already. The rest is for a person.
//
// Pattern: reconciliation
func (s *service) judge(ctx context.Context, p reconciliation.Pair) (reconciliation.Judgement, error) {
	if p.Ours != nil && p.Theirs != nil && p.Ours.Count == p.Theirs.Count {
		return unresolvable("amount-differs", "Both sides have it, over different amounts."), nil
	}
	if p.Kind == unreadable {
		return unresolvable("unreadable-line", "A line of their statement makes no sense. The log shows it, under this name."), nil
	}
	if s.young(p.Ours) || s.young(p.Theirs) {
		return pending("too-young", "It may still be on its way."), nil
	}
	if p.Subject == uuid.Nil {
		return unresolvable("unknown-reference", "They name something that we have never heard of."), nil
	}
	switch p.Source {
	case fromProcessor:
		return s.judgeCharge(ctx, p)
	case fromBank:
		return s.judgeTransfer(ctx, p)
	}
	return s.judgeEntry(ctx, p)
}

// young tells whether one side may only be on its way to the other. What is dated further
// ahead than clocks differ is not: its difference would be hidden until then.
func (s *service) young(side *reconciliation.Side) bool {
	return side != nil && time.Since(side.At).Abs() < s.cfg.ReconcileGrace
}

// judgeCharge: captures and refunds at the processor.
func (s *service) judgeCharge(ctx context.Context, p reconciliation.Pair) (reconciliation.Judgement, error) {
	pay, err := s.paymentOf(ctx, p.Subject)
	switch {
	case err != nil:
		return reconciliation.Judgement{}, err
	case pay.ID == uuid.Nil:
		return unresolvable("unknown-charge", "The processor moved money for a payment that we do not have."), nil
	case p.Theirs == nil:
		return unresolvable("missing-at-processor", "We believe that money moved; the processor does not."), nil
	case p.Kind == "capture" && p.Theirs.Count > 1:
		return unresolvable("captured-twice", "The processor took the money more than once."), nil
	case p.Kind == "capture" && (pay.Status == authorised || pay.Status == authorising):
		return pending("not-recorded-yet", "The order is still at work and will ask for the capture again."), nil
	case p.Kind == "capture":
		return unresolvable("captured-though-"+pay.Status, "The processor took the money of a payment that is "+pay.Status+" here."), nil
	}
	var atWork bool
	err = s.db.QueryRow(ctx, `
		SELECT EXISTS (
			SELECT FROM refunds
			 WHERE payment_id = $1
			   AND recovery_point = 'started')`,
		p.Subject).Scan(&atWork)
	if atWork {
		return pending("not-recorded-yet", "A refund is still at work."), err
	}
	return unresolvable("unknown-refund", "The processor gave back more than we have asked for."), err
}

// judgeTransfer: payouts at the bank. Here the unknown ones become known.
func (s *service) judgeTransfer(ctx context.Context, p reconciliation.Pair) (reconciliation.Judgement, error) {
	out, err := s.loadPayout(ctx, p.Subject)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return unresolvable("unknown-transfer", "The bank sent money for a payout that we do not have."), nil
	case err != nil:
		return reconciliation.Judgement{}, err
	case p.Theirs != nil && p.Theirs.Count > 1:
		return unresolvable("sent-twice", "The bank sent the money more than once."), nil
	case out.Outcome == payoutUnknown && p.Theirs == nil:
		return unresolvable("not-on-statement", "The bank never answered, and its statement does not show it. Ask the bank, then resolve it by hand."), nil
	case out.Outcome == payoutUnknown && (money.Money{Minor: p.Theirs.Minor, Currency: p.Theirs.Currency}) != out.Amount:
		return unresolvable("amount-differs", "The bank sent another amount."), nil
	case out.Outcome == payoutUnknown:
		_, err := s.resolvePayout(ctx, out.ID, payoutSent)
		return reconciliation.Judgement{Finding: "outcome-unknown", Verdict: reconciliation.Resolved, Note: "It is on the bank's statement: sent."}, err
	case out.Outcome == payoutPending:
		return pending("not-recorded-yet", "The payout is still at work."), nil
	case p.Theirs == nil:
		return unresolvable("missing-at-bank", "The bank said that it was sent; its statement does not show it."), nil
	}
	return unresolvable("sent-though-"+out.Outcome, "The bank sent a payout that is "+out.Outcome+" here."), nil
}

// judgeEntry: what the ledger has booked. What it misses is told again, by the
// same message or call as the first time; it books nothing twice.
func (s *service) judgeEntry(ctx context.Context, p reconciliation.Pair) (reconciliation.Judgement, error) {
	if p.Ours == nil || p.Theirs != nil && p.Theirs.Count > p.Ours.Count {
		pay, err := s.paymentOf(ctx, p.Subject)
		if err != nil {
			return reconciliation.Judgement{}, err
		}
		if p.Kind == "sale" && (pay.Status == authorised || pay.Status == authorising || pay.Status == captureFailed || pay.Status == voiding) {
			return pending("not-recorded-yet", "The order is still at work: it will be captured, or its sale reversed."), nil
		}
		return unresolvable("unknown-entry", "The ledger has booked what we know nothing of."), nil
	}
	fixed := reconciliation.Judgement{Finding: "missing-in-ledger", Verdict: reconciliation.Resolved, Note: "Told again."}
	switch p.Kind {
	case "settlement", "refund-settlement":
		return fixed, s.tellSettlementsAgain(ctx, p.Subject)
	case "refund":
		return fixed, s.postRefundsAgain(ctx, p.Subject)
	case "payout-sent", "payout-returned":
		out, err := s.loadPayout(ctx, p.Subject)
		if err != nil {
			return fixed, err
		}
		tellLedger, err := s.payoutMessage(ctx, out, out.Outcome)
		if err == nil {
			err = postgres.InTx(ctx, s.db, tellLedger)
		}
		s.relay.Wake()
		return fixed, err
	}
	return unresolvable("missing-in-ledger", fmt.Sprintf("There is no %s in the books, and nothing of ours could book it now.", p.Kind)), nil
}

// tellSettlementsAgain repeats what the ledger was told of a payment's settlement.
func (s *service) tellSettlementsAgain(ctx context.Context, paymentID uuid.UUID) error {
	p, err := s.paymentOf(ctx, paymentID)
	if err != nil {
		return err
	}
	rows, _ := s.db.Query(ctx, `
		SELECT 'charge', settled_operation, amount_minor
		  FROM payments
		 WHERE id = $1
		   AND settled_operation IS NOT NULL
		 UNION ALL
		SELECT 'refund', settled_operation, amount_minor
		  FROM refunds
		 WHERE payment_id = $1
		   AND settled_operation IS NOT NULL`,
		paymentID)
	messages, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (message outbox.Envelope, err error) {
		var kind string
		var operation uuid.UUID
		var minor int64
		if err = row.Scan(&kind, &operation, &minor); err == nil {
			message, err = s.settlement(ctx, p, kind, operation, minor)
		}
		return message, err
	})
	if err == nil {
		err = postgres.Write(ctx, s.db, func(b *pgx.Batch) {
			for _, message := range messages {
				message.Append(b)
			}
		})
	}
	s.relay.Wake()
	return err
}

func (s *service) postRefundsAgain(ctx context.Context, paymentID uuid.UUID) error {
	rows, _ := s.db.Query(ctx, selectRefund+`
		 WHERE r.payment_id = $1
		   AND r.decision = 'succeeded'`,
		paymentID)
	refunds, err := pgx.CollectRows(rows, scanRefund)
	for _, r := range refunds {
		if err == nil {
			err = s.ledger.book(ctx, refundEntry(r))
		}
	}
	return err
}

// missedAtOnce bounds one look for missed webhooks.
const missedAtOnce = 1000

// findMissedNews makes up for webhooks that never came. Of a capture or refund that the
// processor's report shows as long settled, the news is put into the log as if it had come,
// under an id of its own. Should the webhook come after all, the log knows the operation.
//
// It begins with what has not settled here: that is little, however long the report is, and
// nothing is forgotten because it was missed for too long. What was taken from the report
// before is left out, or the same full batch would be all that is ever looked at.
func (s *service) findMissedNews(ctx context.Context) error {
	for found := int64(missedAtOnce); found == missedAtOnce; {
		tag, err := s.db.Exec(ctx, `
			WITH missed AS (
			     SELECT 'charge.settled' AS type, 1 AS rank, l.*
			       FROM payments p
			       JOIN statement_lines l ON l.subject = p.id AND l.source = 'processor' AND l.kind = 'capture'
			      WHERE p.status = 'captured'
			        AND p.settled_at IS NULL
			        AND p.updated_at NOT BETWEEN now() - $1::interval AND now() + $1::interval
			     UNION
			     SELECT 'refund.settled', 2, l.*
			       FROM refunds r
			       JOIN statement_lines l ON l.subject = r.payment_id AND l.source = 'processor' AND l.kind = 'refund'
			      WHERE r.decision = 'succeeded'
			        AND r.settled_at IS NULL
			        AND r.created_at NOT BETWEEN now() - $1::interval AND now() + $1::interval
			        AND NOT EXISTS (SELECT FROM refunds o WHERE o.payment_id = r.payment_id AND o.settled_operation::text = lower(l.line_id)))
			INSERT INTO received_events (event_id, stream, rank, happened_at, type, body)
			SELECT 'report:' || lower(line_id), reference, rank, at, type,
			       convert_to(jsonb_build_object('type', type, 'timestamp', at, 'data', jsonb_build_object(
			           'operation_id', line_id, 'reference', reference, 'merchant_id', merchant_id,
			           'amount', jsonb_build_object('minor', minor, 'currency', currency)))::text, 'UTF8')
			  FROM missed
			 WHERE at NOT BETWEEN now() - $1::interval AND now() + $1::interval -- that far ahead, the date is wrong
			   AND NOT EXISTS (SELECT FROM received_events WHERE event_id = 'report:' || lower(line_id))
			 ORDER BY at
			 LIMIT $2
			    ON CONFLICT (event_id) DO NOTHING`,
			s.cfg.SettlementOverdue, missedAtOnce)
		if err != nil {
			return err
		}
		if found = tag.RowsAffected(); found > 0 {
			s.log.WarnContext(ctx, "webhooks never came; taken from the processor's report", "news", found)
		}
	}
	s.events.Notify()
	return nil
}
