package audit

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob" // RECEIPTS_URL=file:///…
	"gocloud.dev/gcerrors"
)

// listedAtOnce is how many documents are in our memory at a time. A page that is
// much smaller would be slow: a store of files reads the directory anew for each.
const listedAtOnce = 20_000

// documents lists what is stored, one directory after the other.
func documents(ctx context.Context, bucket *blob.Bucket) iter.Seq2[*blob.ListObject, error] {
	return func(yield func(*blob.ListObject, error) bool) {
		for directories := []string{"receipts/"}; len(directories) > 0; directories = directories[1:] {
			for token := blob.FirstPageToken; len(token) > 0; {
				page, next, err := bucket.ListPage(ctx, token, listedAtOnce, &blob.ListOptions{Prefix: directories[0], Delimiter: "/"})
				if err != nil {
					yield(nil, fmt.Errorf("list receipts: %w", err))
					return
				}
				for _, object := range page {
					if object.IsDir {
						directories = append(directories, object.Key)
					} else if !yield(object, nil) {
						return
					}
				}
				token = next
			}
		}
	}
}

// seal is the end of a document's name: its length, which is not needed here, and its SHA-256.
var seal = regexp.MustCompile(`-[0-9]+-([0-9a-f]{64})$`)

// damaged reads a document and tells whether it is another one than its name says. One that
// is gone by now is missed elsewhere, if it is missed.
func damaged(ctx context.Context, bucket *blob.Bucket, name string) (bool, error) {
	promised := seal.FindStringSubmatch(name)
	if promised == nil {
		return false, nil
	}
	body, err := bucket.ReadAll(ctx, name)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return false, nil
	}
	return fmt.Sprintf("%x", sha256.Sum256(body)) != promised[1], err
}

// stageDocuments copies the listing into a temporary table; an empty one when the
// audit was not told where the documents are. Which are older than the grace is
// decided now: those that are not may be gone when the table is looked at. Whether each is
// whole takes reading it, so it is only done when asked for.
func stageDocuments(ctx context.Context, d *Databases, conn *pgx.Conn, grace time.Duration, read bool) error {
	if _, err := conn.Exec(ctx, `CREATE TEMPORARY TABLE documents (name text, old bool, size bigint, damaged bool)`); err != nil || d.Receipts == nil {
		return err
	}
	old := time.Now().Add(-grace)
	next, stop := iter.Pull2(documents(ctx, d.Receipts))
	defer stop()
	_, err := conn.CopyFrom(ctx, pgx.Identifier{"documents"}, []string{"name", "old", "size", "damaged"}, pgx.CopyFromFunc(func() ([]any, error) {
		object, err, more := next()
		if err != nil || !more {
			return nil, err
		}
		broken := false
		if read {
			broken, err = damaged(ctx, d.Receipts, object.Key)
		}
		return []any{object.Key, object.ModTime.Before(old), object.Size, broken}, err
	}))
	if err != nil {
		return fmt.Errorf("stage documents: %w", err)
	}
	_, err = conn.Exec(ctx, `ANALYZE documents`)
	return err
}

// noDanglingReference: a confirmed order names its receipt, its payment names the
// document, the document is there and is the one that its name says (by length and digest),
// and each document that is older than the grace is named by a payment.
func (a *auditor) noDanglingReference(ctx context.Context) (int, []string, error) {
	checks := []string{`
		SELECT format('ord_%s is %s, its receipt is %L instead of rcp_%s', id, status, receipt_id, payment_id)
		  FROM orders
		 WHERE receipt_id <> 'rcp_' || payment_id
		   AND (status = 'confirmed' OR receipt_id <> '')`, `
		SELECT format('%s is captured, or its order confirmed, and it names no receipt', COALESCE(p.id, o.payment_id))
		  FROM (SELECT 'pay_' || payment_id AS payment_id FROM orders WHERE status = 'confirmed') o
		  FULL JOIN paid p ON p.id = o.payment_id
		 WHERE COALESCE(p.receipt_name, '') = ''
		   AND (o.payment_id IS NOT NULL OR p.captured)`}
	if a.Receipts != nil {
		checks = append(checks, `
		SELECT format('%s: its receipt %s is not there', p.id, p.receipt_name)
		  FROM paid p
		  LEFT JOIN documents d ON d.name = p.receipt_name
		 WHERE p.receipt_name <> ''
		   AND d.name IS NULL`, `
		SELECT format('%s: its receipt %s is damaged, it has %s bytes', p.id, d.name, d.size)
		  FROM paid p
		  JOIN documents d ON d.name = p.receipt_name
		 WHERE d.damaged`, `
		SELECT format('%s is older than the grace, and no row refers to it', d.name)
		  FROM documents d
		  LEFT JOIN paid p ON p.receipt_name = d.name
		 WHERE p.id IS NULL
		   AND d.old`)
	}
	return a.across(ctx, `
		SELECT (SELECT count(*) FROM orders WHERE status = 'confirmed') + (SELECT count(*) FROM paid WHERE captured OR receipt_name <> '')
		     + (SELECT count(*) FROM documents)`,
		checks...)
}

// sweptSoon is the longest grace at which the sweep is worth waiting for.
const sweptSoon = time.Minute

// dueForTheSweep counts documents that no row refers to and that the sweep is
// about to remove. In the lab those are all: a few seconds, and they are gone. With
// a test does not wait an hour for the young ones; those of half the
// grace are due then, because time passes between the quiet and the audit, and a
// document that is nearly old enough now would be found too old.
func dueForTheSweep(ctx context.Context, d *Databases) (due int, err error) {
	if d.Receipts == nil {
		return 0, nil
	}
	age := d.Grace / 2
	if d.Grace <= sweptSoon {
		age = 0
	}
	conn, err := pgx.ConnectConfig(ctx, d.Payments.Config().ConnConfig.Copy())
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx) //nolint:errcheck // its table is temporary
	if err := stageDocuments(ctx, d, conn, age, false); err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, `
		SELECT count(*)
		  FROM documents d
		 WHERE d.old
		   AND NOT EXISTS (SELECT FROM payments p WHERE p.receipt_name = d.name)`).Scan(&due)
	return due, err
}
