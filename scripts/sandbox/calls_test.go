package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/telemetry"
	"example.com/failwell/shared/platform/web"
)

// A listener hears question and answer of a call, its key, and that an answer was lost;
// the control port is not told of.
func TestCalls_TellOfKeyAndAnswer(t *testing.T) {
	w := start(t)
	logger, err := telemetry.Logger(t.Output(), "test", "error")
	must(t, err)
	e := web.New(web.Options{Logger: logger, Metrics: prometheus.NewRegistry()})
	over := make(chan struct{})
	heard := newCalls(over)
	e.Use(heard.watch)
	e.GET("/calls", heard.stream)
	must(t, mount(e, testSettings(), w.db, postgres.Direct(w.db), w.faults))
	server := httptest.NewServer(e)
	defer server.Close()
	defer close(over)

	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, server.URL+"/calls", nil)
	must(t, err)
	stream, err := http.DefaultClient.Do(request)
	must(t, err)
	defer stream.Body.Close() //nolint:errcheck // only read
	lines := bufio.NewScanner(stream.Body)
	next := func() (c call) {
		if !lines.Scan() {
			t.Fatal("the stream has ended:", lines.Err())
		}
		must(t, json.Unmarshal(lines.Bytes(), &c))
		return c
	}

	transfer := func() {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, server.URL+"/bank/transfers",
			strings.NewReader(`{"reference":"pyo_1","account":"a","amount":{"minor":5,"currency":"GBP"}}`))
		must(t, err)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", "k1")
		if response, err := http.DefaultClient.Do(r); err == nil {
			_ = response.Body.Close()
		}
	}
	transfer()
	asked, answered := next(), next()
	if asked.Answer || asked.Key != "k1" || !strings.Contains(asked.Body, "pyo_1") || asked.Path != "/bank/transfers" {
		t.Errorf("asked: %+v", asked)
	}
	if !answered.Answer || answered.ID != asked.ID || answered.Status != http.StatusCreated || !strings.Contains(answered.Body, "pyo_1") {
		t.Errorf("answered: %+v", answered)
	}
	w.faults.replace([]rule{{Contract: "bank.transfers", Fault: "lose_answer"}})
	transfer()
	if asked, lost := next(), next(); asked.Answer || !lost.Answer || lost.Status != 0 {
		t.Errorf("an answer that is lost: %+v, %+v", asked, lost)
	}
}
