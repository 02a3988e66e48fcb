package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"

	"github.com/google/uuid"
)

// ledger measures entries of two postings: all of them on the same two accounts,
// where every one waits for the commit of the one before, and spread over many.
func (b *bench) ledger(ctx context.Context) error {
	const merchants = 1000
	if err := b.openAccounts(ctx, merchants); err != nil {
		return err
	}
	for _, c := range []struct {
		line     string
		merchant func() int
		pgbench  string
		target   float64
	}{
		{"ledger, one hot account, 32 clients", func() int { return 0 }, `\set n 0`, 4},
		{"ledger, 1,000 accounts, 32 clients", func() int { return rand.IntN(merchants) }, fmt.Sprintf(`\set n random(0, %d)`, merchants-1), 0},
	} {
		// pgbench takes every :name for a variable of its own, in quotes as well: chr(58).
		script := c.pgbench + `
WITH id AS MATERIALIZED (SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || substr(md5(random()::text), 1, 19))::uuid AS id),
e AS (INSERT INTO entries (id, kind, source, reference, merchant_id) SELECT id, 'bench', 'bench_' || id, 'ref', 'mer_' || (:n)::int FROM id),
p AS (INSERT INTO postings (entry_id, line_no, account_id, amount_minor)
      SELECT id, 1, 'merchant_available' || chr(58) || 'mer_' || (:n)::int || chr(58) || 'GBP', 1 FROM id UNION ALL SELECT id, 2, 'merchant_pending' || chr(58) || 'mer_' || (:n)::int || chr(58) || 'GBP', -1 FROM id),
a AS (UPDATE accounts SET balance_minor = balance_minor + 1 WHERE id = 'merchant_available' || chr(58) || 'mer_' || (:n)::int || chr(58) || 'GBP')
UPDATE accounts SET balance_minor = balance_minor - 1 WHERE id = 'merchant_pending' || chr(58) || 'mer_' || (:n)::int || chr(58) || 'GBP';
`
		_, err := b.against(c.line, "entries/s",
			contender{"", 0, func() (sample, error) {
				return b.drive(ctx, 32, func(ctx context.Context, _ int) error { return b.post(ctx, c.merchant()) })
			}},
			contender{"pgbench, the same writes as one statement", c.target, func() (sample, error) {
				rate, err := b.pgbench(ctx, "ledger", script, 32)
				return sample{perSecond: rate}, err
			}})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) post(ctx context.Context, merchant int) error {
	body := fmt.Appendf(nil, `{"kind":"bench","source":"bench_%s","reference":"ref","merchant_id":"mer_%d","postings":[
		{"account":"merchant_available:mer_%d:GBP","amount":{"minor":1,"currency":"GBP"}},
		{"account":"merchant_pending:mer_%d:GBP","amount":{"minor":-1,"currency":"GBP"}}]}`, uuid.NewString(), merchant, merchant, merchant)
	service := *b.Shop
	service.Key = b.System.Env()["SERVICE_KEY"]
	a, err := service.Post(ctx, b.Shop.Ledger+"/v1/entries", "", body)
	return answered(a, err, http.StatusCreated)
}

// openAccounts gives so many merchants the two accounts that post writes to.
func (b *bench) openAccounts(ctx context.Context, merchants int) error {
	_, err := b.Truth.Ledger.Exec(ctx, `
		INSERT INTO accounts (id, kind, merchant_id, currency)
		SELECT kind || ':mer_' || n || ':GBP', kind, 'mer_' || n, 'GBP'
		  FROM generate_series(0, $1) n, (VALUES ('merchant_pending'), ('merchant_available')) k (kind)
		    ON CONFLICT DO NOTHING`,
		merchants-1)
	return err
}
