package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"golang.org/x/sync/errgroup"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/wait"
	"example.com/failwell/shared/platform/web"
)

// eventTypes names the webhook that follows an operation.
var eventTypes = map[string]string{"capture": "charge.settled", "refund": "refund.settled"}

// webhook is what the processor sends.
type webhook struct {
	ID        string      `json:"id"`
	Type      string      `json:"type"`
	Timestamp time.Time   `json:"timestamp"`
	Data      webhookData `json:"data"`
}

type webhookData struct {
	OperationID uuid.UUID   `json:"operation_id"`
	ChargeID    string      `json:"charge_id"`
	Reference   string      `json:"reference"`
	MerchantID  string      `json:"merchant_id"`
	Amount      money.Money `json:"amount"`
}

// announce queues the webhook of an operation beside the operation: a crash
// leaves both or neither.
func announce(b *pgx.Batch, ch charge, kind string, operation uuid.UUID, minor int64, at, due time.Time) {
	id := newID()
	b.Queue(`
		INSERT INTO processor_events (id, type, charge_id, body, due_at)
		VALUES ($1, $2, $3, $4, $5)`,
		id, eventTypes[kind], ch.ID, encode(webhook{
			ID: webhookID(id), Type: eventTypes[kind], Timestamp: at,
			Data: webhookData{
				OperationID: operation, ChargeID: ch.ID, Reference: ch.Reference, MerchantID: ch.MerchantID,
				Amount: money.Money{Minor: minor, Currency: ch.Amount.Currency},
			},
		}), due)
}

// webhookID is the same on every try, so that the receiver can know a repeat.
func webhookID(id uuid.UUID) string { return "evt_" + id.String() }

const (
	sendBatch   = 32
	sendAtOnce  = 8
	sendTimeout = 5 * time.Second

	// claimFor is how long a claimed event is left to the process that claimed it. Longer
	// than a batch of time-outs takes; after a crash it is the wait.
	claimFor = time.Minute

	longestRetry = time.Minute

	// holdFor is how long a reordered webhook is held when its rule names no time.
	holdFor = time.Second
)

// sender delivers the processor's webhooks, at least once each.
type sender struct {
	db     *pgxpool.Pool
	faults *faults
	target string
	signer *standardwebhooks.Webhook
	client *http.Client
	retry  time.Duration
	calls  *calls // nil: no one hears of them
	logger *slog.Logger
}

func newSender(cfg settings, db *pgxpool.Pool, f *faults, logger *slog.Logger) (*sender, error) {
	signer, err := standardwebhooks.NewWebhook(cfg.WebhookSecret)
	if err != nil {
		return nil, fmt.Errorf("PROCESSOR_WEBHOOK_SECRET: %w", err)
	}
	return &sender{
		db: db, faults: f, target: cfg.WebhookTarget, signer: signer,
		client: web.Client(sendTimeout), retry: cfg.WebhookRetry, logger: logger,
	}, nil
}

// run sends until ctx ends.
func (s *sender) run(ctx context.Context, poll time.Duration) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		sent, err := s.runOnce(ctx)
		if err != nil && ctx.Err() == nil {
			s.logger.Warn("webhooks not sent, will try again", "error", err)
		}
		if sent == sendBatch && err == nil {
			continue // a full batch: more may be due
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// pending is an event that was claimed, and then what became of it.
type pending struct {
	id        uuid.UUID
	body      []byte
	attempts  int
	delivered bool
	dueAgain  time.Time
}

// runOnce claims what is due, sends it with no transaction open, and writes
// down what became of it.
func (s *sender) runOnce(ctx context.Context) (int, error) {
	events, err := s.claim(ctx)
	if err != nil || len(events) == 0 {
		return 0, err
	}
	var working errgroup.Group
	working.SetLimit(sendAtOnce)
	for _, e := range events {
		working.Go(func() error { s.deliver(ctx, e); return nil })
	}
	_ = working.Wait() // what came of each stands in it
	return len(events), s.conclude(context.WithoutCancel(ctx), events)
}

// claim takes what is due and puts its next try behind the time of grace, in
// one short statement: nothing is locked while the receiver takes its time.
func (s *sender) claim(ctx context.Context) ([]*pending, error) {
	rows, _ := s.db.Query(ctx, `
		UPDATE processor_events
		SET    attempts = attempts + 1,
		       due_at   = $1
		WHERE  id IN (SELECT   id
		              FROM     processor_events
		              WHERE    delivered_at IS NULL AND due_at <= $2
		              ORDER BY due_at
		              LIMIT    $3
		              FOR UPDATE SKIP LOCKED)
		RETURNING id, body, attempts`,
		time.Now().Add(claimFor), time.Now(), sendBatch)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*pending, error) {
		e := &pending{}
		return e, row.Scan(&e.id, &e.body, &e.attempts)
	})
}

// deliver makes one attempt, well or badly as the faults have it.
func (s *sender) deliver(ctx context.Context, e *pending) {
	misbehave := s.faults.next("webhooks")
	// Shifted by 16 at most: further on the doubling would overflow.
	pause := min(s.retry<<min(e.attempts-1, 16), longestRetry)
	e.dueAgain = time.Now().Add(pause)
	wait.For(ctx, misbehave.before+misbehave.after)
	switch misbehave.fault {
	case "refuse", "fail_before":
		return // the network ate it: for the receiver, the try did not happen
	case "reorder":
		// Held once at most: a rule that always strikes would otherwise hold
		// an event forever, and that is another fault.
		if e.attempts == 1 {
			if misbehave.hold == 0 {
				misbehave.hold = holdFor
			}
			e.dueAgain = time.Now().Add(misbehave.hold)
			return
		}
	case "duplicate":
		if err := s.post(ctx, e); err != nil {
			s.logger.Info("webhook not taken", "id", webhookID(e.id), "error", err)
		}
	}
	err := s.post(ctx, e)
	if err != nil {
		s.logger.Info("webhook not taken", "id", webhookID(e.id), "attempt", e.attempts, "error", err, "next_try_in", pause)
	}
	e.delivered = err == nil && misbehave.fault != "lose_answer"
}

func (s *sender) post(ctx context.Context, e *pending) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.target, bytes.NewReader(e.body))
	if err != nil {
		return err
	}
	// Signed anew for each try: a receiver refuses a timestamp that is five
	// minutes old, and a retry can be older than that.
	at := time.Now()
	signature, err := s.signer.Sign(webhookID(e.id), at, e.body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(standardwebhooks.HeaderWebhookID, webhookID(e.id))
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	said := call{Out: true, Method: http.MethodPost, Path: req.URL.Path, Key: webhookID(e.id), Body: string(e.body)}
	said.ID = s.calls.tell(said)
	said.Answer, said.Body = true, ""
	resp, err := s.client.Do(req)
	if err != nil {
		s.calls.tell(said)
		return err
	}
	said.Status = resp.StatusCode
	s.calls.tell(said)
	defer resp.Body.Close() //nolint:errcheck // nothing is read from it
	// Redirects count as failures: followed, the POST would turn into a GET.
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// conclude writes the whole batch down at once. A crash before it sends the
// batch again: at least once is all that a webhook promises.
func (s *sender) conclude(ctx context.Context, events []*pending) error {
	ctx, cancel := context.WithTimeout(ctx, workTime)
	defer cancel()
	return postgres.Write(ctx, s.db, func(b *pgx.Batch) {
		for _, e := range events {
			if e.delivered {
				b.Queue(`
					UPDATE processor_events
					SET    delivered_at = $2
					WHERE  id = $1`,
					e.id, time.Now())
				continue
			}
			b.Queue(`
				UPDATE processor_events
				SET    due_at = $2
				WHERE  id = $1`,
				e.id, e.dueAgain)
		}
	})
}
