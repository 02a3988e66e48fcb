package conform

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Sender are the cases for a sender of Standard Webhooks. Each listens, has the
// sender triggered, answers as it wants, and looks at what comes.
var Sender = []Case{
	{"signed", "id, timestamp and a valid signature are there; the body is JSON", standard + "Webhook headers", func(ctx context.Context, t *Target) error {
		got, err := t.tries(ctx, func([]received) int { return http.StatusNoContent })
		if err == nil && (!got[0].valid || got[0].id == "" || !strings.HasPrefix(got[0].contentType, "application/json")) {
			err = fmt.Errorf("%+v", got[0])
		}
		return err
	}},
	{"retried", "after 503 it comes again, under the same id, signed anew with the time of the new try", standard + "Webhook metadata", retried},
	{"redirect-is-a-failure", "a redirect is not followed; it comes again", standard + "Delivery success and failure", func(ctx context.Context, t *Target) error {
		_, err := t.tries(ctx, func(before []received) int {
			if len(before) == 0 {
				return http.StatusFound
			}
			return http.StatusNoContent
		})
		return err
	}},
}

// apart is how far two tries must lie apart for their timestamps, whole seconds,
// to tell whether the second was made anew.
const apart = 2500 * time.Millisecond

func retried(ctx context.Context, t *Target) error {
	got, err := t.tries(ctx, func(before []received) int {
		if len(before) == 0 || time.Since(before[0].at) < apart {
			return http.StatusServiceUnavailable
		}
		return http.StatusNoContent
	})
	if err != nil {
		return err
	}
	first, last := got[0], got[len(got)-1]
	if last.id != first.id || !last.valid {
		return fmt.Errorf("first %+v, then %+v", first, last)
	}
	// The sender's clock may be another one than ours, so spans are compared.
	signed, came := time.Duration(last.timestamp-first.timestamp)*time.Second, last.at.Sub(first.at)
	if (signed - came).Abs() > 2*time.Second {
		return fmt.Errorf("the second try came %s after the first one, and is signed as %s after it", came.Round(time.Millisecond), signed)
	}
	return nil
}

// received is one try of a sender.
type received struct {
	id, contentType string
	timestamp       int64
	valid           bool
	at              time.Time
}

const webhookPath = "/webhooks"

// tries collects what comes until answer has said 2xx. Only what comes to the
// address that the sender was told is a try.
func (t *Target) tries(ctx context.Context, answer func(before []received) int) ([]received, error) {
	verifier, err := standardwebhooks.NewWebhook(t.Secret)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", t.Listen)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // a sender may try twice at once
	var got []received
	var astray error
	end := make(chan struct{})
	finish := sync.OnceFunc(func() { close(end) })
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if r.Method != http.MethodPost || r.URL.Path != webhookPath {
			astray = fmt.Errorf("it came as %s %s", r.Method, r.URL.Path)
			finish()
			return
		}
		status := answer(got)
		timestamp, _ := strconv.ParseInt(r.Header.Get("webhook-timestamp"), 10, 64)
		got = append(got, received{
			id: r.Header.Get("webhook-id"), contentType: r.Header.Get("Content-Type"), timestamp: timestamp,
			valid: verifier.Verify(body, r.Header) == nil, at: time.Now(),
		})
		switch status {
		case http.StatusFound:
			w.Header().Set("Location", "/elsewhere")
		case http.StatusServiceUnavailable:
			w.Header().Set("Retry-After", strconv.Itoa(int(apart/time.Second)+1))
		default:
			defer finish()
		}
		w.WriteHeader(status)
	})}
	go server.Serve(listener) //nolint:errcheck // ends by Close
	defer server.Close()      //nolint:errcheck // no client waits for it
	address := t.ListenAs
	if address == "" {
		address = "http://" + listener.Addr().String()
	}
	if err := t.Trigger(ctx, strings.TrimSuffix(address, "/")+webhookPath); err != nil {
		return nil, fmt.Errorf("trigger: %w", err)
	}
	patient, cancel := context.WithTimeout(ctx, t.Patience)
	defer cancel()
	select {
	case <-end:
	case <-patient.Done():
		err = patient.Err()
	}
	mu.Lock()
	defer mu.Unlock()
	switch {
	case astray != nil:
		return nil, astray
	case err != nil:
		return nil, fmt.Errorf("it came %d times, and was expected again: %w", len(got), err)
	}
	return slices.Clone(got), nil
}
