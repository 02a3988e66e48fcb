package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The processor sends for days what it gets no 2xx for. News that no try can help is
// refused for good; a 500 would be our error, at every delivery.
func TestWebhook_WhatCannotBeStoredIsRefusedForGood(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	signer, err := standardwebhooks.NewWebhook(s.cfg.ProcessorWebhookSecret)
	if err != nil {
		t.Fatal(err)
	}
	api := s.routes(t.Context(), prometheus.NewRegistry(), nil)
	deliver := func(id string, body []byte, header ...string) int {
		t.Helper()
		now := time.Now()
		signature, err := signer.Sign(id, now, body)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/webhooks/processor", bytes.NewReader(body))
		for name, value := range map[string]string{
			"Content-Type": "application/json", "webhook-id": id, "webhook-timestamp": strconv.FormatInt(now.Unix(), 10), "webhook-signature": signature,
		} {
			r.Header.Set(name, value)
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		return w.Code
	}
	news := func(reference string) []byte {
		return fmt.Appendf(nil, `{"type":"charge.settled","timestamp":"2026-01-31T12:00:00Z","new_name":1,"data":{"reference":"%s"}}`, reference)
	}
	for what, c := range map[string]struct {
		got, want int
	}{
		"with a name that is new to us":  {deliver("msg_1", news("pay_x")), 204},
		"the same again":                 {deliver("msg_1", news("pay_x")), 204},
		"a zero byte":                    {deliver("msg_2", news(`pay_\u0000x`)), 400},
		"not UTF-8":                      {deliver("msg_3", news("pay_\xff")), 400},
		"another charset":                {deliver("msg_4", news("pay_x"), "Content-Type", "application/json; charset=latin1"), 415},
		"compressed":                     {deliver("msg_5", news("pay_x"), "Content-Encoding", "gzip"), 415},
		"a name twice":                   {deliver("msg_6", []byte(`{"type":"charge.settled","type":"refund.settled"}`)), 400},
		"a reference no index takes":     {deliver("msg_7", news(strings.Repeat("x", 9000))), 422},
		"an id no index takes":           {deliver(strings.Repeat("x", 9000), news("pay_x")), 422},
		"an id that is no text":          {deliver("msg_\xff", news("pay_x")), 422},
		"in capital letters, so no news": {deliver("msg_8", []byte(`{"TYPE":"charge.settled"}`)), 204},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", what, c.got, c.want)
		}
	}
	if n := s.count(`SELECT count(*) FROM received_events`); n != 1 {
		t.Errorf("%d stored, want the first alone", n)
	}
}
