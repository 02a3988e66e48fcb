package audit

import (
	"context"
	"slices"
)

// sameAnswer checks the recorded answers themselves: each leads to what was made
// for it, no two keys to the same thing, and what was recorded is what it was made
// from. Whether clients got these very bytes, only clients can tell; see Merge.
func sameAnswer(ctx context.Context, d *Databases) (int, []string, error) {
	checked, wrong, err := violations(ctx, d.Orders,
		`SELECT count(*) FROM idempotency_keys WHERE operation = 'POST /v1/orders'`,
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
	n, more, err := violations(ctx, d.Payments,
		`SELECT count(*) FROM idempotency_keys WHERE status IS NOT NULL`,
		`SELECT format('key %s of %s was answered with %s, its work is %s', key, operation, convert_from(body, 'UTF8')::jsonb ->> 'id', work_id)
		   FROM idempotency_keys
		  WHERE CASE WHEN status < 300 THEN substr(convert_from(body, 'UTF8')::jsonb ->> 'id', 5) <> work_id::text END
		  UNION ALL
		 SELECT format('%s is the work of %s keys', work_id, count(*))
		   FROM idempotency_keys
		  GROUP BY work_id
		 HAVING count(*) > 1`)
	return checked + n, append(wrong, more...), err
}

// Merge adds what a client has seen to the invariant of the same name.
func Merge(results []Result, seen Result) []Result {
	merged := slices.Clone(results)
	for i, r := range merged {
		if r.ID == seen.ID {
			merged[i].Checked += seen.Checked
			merged[i].Violations = append(slices.Clone(r.Violations), seen.Violations...)
			return merged
		}
	}
	return append(merged, seen)
}
