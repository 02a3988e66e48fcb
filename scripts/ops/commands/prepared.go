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

// PreparedTransaction is one that waits for its decision.
type PreparedTransaction struct {
	GID      string `json:"gid"`
	Database string `json:"database"`
	Age      string `json:"age"`
	Decision string `json:"decision" db:"-"` // of the coordinator; or none
}

// PreparedTransactions lists them with the coordinator's decision on each.
func (a Addresses) PreparedTransactions(ctx context.Context) ([]PreparedTransaction, error) {
	all, err := read[PreparedTransaction](ctx, a, "postgres", `SELECT gid, database, date_trunc('second', now() - prepared)::text FROM pg_prepared_xacts ORDER BY prepared`)
	if err != nil {
		return nil, err
	}
	payments, err := a.connect(ctx, "payments")
	if err != nil {
		return nil, err
	}
	defer payments.Close(ctx) //nolint:errcheck // only read
	for i := range all {
		if all[i].Decision, err = decisionOn(ctx, payments, bare(all[i].GID)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Run lists them.
func (ListPrepared) Run(ctx context.Context) error {
	all, err := here.PreparedTransactions(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "name\tdatabase\tage\tdecision")
	for _, p := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", p.GID, p.Database, p.Age, p.Decision)
	}
	fmt.Fprintf(table, "%d prepared\n", len(all))
	return table.Flush()
}

// Run ends a prepared transaction by hand.
func (c ResolvePrepared) Run(ctx context.Context) error {
	decision, err := here.ResolvePrepared(ctx, c.GID, c.Decision)
	if decision != "" && decision != c.Decision {
		fmt.Printf("the coordinator has decided: %s. That is what is carried out.\n", decision)
	}
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s\n", c.GID, decision)
	return nil
}

// ResolvePrepared ends a prepared transaction by hand: a heuristic decision. It is written
// into the coordinator's log first, so that the coordinator, should it come back,
// and the other participants end on the same side. What is carried out is what it
// returns: the coordinator may have decided otherwise.
func (a Addresses) ResolvePrepared(ctx context.Context, gid string, wanted distributedtx.Decision) (decided distributedtx.Decision, err error) {
	if !distributedtx.ValidGID(gid) {
		return "", fmt.Errorf("%w: %s", distributedtx.ErrGID, gid)
	}
	payments, err := a.connect(ctx, "payments")
	if err != nil {
		return "", err
	}
	defer payments.Close(ctx) //nolint:errcheck // every statement was confirmed by itself
	_, err = payments.Exec(ctx, `
		INSERT INTO twophase_decisions (gid, decision)
		VALUES ($1, $2)
		    ON CONFLICT (gid) DO NOTHING`,
		bare(gid), wanted)
	if err != nil {
		return "", err
	}
	decision, err := decisionOn(ctx, payments, bare(gid))
	if err != nil {
		return "", err
	}
	decided = distributedtx.Decision(decision)
	server, err := a.connect(ctx, "postgres")
	if err != nil {
		return decided, err
	}
	defer server.Close(ctx) //nolint:errcheck // only read
	var database string
	err = server.QueryRow(ctx, `SELECT database FROM pg_prepared_xacts WHERE gid = $1`, gid).Scan(&database)
	if errors.Is(err, pgx.ErrNoRows) {
		return decided, fmt.Errorf("%s is not prepared any more", gid)
	}
	if err != nil {
		return decided, err
	}
	owner, err := a.connect(ctx, database)
	if err != nil {
		return decided, err
	}
	defer owner.Close(ctx) //nolint:errcheck // every statement was confirmed by itself
	statement := map[string]string{"commit": "COMMIT PREPARED", "abort": "ROLLBACK PREPARED"}[decision]
	_, err = owner.Exec(ctx, statement+" '"+gid+"'")
	return decided, err
}

// decisionOn reads the coordinator's log.
func decisionOn(ctx context.Context, payments *pgx.Conn, gid string) (string, error) {
	var decision string
	err := payments.QueryRow(ctx, `SELECT decision FROM twophase_decisions WHERE gid = $1`, gid).Scan(&decision)
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
