package main

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/postgres"
)

// writer commits together what arrives together: the outside world shall not be the
// bottleneck of what is measured against it.
type writer = postgres.Writer

// mount puts the three parties and the control port on one server.
func mount(e *echo.Echo, cfg settings, db *pgxpool.Pool, w writer, f *faults) error {
	card := &processor{db: db, writer: w, keyWait: cfg.KeyWait, lag: cfg.ReportLag}
	// Without a listener the events would pile up forever.
	if cfg.WebhookTarget != "" {
		card.settleAfter = &cfg.SettleAfter
	}
	shop, err := newMerchant(db, w, f, cfg.Merchants)
	if err != nil {
		return err
	}
	card.routes(e, cfg.ProcessorKey, f)
	(&bank{db: db, lag: cfg.ReportLag}).routes(e, f)
	shop.routes(e)
	f.routes(e)
	return nil
}
