package callback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"example.com/failwell/shared/platform/tracing"
)

// maxHeader bounds the headers of an answer, of which we read one.
const maxHeader = 16 << 10

// sender makes one signed POST.
type sender struct {
	filter Filter
	client *http.Client
}

func newSender(filter Filter, timeout time.Duration) sender {
	dialer := &net.Dialer{Timeout: 5 * time.Second, Control: filter.check}
	return sender{filter: filter, client: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext:         dialer.DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			MaxIdleConns:        100,
			MaxIdleConnsPerHost: perMerchant, // two, by default: the others would be opened anew for each try
			IdleConnTimeout:     30 * time.Second,
			// Go reads a megabyte of headers. Times atOnce, that is ours to give away.
			MaxResponseHeaderBytes: maxHeader,
			// No Proxy: a proxy would connect for us, past the check above.
		},
		// A redirect could lead anywhere, and a POST that follows one becomes a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// startTry begins the span of one POST, in the trace of the work that it reports. Not
// otelhttp's, which shows the whole URL, and a query may carry a secret of the merchant's.
// The merchant gets no traceparent: what we call our traces is no part of the contract.
func startTry(ctx context.Context, d claimed) (context.Context, trace.Span) {
	attributes := []attribute.KeyValue{
		semconv.HTTPRequestMethodPost, semconv.HTTPRequestResendCount(d.attempts - 1),
		attribute.String("webhook.id", "msg_"+d.ID.String()),
	}
	if u, err := url.Parse(d.URL); err == nil {
		attributes = append(attributes, semconv.ServerAddress(u.Hostname()))
	}
	return tracing.Tracer().Start(tracing.WithTraceparent(ctx, d.Traceparent), "callback",
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
}

func (s sender) send(ctx context.Context, d claimed) error {
	switch {
	case d.secret == nil:
		return fmt.Errorf("callback: secret of %s: there is no such merchant", d.MerchantID)
	case strings.TrimPrefix(*d.secret, "whsec_") == "":
		return fmt.Errorf("callback: secret of %s: it is empty", d.MerchantID) // and anybody could sign with it
	}
	if err := s.filter.CheckURL(d.URL); err != nil {
		return fmt.Errorf("%w: the URL %w", ErrRefused, err) // written before the setting was changed
	}
	signer, err := standardwebhooks.NewWebhook(*d.secret)
	if err != nil {
		return fmt.Errorf("callback: secret of %s: %w", d.MerchantID, err)
	}

	id, now := "msg_"+d.ID.String(), time.Now()
	signature, err := signer.Sign(id, now, d.Payload)
	if err != nil {
		return fmt.Errorf("callback: sign: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, bytes.NewReader(d.Payload))
	if err != nil {
		return fmt.Errorf("callback: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(standardwebhooks.HeaderWebhookID, id)
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)

	response, err := s.client.Do(request)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err // without the URL, which may carry a secret of the merchant's
	}
	if err != nil {
		return fmt.Errorf("callback: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written to it
	// Read a little, so that the connection can be used again; never all of an
	// endless answer.
	_, _ = io.CopyN(io.Discard, response.Body, 4096)
	return verdict(response)
}

// verdict: 2xx is a success and nothing else is, redirects included.
func verdict(r *http.Response) error {
	if r.StatusCode >= 200 && r.StatusCode < 300 {
		return nil
	}
	switch r.StatusCode {
	case http.StatusGone, http.StatusRequestEntityTooLarge:
		return fmt.Errorf("%w: status %d", errPermanent, r.StatusCode) // the same bytes will be as large next time
	}
	if wait, ok := parseRetryAfter(r.Header.Get("Retry-After")); ok {
		return fmt.Errorf("callback: status %d: %w", r.StatusCode, &backoff.RetryAfterError{Duration: wait})
	}
	return fmt.Errorf("callback: status %d", r.StatusCode)
}

func parseRetryAfter(value string) (time.Duration, bool) {
	// ParseUint returns the largest number there is for one that is larger.
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		// Bounded before it is multiplied: a number too large would come out negative.
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second, true //nolint:gosec // a day fits
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(at)), true
	}
	return 0, false
}

// maxError bounds what is kept of an error, in bytes: some of them quote the
// endpoint, and it may say anything at any length.
const maxError = 1024

// sanitise makes an error fit to be logged and stored. PostgreSQL refuses a zero byte
// and half a character, and with them would fail all that is recorded beside them.
func sanitise(err error) string {
	text := err.Error()
	text = text[:min(len(text), maxError)]
	return strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\x00", "?")
}
