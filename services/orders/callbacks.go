package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/platform/tracing"
	"example.com/failwell/shared/platform/web"
)

const maxURL = 2048

// notification is the payload of a callback, in the shape that Standard Webhooks proposes.
type notification struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      orderView `json:"data"`
}

// notify composes the notification that o has ended; nil when its merchant asked for
// none. It is written with the end of the order and sent after the commit, so it survives
// a crash before that.
//
// Pattern: callback
func notify(ctx context.Context, o order) (*callback.Delivery, error) {
	if o.CallbackURL == "" {
		return nil, nil
	}
	// Without HTML's escapes: they would make six bytes of each & in a SKU, and a payload
	// that the merchant's endpoint refuses as too large.
	var payload bytes.Buffer
	encoder := json.NewEncoder(&payload)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(notification{Type: "order." + o.Status, Timestamp: *o.FinishedAt, Data: o.view()})
	if err != nil {
		return nil, err
	}
	return &callback.Delivery{
		ID: uuid.Must(uuid.NewV7()), MerchantID: o.MerchantID, Subject: o.wireID(), URL: o.CallbackURL, Payload: payload.Bytes(),
		Traceparent: tracing.Traceparent(ctx),
	}, nil
}

// checkCallback checks the form only. Where the name leads is checked when the callback is
// sent, because it may lead somewhere else by then.
func (s *service) checkCallback(url string) error {
	if url == "" {
		return nil
	}
	err := s.cfg.callbackFilter().CheckURL(url)
	if len(url) > maxURL {
		err = errors.New("must not be longer than 2048 bytes")
	}
	if err != nil {
		return web.Invalid("callback_url", "It "+err.Error()+".")
	}
	return nil
}
