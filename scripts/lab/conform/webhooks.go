package conform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Receiver are the cases for an endpoint that receives Standard Webhooks. Body
// makes a payload that the receiver understands.
var Receiver = []Case{
	{"valid", "a valid webhook is taken: 2xx", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, taken, func(*hook) {})
	}},
	{"duplicate", "the same webhook again is taken, too: 2xx", func(ctx context.Context, t *Target) error {
		h, err := t.hook(ctx)
		if err == nil {
			err = errors.Join(t.sendHook(ctx, h, taken), t.sendHook(ctx, h, taken))
		}
		return err
	}},
	{"no-signature", "without a signature it is refused: 4xx", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, refused, func(h *hook) { h.signature = "" })
	}},
	{"wrong-key", "signed with another secret it is refused: 4xx", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, refused, func(h *hook) {
			signer, _ := standardwebhooks.NewWebhook("whsec_" + strings.Repeat("A", 32))
			h.signature, _ = signer.Sign(h.id, h.at, h.body)
		})
	}},
	{"tampered-body", "with one byte changed it is refused: 4xx", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, refused, func(h *hook) { h.body = append([]byte(" "), h.body...) })
	}},
	{"tampered-id", "under another id it is refused: 4xx", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, refused, func(h *hook) { h.id = "msg_" + uuid.NewString() })
	}},
	{"too-old", "ten minutes old it is refused: 4xx", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, refused, func(h *hook) { h.resign(t, time.Now().Add(-10*time.Minute)) })
	}},
	{"from-the-future", "ten minutes early it is refused: 4xx", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, refused, func(h *hook) { h.resign(t, time.Now().Add(10*time.Minute)) })
	}},
	{"several-signatures", "one valid signature among several is enough (a secret is being exchanged): 2xx", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, taken, func(h *hook) { h.signature = "v1,bm90IHRoaXMgb25l " + h.signature })
	}},
}

type hook struct {
	id, signature string
	at            time.Time
	body          []byte
}

func (h *hook) resign(t *Target, at time.Time) {
	signer, err := standardwebhooks.NewWebhook(t.Secret)
	if err == nil {
		h.at = at
		h.signature, _ = signer.Sign(h.id, at, h.body)
	}
}

func (t *Target) hook(ctx context.Context) (*hook, error) {
	body, err := t.Body(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := standardwebhooks.NewWebhook(t.Secret); err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	h := &hook{id: "msg_" + uuid.NewString(), body: body}
	h.resign(t, time.Now())
	return h, nil
}

func taken(status int) bool   { return status >= 200 && status < 300 }
func refused(status int) bool { return status >= 400 && status < 500 }

func (t *Target) deliver(ctx context.Context, want func(int) bool, change func(*hook)) error {
	h, err := t.hook(ctx)
	if err != nil {
		return err
	}
	change(h)
	return t.sendHook(ctx, h, want)
}

func (t *Target) sendHook(ctx context.Context, h *hook, want func(int) bool) error {
	header := map[string]string{"webhook-id": h.id, "webhook-timestamp": strconv.FormatInt(h.at.Unix(), 10)}
	if h.signature != "" {
		header["webhook-signature"] = h.signature
	}
	a, err := t.post(ctx, h.body, header)
	if err == nil && !want(a.Status) {
		err = fmt.Errorf("status %d: %s", a.Status, a.Body)
	}
	return err
}

// received is what a sender has sent to our endpoint.
type received struct {
	id, timestamp, contentType string
	valid                      bool
}

// Sender listens, has the sender under test triggered, answers as each case wants,
// and looks at what comes. trigger makes it send one webhook to the URL.
func Sender(trigger func(ctx context.Context, url string) error) []Case {
	tries := func(ctx context.Context, t *Target, answers ...int) ([]received, error) {
		return listen(ctx, t.Secret, trigger, answers)
	}
	return []Case{
		{"signed", "id, timestamp and a valid signature are there; the body is JSON", func(ctx context.Context, t *Target) error {
			got, err := tries(ctx, t, 204)
			if err == nil && (!got[0].valid || got[0].id == "" || !strings.HasPrefix(got[0].contentType, "application/json")) {
				err = fmt.Errorf("%+v", got[0])
			}
			return err
		}},
		{"retried", "after 503 it comes again, under the same id, signed anew", func(ctx context.Context, t *Target) error {
			got, err := tries(ctx, t, 503, 204)
			if err == nil && (got[0].id != got[1].id || !got[1].valid) {
				err = fmt.Errorf("%+v, then %+v", got[0], got[1])
			}
			return err
		}},
		{"redirect-is-a-failure", "a redirect is not followed; it comes again", func(ctx context.Context, t *Target) error {
			_, err := tries(ctx, t, 302, 204)
			return err
		}},
	}
}

// listen collects as many tries as there are answers.
func listen(ctx context.Context, secret string, trigger func(context.Context, string) error, answers []int) ([]received, error) {
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	tries := make(chan received, 16)
	n := 0
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		status := answers[min(n, len(answers)-1)]
		n++
		if status == http.StatusFound {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(status)
		tries <- received{r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), r.Header.Get("Content-Type"), verifier.Verify(body, r.Header) == nil}
	})}
	go server.Serve(listener) //nolint:errcheck // ends by Close
	defer server.Close()      //nolint:errcheck // nobody waits for it
	if err := trigger(ctx, "http://"+listener.Addr().String()+"/webhooks"); err != nil {
		return nil, fmt.Errorf("trigger: %w", err)
	}
	var got []received
	for range answers {
		select {
		case try := <-tries:
			got = append(got, try)
		case <-time.After(30 * time.Second):
			return got, fmt.Errorf("%d tries came in 30 s, %d were waited for", len(got), len(answers))
		}
	}
	return got, nil
}
