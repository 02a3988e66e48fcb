package main

import (
	"encoding/json"
	"net/url"
	"time"

	"example.com/failwell/shared/pattern/callback"
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
func notify(o order) (*callback.Delivery, error) {
	if o.CallbackURL == "" {
		return nil, nil
	}
	payload, err := json.Marshal(notification{Type: "order." + o.Status, Timestamp: *o.FinishedAt, Data: o.view()})
	if err != nil {
		return nil, err
	}
	id, err := callback.NewID()
	if err != nil {
		return nil, err
	}
	return &callback.Delivery{
		ID: id, MerchantID: o.MerchantID, Subject: o.wireID(), URL: o.CallbackURL, Payload: payload,
	}, nil
}

// callbackURL checks the form only. Where the name leads is checked when the
// callback is sent, because it may lead somewhere else by then.
func callbackURL(raw string) error {
	if raw == "" {
		return nil
	}
	u, err := url.Parse(raw)
	switch {
	case len(raw) > maxURL || err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return invalid("callback_url", "Must be an absolute http or https URL of at most 2048 bytes.")
	case u.User != nil:
		return invalid("callback_url", "Must not carry a user name or password.")
	}
	return nil
}
