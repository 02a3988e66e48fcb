package audit

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob" // RECEIPTS_URL=file:///…
)

// stored lists the documents that there are; nil when the audit was not told
// where they are.
func stored(ctx context.Context, d *Databases) (map[string]bool, error) {
	if d.Receipts == nil {
		return nil, nil
	}
	names := map[string]bool{}
	objects := d.Receipts.List(&blob.ListOptions{Prefix: "receipts/"})
	for {
		object, err := objects.Next(ctx)
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list receipts: %w", err)
		}
		names[object.Key] = true
	}
}

// referenced lists the documents that payments refer to.
func referenced(ctx context.Context, d *Databases) ([]string, error) {
	rows, err := d.Payments.Query(ctx, `SELECT receipt_name FROM payments WHERE receipt_name <> ''`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// noDanglingReference: every reference leads to its document, every captured
// payment has one, and nothing is stored that nobody refers to. Waiting for quiet
// has given the sweep its time.
func noDanglingReference(ctx context.Context, d *Databases) (int, []string, error) {
	checked, wrong, err := violations(ctx, d.Payments,
		`SELECT count(*) FROM payments WHERE status = 'captured'`,
		`SELECT format('pay_%s is captured and has no receipt', id) FROM payments WHERE status = 'captured' AND receipt_name = ''`)
	if err != nil {
		return 0, nil, err
	}
	documents, err := stored(ctx, d)
	if err != nil || documents == nil {
		return checked, wrong, err
	}
	names, err := referenced(ctx, d)
	if err != nil {
		return 0, nil, err
	}
	for _, name := range names {
		if !documents[name] {
			wrong = append(wrong, fmt.Sprintf("%s is referred to and is not there", name))
		}
		delete(documents, name)
	}
	for name := range documents {
		wrong = append(wrong, fmt.Sprintf("%s is stored and nobody refers to it", name))
	}
	return checked + len(names) + len(documents), wrong, nil
}

// orphans counts stored documents that nobody refers to.
func orphans(ctx context.Context, d *Databases) (int, error) {
	documents, err := stored(ctx, d)
	if err != nil || documents == nil {
		return 0, err
	}
	names, err := referenced(ctx, d)
	for _, name := range names {
		delete(documents, name)
	}
	return len(documents), err
}
