package commands

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/callback"
)

// Callbacks is about the callbacks that were given up on.
type Callbacks struct {
	List   ListCallbacks  `cmd:"" help:"Show the callbacks that were given up."`
	Replay ReplayCallback `cmd:"" help:"Send one again, with its schedule from the start."`
}

// ListCallbacks shows them.
type ListCallbacks struct{}

// ReplayCallback sends one again.
type ReplayCallback struct {
	ID uuid.UUID `arg:"" help:"As the list shows it."`
}

// ParkedCallback is one that was given up on.
type ParkedCallback struct {
	ID       uuid.UUID `json:"id"`
	Merchant string    `json:"merchant"`
	Subject  string    `json:"subject"`
	URL      string    `json:"url"`
	Attempts int       `json:"attempts"`
	Since    time.Time `json:"since"`
	Error    string    `json:"error"`
}

// ParkedCallbacks are all that were given up on, the oldest first.
func (a Addresses) ParkedCallbacks(ctx context.Context) ([]ParkedCallback, error) {
	return read[ParkedCallback](ctx, a, "orders", `
		SELECT id, merchant_id, subject, url, attempts, created_at, last_error
		  FROM callbacks
		 WHERE state = 'parked'
		 ORDER BY created_at`)
}

// Run shows the callbacks that were parked.
func (ListCallbacks) Run(ctx context.Context) error {
	all, err := here.ParkedCallbacks(ctx)
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
func (c ReplayCallback) Run(ctx context.Context) error { return here.ReplayCallback(ctx, c.ID) }

// ReplayCallback makes a parked callback due again.
func (a Addresses) ReplayCallback(ctx context.Context, id uuid.UUID) error {
	at, err := a.database("orders")
	if err != nil {
		return err
	}
	db, err := pgxpool.New(ctx, at)
	if err != nil {
		return err
	}
	defer db.Close()
	return callback.Replay(ctx, db, id)
}
