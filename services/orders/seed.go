package main

import (
	"context"
	"fmt"

	"example.com/failwell/shared/platform/config"
)

// seed puts the products of a list like `mug=Mug=1250=GBP=100;…` on every
// merchant. What is there already stays as it is: a restart must not
// refill what was sold out.
func (s *service) seed(ctx context.Context, merchants []config.Merchant, list string) error {
	for _, m := range merchants {
		_, err := s.db.Exec(ctx, `
			INSERT INTO products (merchant_id, sku, name, price_minor, currency, available, initial)
			SELECT $1, f[1], f[2], f[3]::bigint, f[4], f[5]::bigint, f[5]::bigint
			  FROM regexp_split_to_table($2, ';') AS entry,
			       string_to_array(btrim(entry), '=') AS f
			 WHERE $2 <> ''
			    ON CONFLICT DO NOTHING`,
			m.ID, list)
		if err != nil {
			return fmt.Errorf("LAB_SEED_PRODUCTS: an entry reads sku=name=minor=currency=stock: %w", err)
		}
	}
	return nil
}
