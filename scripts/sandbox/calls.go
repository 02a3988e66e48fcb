package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// call is one side of a call: what was asked, or what was answered.
type call struct {
	ID       int64     `json:"id"`
	At       time.Time `json:"at"`
	Answer   bool      `json:"answer"`
	Out      bool      `json:"out"` // the processor calls, with a webhook
	Method   string    `json:"method"`
	Path     string    `json:"path"`
	Key      string    `json:"key,omitempty"`
	Status   int       `json:"status"` // of an answer; 0: the caller has got none
	Replayed bool      `json:"replayed,omitempty"`
	Body     string    `json:"body,omitempty"`
}

// calls tells those who listen of every call while it happens: the outside world's own
// word, which outlives the services that call. While no one listens it does nothing.
type calls struct {
	over <-chan struct{} // closed when the process is to end

	mu        sync.Mutex
	last      int64
	listeners map[chan call]bool
}

func newCalls(over <-chan struct{}) *calls {
	return &calls{over: over, listeners: map[chan call]bool{}}
}

// tell gives what is said a number, unless it is an answer, which has that of its
// question. A listener that does not keep up is dropped: a gap would look like silence.
func (k *calls) tell(c call) (id int64) {
	if k == nil {
		return 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if c.ID == 0 {
		k.last++
		c.ID = k.last
	}
	c.At = time.Now()
	for listener := range k.listeners {
		select {
		case listener <- c:
		default:
			delete(k.listeners, listener)
			close(listener)
		}
	}
	return c.ID
}

func (k *calls) heard() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.listeners) > 0
}

// watch tells of the calls of all contracts, and not of the control port.
func (k *calls) watch(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		contract := strings.HasPrefix(r.URL.Path, "/v1/") || strings.HasPrefix(r.URL.Path, "/bank/") || strings.HasPrefix(r.URL.Path, "/merchant/webhooks/")
		if !contract || !k.heard() {
			return next(c)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		said := call{Method: r.Method, Path: r.URL.RequestURI(), Key: r.Header.Get("Idempotency-Key"), Body: string(body)}
		said.ID = k.tell(said)
		answer := &copied{ResponseWriter: c.Response().Writer}
		c.Response().Writer = answer
		if err := next(c); err != nil {
			c.Error(err) // now, so that the answer is known here
		}
		said.Answer, said.Status, said.Body = true, c.Response().Status, answer.body.String()
		said.Replayed = c.Response().Header().Get("Idempotent-Replayed") == "true"
		k.tell(said)
		return nil
	}
}

// copied keeps a copy of an answer's body.
type copied struct {
	http.ResponseWriter
	body bytes.Buffer
}

func (w *copied) Write(b []byte) (int, error) {
	w.body.Write(b)
	return w.ResponseWriter.Write(b)
}

func (w *copied) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// stream serves GET /calls: a line of JSON for each side of a call, from now on.
func (k *calls) stream(c echo.Context) error {
	heard := make(chan call, 1000)
	k.mu.Lock()
	k.listeners[heard] = true
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.listeners, heard)
	}()
	wire := http.NewResponseController(c.Response())
	if err := wire.SetWriteDeadline(time.Time{}); err != nil {
		return err
	}
	c.Response().Header().Set("Content-Type", "application/x-ndjson")
	c.Response().WriteHeader(http.StatusOK)
	lines := json.NewEncoder(c.Response())
	for {
		if err := wire.Flush(); err != nil {
			return nil // the listener is gone
		}
		select {
		case said, more := <-heard:
			if !more || lines.Encode(said) != nil {
				return nil
			}
		case <-c.Request().Context().Done():
			return nil
		case <-k.over:
			return nil
		}
	}
}
