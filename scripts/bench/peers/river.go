package main

import (
	"context"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"golang.org/x/sync/errgroup"
)

// steps is how many jobs a chain has: authorise, post the sale, capture.
const steps = 3

type stepArgs struct {
	Order int `json:"order"`
	Step  int `json:"step"`
}

func (stepArgs) Kind() string { return "step" }

// stepWorker does one step: the order's row, the next job and the end of this one
// in one transaction.
type stepWorker struct {
	river.WorkerDefaults[stepArgs]
	db   *pgxpool.Pool
	done *atomic.Int64
}

func (w *stepWorker) Work(ctx context.Context, job *river.Job[stepArgs]) error {
	err := pgx.BeginFunc(ctx, w.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE river_orders SET step = $2 WHERE id = $1`, job.Args.Order, job.Args.Step); err != nil {
			return err
		}
		if job.Args.Step < steps {
			client := river.ClientFromContext[pgx.Tx](ctx)
			if _, err := client.InsertTx(ctx, tx, stepArgs{Order: job.Args.Order, Step: job.Args.Step + 1}, nil); err != nil {
				return err
			}
		}
		_, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
		return err
	})
	if err == nil && job.Args.Step == steps {
		w.done.Add(1)
	}
	return err
}

// riverChains measures chains from the insert of their order to the end of their
// last job. One database, no broker, no outside world: less work than an order of
// ours is.
func riverChains(ctx context.Context, n int) (float64, error) {
	db, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return 0, err
	}
	defer db.Close()
	driver := riverpgxv5.New(db)
	migrator, err := rivermigrate.New(driver, nil)
	if err != nil {
		return 0, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return 0, err
	}
	if _, err := db.Exec(ctx, `CREATE TABLE IF NOT EXISTS river_orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, step int NOT NULL DEFAULT 0)`); err != nil {
		return 0, err
	}
	var done atomic.Int64
	workers := river.NewWorkers()
	river.AddWorker(workers, &stepWorker{db: db, done: &done})
	client, err := river.NewClient(driver, &river.Config{
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 100}},
		Workers: workers, FetchCooldown: river.FetchCooldownMin, FetchPollInterval: river.FetchPollIntervalMin,
	})
	if err != nil {
		return 0, err
	}
	if err := client.Start(ctx); err != nil {
		return 0, err
	}
	defer client.Stop(context.WithoutCancel(ctx)) //nolint:errcheck // measured already

	begun := time.Now()
	var placing errgroup.Group
	for from := range 32 {
		placing.Go(func() error {
			for i := from; i < n; i += 32 {
				if err := begin(ctx, db, client); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := placing.Wait(); err != nil {
		return 0, err
	}
	for done.Load() < int64(n) && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	return float64(n) / time.Since(begun).Seconds(), ctx.Err()
}

// begin writes an order and its first job in one transaction.
func begin(ctx context.Context, db *pgxpool.Pool, client *river.Client[pgx.Tx]) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		var id int
		if err := tx.QueryRow(ctx, `INSERT INTO river_orders DEFAULT VALUES RETURNING id`).Scan(&id); err != nil {
			return err
		}
		_, err := client.InsertTx(ctx, tx, stepArgs{Order: id, Step: 1}, nil)
		return err
	})
}
