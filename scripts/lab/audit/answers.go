package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// sameAnswer checks the recorded answers themselves: each leads to what was made
// for it, no two keys to the same thing, and what was recorded is what it was made
// from. What clients got, only they can tell: see Heard and Merge.
func (a *auditor) sameAnswer(ctx context.Context) (int, []string, error) {
	checked, wrong, err := violations(ctx, a.Orders,
		`SELECT count(*) FROM idempotency_keys WHERE operation = 'POST /v1/orders' AND expires_at > now()`,
		`WITH answers AS (
			SELECT key, merchant_id, status, headers ->> 'Location' AS location, convert_from(body, 'UTF8')::jsonb AS body
			  FROM idempotency_keys
			 WHERE operation = 'POST /v1/orders'
			   AND expires_at > now())
		 SELECT format('key %s was answered with %s, which is not there', a.key, a.body ->> 'id')
		   FROM answers a
		   LEFT JOIN orders o ON 'ord_' || o.id = a.body ->> 'id' AND o.merchant_id = a.merchant_id
		  WHERE o.id IS NULL
		  UNION ALL
		 SELECT format('key %s: status %s, location %s, order %s', a.key, a.status, a.location, a.body ->> 'id')
		   FROM answers a
		  WHERE a.status <> 202 OR a.location <> '/v1/orders/' || (a.body ->> 'id') OR a.body ->> 'status' <> 'pending'
		  UNION ALL
		 SELECT format('%s is the answer to %s keys', body ->> 'id', count(*))
		   FROM answers
		  GROUP BY body ->> 'id'
		 HAVING count(*) > 1`)
	if err != nil {
		return 0, nil, err
	}
	n, more, err := violations(ctx, a.Payments,
		`SELECT count(*) FROM idempotency_keys WHERE status IS NOT NULL`,
		`SELECT format('key %s of %s was answered with %s, its work is %s', key, operation, convert_from(body, 'UTF8')::jsonb ->> 'id', operation_id)
		   FROM idempotency_keys
		  WHERE CASE WHEN status < 300 THEN substr(convert_from(body, 'UTF8')::jsonb ->> 'id', 5) <> operation_id::text END
		  UNION ALL
		 SELECT format('%s is the work of %s keys', operation_id, count(*))
		   FROM idempotency_keys
		  GROUP BY operation_id
		 HAVING count(*) > 1`)
	return checked + n, append(wrong, more...), err
}

// Answer is a recorded answer as a client got it. What is not recorded is none: an
// answer with 5xx, a refusal that undid all, a 202 to a refund that is not finished.
type Answer struct {
	Merchant, Operation, Key string // POST /v1/orders
	Status                   int
	Body                     []byte
}

func (a Answer) same(b Answer) bool { return a.Status == b.Status && bytes.Equal(a.Body, b.Body) }

func (a Answer) String() string { return fmt.Sprintf("%d %s", a.Status, a.Body) }

// Heard compares what clients were answered, byte for byte, with what they were
// answered first and with what is recorded. Merge its result with those of Run.
func Heard(ctx context.Context, d *Databases, answers []Answer) (Result, error) {
	r := Result{ID: "same-answer", Says: "each client got it byte for byte", Checked: len(answers)}
	first := map[[3]string]Answer{}
	for _, a := range answers {
		key := [3]string{a.Merchant, a.Operation, a.Key}
		if earlier, again := first[key]; again {
			if !a.same(earlier) {
				r.Violations = append(r.Violations, fmt.Sprintf("key %s: a client got first %s, then %s", a.Key, earlier, a))
			}
			continue
		}
		first[key] = a
		db := d.Payments
		if a.Operation == "POST /v1/orders" {
			db = d.Orders
		}
		var recorded Answer
		err := db.QueryRow(ctx, `
			SELECT status, body
			  FROM idempotency_keys
			 WHERE merchant_id = $1
			   AND operation = $2
			   AND key = $3
			   AND status IS NOT NULL`,
			a.Merchant, a.Operation, a.Key).Scan(&recorded.Status, &recorded.Body)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			r.Violations = append(r.Violations, fmt.Sprintf("key %s: a client got %s, and nothing is recorded", a.Key, a))
		case err != nil:
			return r, fmt.Errorf("audit: answers: %w", err)
		case !a.same(recorded):
			r.Violations = append(r.Violations, fmt.Sprintf("key %s: a client got %s, recorded is %s", a.Key, a, recorded))
		}
	}
	return r, nil
}

// Merge adds what a client has seen to the invariant of the same name.
func Merge(results []Result, seen Result) []Result {
	merged := slices.Clone(results)
	for i, r := range merged {
		if r.ID == seen.ID {
			merged[i].Says += "; " + seen.Says
			merged[i].Checked += seen.Checked
			merged[i].Violations = append(slices.Clone(r.Violations), seen.Violations...)
			return merged
		}
	}
	return append(merged, seen)
}
