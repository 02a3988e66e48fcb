package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/postgres"
)

// seed puts the products of a list like `mug=Mug=1250=GBP=100;…` on every
// merchant. What is there already stays as it is: a restart must not
// refill what was sold out.
func (s *service) seed(ctx context.Context, merchants []config.Merchant, list string) error {
	if list == "" {
		return nil
	}
	for entry := range strings.SplitSeq(list, ";") {
		f := strings.Split(strings.TrimSpace(entry), "=")
		if len(f) != 5 {
			return fmt.Errorf("LAB_SEED_PRODUCTS: %q is not sku=name=minor=currency=stock", entry)
		}
		price, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			return fmt.Errorf("LAB_SEED_PRODUCTS: price of %q: %w", f[0], err)
		}
		stock, err := strconv.ParseInt(f[4], 10, 64)
		if err != nil {
			return fmt.Errorf("LAB_SEED_PRODUCTS: stock of %q: %w", f[0], err)
		}
		err = postgres.Write(ctx, s.db, func(b *pgx.Batch) {
			for _, m := range merchants {
				b.Queue(`
					INSERT INTO products (merchant_id, sku, name, price_minor, currency, available, initial)
					VALUES ($1, $2, $3, $4, $5, $6, $6)
					ON CONFLICT DO NOTHING`,
					m.ID, f[0], f[1], price, f[3], stock)
			}
		})
		if err != nil {
			return fmt.Errorf("seed product %q: %w", f[0], err)
		}
	}
	return nil
}
