package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

type loadCmd struct {
	Orders  int `default:"2000" help:"How many orders to place."`
	Clients int `default:"32" help:"How many at a time."`
}

// Validate refuses what would measure nothing.
func (c loadCmd) Validate() error {
	if c.Orders < 1 || c.Clients < 1 {
		return errors.New("at least one order and one client")
	}
	return nil
}

// Run places orders that work as fast as they are accepted, and says what one
// costs. The services and their load share this machine.
func (c loadCmd) Run(ctx context.Context) error {
	system, err := stack.Start(ctx, stack.Options{Out: os.Stdout, IgnoreGiven: true})
	if err != nil {
		return err
	}
	defer system.Close()
	truth, err := audit.Open(ctx, system.DatabaseURL, system.ReceiptsURL())
	if err != nil {
		return err
	}
	defer truth.Close()
	acme := shop.New(system.Env())
	bodies := make(chan []byte, c.Orders)
	for range c.Orders { // before the clock runs: the customer's browser does this
		token, err := acme.Token(ctx, shop.CardWorks)
		if err != nil {
			return err
		}
		bodies <- acme.Basket(token, shop.Item{SKU: "mug", Quantity: 1})
	}
	close(bodies)

	before, err := committed(ctx, truth)
	if err != nil {
		return err
	}
	begun := time.Now()
	var mu sync.Mutex
	var took []time.Duration
	refused := 0
	var clients sync.WaitGroup
	for range c.Clients {
		clients.Go(func() {
			for body := range bodies {
				sent := time.Now()
				a, err := acme.Place(ctx, uuid.NewString(), body)
				mu.Lock()
				if err == nil && a.Status == http.StatusAccepted {
					took = append(took, time.Since(sent))
				} else {
					refused++
					fmt.Fprintf(os.Stderr, "not accepted: %s, error %v\n", a, err)
				}
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	accepted := time.Since(begun)
	if refused > 0 { // there is nothing to wait for, and nothing to measure
		return fmt.Errorf("%d of %d orders were not accepted", refused, c.Orders)
	}
	if err := confirmed(ctx, truth, c.Orders); err != nil {
		return err
	}
	completed := time.Since(begun)
	if err := audit.WaitQuiet(ctx, truth); err != nil {
		return err
	}
	quiet := time.Since(begun)
	after, err := committed(ctx, truth)
	if err != nil {
		return err
	}

	slices.Sort(took)
	fmt.Printf("\n%d orders, %d clients\n", len(took), c.Clients)
	fmt.Printf("accepted   %6.0f a second   p50 %s  p99 %s\n", float64(len(took))/accepted.Seconds(),
		took[len(took)/2].Round(100*time.Microsecond), took[len(took)*99/100].Round(100*time.Microsecond))
	fmt.Printf("confirmed  %6.0f a second   the last one after %.1f s\n", float64(len(took))/completed.Seconds(), completed.Seconds())
	fmt.Printf("settled, with receipt and callback, after %.1f s\n", quiet.Seconds())
	fmt.Printf("transactions per order, reads and background work included:")
	for _, name := range []string{"orders", "payments", "ledger", "sandbox"} {
		fmt.Printf("  %s %.1f", name, float64(after[name]-before[name])/float64(len(took)))
	}
	fmt.Println()
	return nil
}

// confirmed waits until so many orders are.
func confirmed(ctx context.Context, truth *audit.Databases, orders int) error {
	for n := 0; n < orders; {
		if err := truth.Orders.QueryRow(ctx, `SELECT count(*) FROM orders WHERE status = 'confirmed'`).Scan(&n); err != nil {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// committed counts the transactions of each database. PostgreSQL tells with a
// delay of up to a second.
func committed(ctx context.Context, truth *audit.Databases) (map[string]int64, error) {
	select {
	case <-time.After(1500 * time.Millisecond):
	case <-ctx.Done():
	}
	counts := map[string]int64{}
	for name, db := range map[string]*pgxpool.Pool{"orders": truth.Orders, "payments": truth.Payments, "ledger": truth.Ledger, "sandbox": truth.Sandbox} {
		var n int64
		if err := db.QueryRow(ctx, `SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()`).Scan(&n); err != nil {
			return nil, err
		}
		counts[name] = n
	}
	return counts, nil
}
