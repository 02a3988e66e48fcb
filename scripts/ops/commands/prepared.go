package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/distributedtx"
)

// Prepared is about the transactions that are in doubt.
type Prepared struct {
	List    ListPrepared    `cmd:"" help:"Show the transactions that are prepared and wait for their decision."`
	Resolve ResolvePrepared `cmd:"" help:"End one by hand, when its coordinator is gone for good."`
}

// ListPrepared shows them.
type ListPrepared struct{}

// ResolvePrepared ends one by hand.
type ResolvePrepared struct {
	GID      string                 `arg:"" help:"The name, as the list shows it."`
	Decision distributedtx.Decision `arg:"" enum:"commit,abort" help:"commit or abort. What the coordinator has decided stands, whatever you say."`
}

// Run lists prepared transactions with the coordinator's decision on each.
func (ListPrepared) Run(ctx context.Context) error {
	server, err := connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer server.Close(ctx) //nolint:errcheck // only read
	rows, err := server.Query(ctx, `SELECT gid, database, date_trunc('second', now() - prepared)::text FROM pg_prepared_xacts ORDER BY prepared`)
	if err != nil {
		return err
	}
	type prepared struct{ GID, Database, Age string }
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[prepared])
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "name\tdatabase\tage\tdecision")
	for _, p := range all {
		decision, err := decisionOn(ctx, bare(p.GID))
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", p.GID, p.Database, p.Age, decision)
	}
	fmt.Fprintf(table, "%d prepared\n", len(all))
	return table.Flush()
}

// Run ends a prepared transaction by hand: a heuristic decision. It is written
// into the coordinator's log first, so that the coordinator, should it come back,
// and the other participants end on the same side.
func (c ResolvePrepared) Run(ctx context.Context) error {
	payments, err := connect(ctx, "payments")
	if err != nil {
		return err
	}
	defer payments.Close(ctx) //nolint:errcheck // every statement was confirmed by itself
	_, err = payments.Exec(ctx, `
		INSERT INTO twophase_decisions (gid, decision)
		VALUES ($1, $2)
		    ON CONFLICT (gid) DO NOTHING`,
		bare(c.GID), c.Decision)
	if err != nil {
		return err
	}
	decision, err := decisionOn(ctx, bare(c.GID))
	if err != nil {
		return err
	}
	if decision != string(c.Decision) {
		fmt.Printf("the coordinator has decided: %s. That is what is carried out.\n", decision)
	}
	server, err := connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer server.Close(ctx) //nolint:errcheck // only read
	var database string
	err = server.QueryRow(ctx, `SELECT database FROM pg_prepared_xacts WHERE gid = $1`, c.GID).Scan(&database)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%s is not prepared any more", c.GID)
	}
	if err != nil {
		return err
	}
	owner, err := connect(ctx, database)
	if err != nil {
		return err
	}
	defer owner.Close(ctx) //nolint:errcheck // every statement was confirmed by itself
	statement := map[string]string{"commit": "COMMIT PREPARED", "abort": "ROLLBACK PREPARED"}[decision]
	if !distributedtx.ValidGID(c.GID) {
		return fmt.Errorf("%w: %s", distributedtx.ErrGID, c.GID)
	}
	if _, err := owner.Exec(ctx, statement+" '"+c.GID+"'"); err != nil {
		return err
	}
	fmt.Printf("%s: %s\n", c.GID, decision)
	return nil
}

// decisionOn reads the coordinator's log.
func decisionOn(ctx context.Context, gid string) (string, error) {
	payments, err := connect(ctx, "payments")
	if err != nil {
		return "", err
	}
	defer payments.Close(ctx) //nolint:errcheck // only read
	var decision string
	err = payments.QueryRow(ctx, `SELECT decision FROM twophase_decisions WHERE gid = $1`, gid).Scan(&decision)
	if errors.Is(err, pgx.ErrNoRows) {
		return "none", nil
	}
	return decision, err
}

// bare is a name without the prefix of the participant.
func bare(gid string) string {
	if _, without, ok := strings.Cut(gid, ":"); ok {
		return without
	}
	return gid
}
