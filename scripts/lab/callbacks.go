package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/callback"
)

type callbacksCmd struct {
	List   callbacksListCmd   `cmd:"" help:"Show the callbacks that were given up."`
	Replay callbacksReplayCmd `cmd:"" help:"Send one again, with its schedule from the start."`
}

type callbacksListCmd struct{}

type callbacksReplayCmd struct {
	ID uuid.UUID `arg:"" help:"As the list shows it."`
}

// Run shows the callbacks that were parked.
func (callbacksListCmd) Run(ctx context.Context) error {
	db, err := ordersDatabase(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	rows, err := db.Query(ctx, `
		SELECT id, merchant_id, subject, url, attempts, created_at, last_error
		  FROM callbacks
		 WHERE state = 'parked'
		 ORDER BY created_at`)
	if err != nil {
		return err
	}
	type parked struct {
		ID                     uuid.UUID
		Merchant, Subject, URL string
		Attempts               int
		Since                  time.Time
		Error                  string
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[parked])
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, p := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d tries since %s\t%s\n", p.ID, p.Merchant, p.Subject, p.URL, p.Attempts, p.Since.UTC().Format(time.RFC3339), p.Error)
	}
	fmt.Fprintf(table, "%d parked\n", len(all))
	return table.Flush()
}

// Run makes a parked callback due again.
func (c callbacksReplayCmd) Run(ctx context.Context) error {
	db, err := ordersDatabase(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	return callback.Replay(ctx, db, c.ID)
}

func ordersDatabase(ctx context.Context) (*pgxpool.Pool, error) {
	server, err := fromRun("POSTGRES_URL")
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("POSTGRES_URL: %w", err)
	}
	u.Path = "/orders"
	return pgxpool.New(ctx, u.String())
}
