package conform

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Receiver are the cases for an endpoint that receives Standard Webhooks. Body
// makes a payload that the receiver understands.
var Receiver = []Case{
	{"valid", "a valid webhook is taken: 2xx", standard + "Delivery success and failure", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, taken, func(*hook) {})
	}},
	{"duplicate", "the same webhook again is taken, too: 2xx", standard + "Verifying signatures", func(ctx context.Context, t *Target) error {
		h, err := t.hook(ctx)
		if err == nil {
			err = errors.Join(t.sendHook(ctx, h, taken), t.sendHook(ctx, h, taken))
		}
		return err
	}},
	{"no-signature", "without a signature it is refused: 4xx", standard + "Verifying webhook authenticity", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, refused, func(h *hook) { h.signature = "" })
	}},
	{"wrong-key", "signed with another secret it is refused: 4xx", standard + "Verifying signatures", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, refused, func(h *hook) { h.sign(anotherSecret, h.at) })
	}},
	{"tampered-body", "with one byte more it is refused: 4xx", standard + "Signature scheme", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, refused, func(h *hook) { h.body = append([]byte(" "), h.body...) })
	}},
	{"tampered-id", "under another id it is refused: 4xx", standard + "Signature scheme", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, refused, func(h *hook) { h.id = "msg_" + uuid.NewString() })
	}},
	{"tampered-timestamp", "with another timestamp it is refused: 4xx", standard + "Signature scheme", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, refused, func(h *hook) { h.at = h.at.Add(-time.Second) })
	}},
	{"too-old", "signed ten minutes ago it is refused: 4xx", standard + "Verifying signatures", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, refused, func(h *hook) { h.sign(t.Secret, h.at.Add(-10*time.Minute)) })
	}},
	{"from-the-future", "signed for in ten minutes it is refused: 4xx", standard + "Verifying signatures", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, refused, func(h *hook) { h.sign(t.Secret, h.at.Add(10*time.Minute)) })
	}},
	{"several-signatures", "one valid signature among several is enough (a secret is being exchanged): 2xx", standard + "Webhook headers", func(ctx context.Context, t *Target) error {
		return t.deliver(ctx, taken, func(h *hook) { h.signature = "v1,bm90IHRoaXMgb25l " + h.signature })
	}},
}

// anotherSecret is one that no receiver has.
var anotherSecret = "whsec_" + strings.Repeat("A", 32)

type hook struct {
	id, signature string
	at            time.Time
	body          []byte
}

func (h *hook) sign(secret string, at time.Time) {
	signer, err := standardwebhooks.NewWebhook(secret)
	if err == nil { // the target's secret was looked at before
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
	h.sign(t.Secret, time.Now())
	return h, nil
}

func taken(a Answer) bool   { return a.ok() }
func refused(a Answer) bool { return a.refused() }

func (t *Target) deliver(ctx context.Context, want func(Answer) bool, change func(*hook)) error {
	h, err := t.hook(ctx)
	if err != nil {
		return err
	}
	change(h)
	return t.sendHook(ctx, h, want)
}

func (t *Target) sendHook(ctx context.Context, h *hook, want func(Answer) bool) error {
	header := map[string]string{"webhook-id": h.id, "webhook-timestamp": strconv.FormatInt(h.at.Unix(), 10)}
	if h.signature != "" {
		header["webhook-signature"] = h.signature
	}
	a, err := t.post(ctx, h.body, header)
	if err == nil && !want(a) {
		err = fmt.Errorf("status %d: %s", a.Status, a.Body)
	}
	return err
}
