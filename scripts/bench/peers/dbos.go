package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

// processor is the card processor of the outside world, asked as our payments asks it.
type processor struct {
	url, key string
	client   *http.Client
}

func (p processor) call(ctx context.Context, path, key string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+p.key)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", key)
	answer, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode > 299 {
		return fmt.Errorf("%s: status %d", path, answer.StatusCode)
	}
	return json.NewDecoder(answer.Body).Decode(out)
}

type order struct {
	Token string `json:"token"`
}

// pay is the workflow of one order: each call to the processor is a step, whose result is
// recorded before the next one. The keys are the same at every try.
func (p processor) pay(ctx dbos.Context, token string) (string, error) {
	order, err := dbos.GetWorkflowID(ctx)
	if err != nil {
		return "", err
	}
	step := func(name, path string, in any) (map[string]any, error) {
		return dbos.RunAsStep(ctx, func(ctx context.Context) (out map[string]any, err error) {
			err = p.call(ctx, path, order+":"+name, in, &out)
			return out, err
		}, dbos.WithStepName(name), dbos.WithStepMaxRetries(3))
	}
	method, err := step("redeem", "/v1/payment_methods", map[string]any{"token": token, "reference": order})
	if err != nil {
		return "", err
	}
	charge, err := step("authorise", "/v1/charges", map[string]any{
		"payment_method": method["payment_method"], "reference": order, "merchant_id": "mer_acme", "amount": map[string]any{"minor": 1250, "currency": "GBP"},
	})
	if err != nil {
		return "", err
	}
	_, err = step("capture", fmt.Sprintf("/v1/charges/%v/capture", charge["id"]), map[string]any{})
	return fmt.Sprint(charge["id"]), err
}

// dbosQueue measures workflows that are enqueued, and carried out by at most a hundred
// workers at the same time.
func dbosQueue(ctx context.Context, n int) (float64, error) { return dbosWorkflows(ctx, n, true) }

// dbosDirect measures workflows that start at once, in the process that takes the order.
// Nothing limits how many run at the same time.
func dbosDirect(ctx context.Context, n int) (float64, error) { return dbosWorkflows(ctx, n, false) }

// dbosWorkflows measures durable workflows of the three calls that an order of ours makes.
// Like ours they are accepted over HTTP, each once for a key, and the time ends with the
// last of them. One process, no broker, no stock, no books, no receipt, no callback.
func dbosWorkflows(ctx context.Context, n int, queued bool) (float64, error) {
	p := processor{os.Getenv("SANDBOX_URL"), os.Getenv("PROCESSOR_KEY"), &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}}
	orders := make(chan order, n)
	for range n {
		var o order
		if err := p.call(ctx, "/v1/tokens", "", map[string]string{"card": "4242424242424242"}, &o); err != nil {
			return 0, err
		}
		orders <- o
	}
	close(orders)

	root, err := dbos.NewContext(ctx, dbos.Config{AppName: "bench", DatabaseURL: os.Getenv("DATABASE_URL"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, err
	}
	dbos.RegisterWorkflow(root, p.pay)
	if err := dbos.Launch(root); err != nil {
		return 0, err
	}
	defer dbos.Shutdown(root, 5*time.Second)
	var options []dbos.WorkflowOption
	if queued {
		queue, err := dbos.RegisterQueue(root, "orders", dbos.WithWorkerConcurrency(100), dbos.WithQueueBasePollingInterval(100*time.Millisecond))
		if err != nil {
			return 0, err
		}
		options = append(options, dbos.WithQueue(queue))
	}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in order
		err := json.NewDecoder(r.Body).Decode(&in)
		if err == nil {
			_, err = dbos.RunWorkflow(root, p.pay, in.Token, append(options, dbos.WithWorkflowID(r.Header.Get("Idempotency-Key")))...)
		}
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(in)
	}))
	defer service.Close()

	begun := time.Now()
	client := processor{url: service.URL, client: p.client}
	var placing errgroup.Group
	for range 32 {
		placing.Go(func() error {
			for o := range orders {
				if err := client.call(ctx, "/orders", uuid.NewString(), o, &o); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := placing.Wait(); err != nil {
		return 0, err
	}
	are := func(status ...dbos.WorkflowStatusType) (bool, error) {
		found, err := dbos.ListWorkflows(root, dbos.WithFilterStatus(status...), dbos.WithFilterLimit(1))
		return len(found) > 0, err
	}
	for going := true; going; time.Sleep(10 * time.Millisecond) {
		if going, err = are(dbos.WorkflowStatusEnqueued, dbos.WorkflowStatusPending); err != nil {
			return 0, err
		}
	}
	elapsed := time.Since(begun)
	if failed, err := are(dbos.WorkflowStatusError, dbos.WorkflowStatusCancelled); failed || err != nil {
		return 0, fmt.Errorf("a workflow failed: %w", err)
	}
	return float64(n) / elapsed.Seconds(), nil
}
