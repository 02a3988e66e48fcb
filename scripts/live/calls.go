package live

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"example.com/failwell/scripts/stack"
)

// said is one side of a call, as the sandbox tells it.
type said struct {
	ID       int64
	At       time.Time
	Answer   bool
	Out      bool
	Method   string
	Path     string
	Key      string
	Status   int
	Replayed bool
	Body     string
}

// outside listens to the outside world's record of the calls to it and from it.
func outside(ctx context.Context, sandbox string, ready func(), tell func(...Event)) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, sandbox+"/calls", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // only read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the sandbox does not tell of its calls: status %d", response.StatusCode)
	}
	ready()
	for lines := json.NewDecoder(response.Body); ; {
		var s said
		if err := lines.Decode(&s); err != nil {
			return errors.Join(ctx.Err(), err)
		}
		tell(s.event())
	}
}

func (s said) event() Event {
	caller, called := "payments", "processor"
	switch {
	case s.Out:
		caller, called = "processor", "payments"
	case s.Path == "/v1/tokens":
		caller = "client" // the customer's browser
	case strings.HasPrefix(s.Path, "/bank/"):
		called = "bank"
	case strings.HasPrefix(s.Path, "/merchant/"):
		caller, called = "orders", "merchant"
	}
	return exchange(s.At, caller, called, s)
}

// exchange is the event of a question, or of its answer, which goes the other way.
func exchange(at time.Time, caller, called string, s said) Event {
	e := Event{At: at, Kind: Call, From: caller, Lane: called, Text: s.Method + " " + s.Path, More: s.Body}
	// The outside world numbers its calls, and the page's client its own: number 7 of one has nothing to do with number 7 of the other.
	e.refs = append(idsIn(s.Path, s.Key, s.Body), fmt.Sprintf("call %d of %s to %s", s.ID, caller, called))
	if s.Key != "" {
		e.Text += ", key " + s.Key
	}
	if !strings.HasPrefix(s.Path, "/v1/report") && !strings.HasPrefix(s.Path, "/bank/statement") { // about many payments
		e.links = [][]string{e.refs}
	}
	if !s.Answer {
		return e
	}
	e.Kind, e.From, e.Lane, e.Text = Answer, called, caller, fmt.Sprintf("%d to %s %s", s.Status, s.Method, s.Path)
	switch {
	case s.Status == 0:
		e.Kind, e.Text = NoAnswer, "no answer to "+s.Method+" "+s.Path
	case s.Replayed:
		e.Text += ", the recorded answer again"
	}
	return e
}

// client is the page's own HTTP client: what it asks and what it hears is the client's
// lane.
type client struct {
	http.RoundTripper
	called map[string]string // the lane of an address
	tell   func(...Event)
	last   *atomic.Int64
}

// RoundTrip tells of everything but reads, and of what is armed. Calls to the outside world
// are in its own record.
func (c client) RoundTrip(r *http.Request) (*http.Response, error) {
	called, arms := c.called[r.URL.Host], r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/faults")
	if r.Method != http.MethodPost && r.Method != http.MethodPut || called == "" || called == stack.Sandbox && !arms {
		return c.RoundTripper.RoundTrip(r)
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		if len(body) == 0 {
			r.Body = http.NoBody // or it would be sent in chunks, as one of unknown length
		}
	}
	if arms {
		c.tell(arming(called, body)...)
		return c.RoundTripper.RoundTrip(r)
	}
	s := said{ID: c.last.Add(1), Method: r.Method, Path: r.URL.RequestURI(), Key: r.Header.Get("Idempotency-Key"), Body: string(body)}
	c.tell(exchange(time.Now(), "client", called, s))
	response, err := c.RoundTripper.RoundTrip(r)
	s.Answer, s.Body = true, ""
	if err == nil {
		var answer []byte
		answer, err = io.ReadAll(response.Body)
		_ = response.Body.Close()
		response.Body = io.NopCloser(bytes.NewReader(answer))
		s.Status, s.Body, s.Replayed = response.StatusCode, string(answer), response.Header.Get("Idempotent-Replayed") == "true"
	}
	if err != nil {
		s.Status, s.Body = 0, err.Error()
	}
	c.tell(exchange(time.Now(), "client", called, s))
	return response, err
}

// arming is what a request to the fault points of a service, or to the outside world's,
// arms.
func arming(called string, body []byte) (events []Event) {
	var in struct {
		Point, Action string
		Rules         []rule
	}
	_ = json.Unmarshal(body, &in) // it is refused
	if in.Point != "" {
		events = append(events, Event{At: time.Now(), Kind: Lab, Lane: called, Text: fmt.Sprintf("armed: %s at %s", in.Action, in.Point)})
	}
	for _, r := range in.Rules {
		events = append(events, Event{At: time.Now(), Kind: Lab, Lane: r.lane(), Text: fmt.Sprintf("armed: %s at %s", r.Fault, r.Contract)})
	}
	return events
}

// lane is whose fault it is.
func (r rule) lane() string {
	switch {
	case strings.HasPrefix(r.Contract, "bank"):
		return "bank"
	case r.Contract == "merchant":
		return "merchant"
	}
	return "processor"
}
