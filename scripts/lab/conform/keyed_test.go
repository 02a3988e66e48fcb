package conform

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// red runs the cases and returns the ids of those that do not hold.
func red(t *testing.T, bug string, target *Target, cases []Case) (ids []string) {
	t.Helper()
	for _, c := range cases {
		if err := c.Run(t.Context(), target); err != nil {
			t.Logf("%s: %s: %v", bug, c.ID, err)
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// everyCaseCanFail holds the bad ones against what they must turn red, and the
// list against the bad ones: a case that none of them turns red proves nothing.
func everyCaseCanFail(t *testing.T, cases []Case, bad map[string][]string, run func(bug string) (red []string)) {
	t.Helper()
	var mu sync.Mutex
	failed := map[string]bool{}
	var all sync.WaitGroup
	for bug, want := range bad { // all at once: they spend their time waiting
		all.Go(func() {
			got := run(bug)
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(got, want) {
				t.Errorf("%s: red is %v, and should be %v", bug, got, want)
			}
			for _, id := range got {
				failed[id] = true
			}
		})
	}
	all.Wait()
	for _, c := range cases {
		if !failed[c.ID] {
			t.Errorf("nothing turns %s red", c.ID)
		}
	}
}

// How long a keyed endpoint works, and remembers.
const (
	worksFor = 400 * time.Millisecond // long enough for twenty to find it in progress
	keptFor  = time.Second
)

// keyed is an endpoint as the draft wants it, without a database, and with one bug.
type keyed struct {
	bug   string
	mu    sync.Mutex
	works atomic.Int64
	known map[string]work // by key
	asked map[string]work // by body
}

type work struct {
	body   string
	status int
	answer string
	done   bool
	ended  time.Time
}

func (k *keyed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	key, given := r.Header.Get("Idempotency-Key"), len(r.Header.Values("Idempotency-Key")) > 0
	switch {
	case !given && k.bug == "takes requests without a key", key == `""` && k.bug == "takes an empty key":
		key = fmt.Sprint("none ", k.works.Add(1))
	case !given, !quoted(key), key == `""`, len(key) > 257 && k.bug != "takes any length":
		k.refuse(w, http.StatusBadRequest)
		return
	}
	malformed := !json.Valid(body)
	if malformed && k.bug != "records refusals" {
		k.refuse(w, http.StatusBadRequest)
		return
	}
	job, mine := k.take(key, string(body), malformed)
	if mine && !job.done {
		job = k.work(key)
	}
	switch {
	case job.body != string(body) && k.bug != "does not compare":
		k.refuse(w, http.StatusUnprocessableEntity)
	case !job.done && !mine:
		k.refuse(w, http.StatusConflict)
	case !mine && k.bug == "answers with what is there now":
		k.answer(w, job.status, fmt.Sprintf(`{"id":%q,"seen":%d}`, job.answer, k.works.Add(1)))
	default:
		k.answer(w, job.status, job.answer)
	}
}

func quoted(key string) bool {
	return len(key) > 1 && strings.HasPrefix(key, `"`) && strings.HasSuffix(key, `"`)
}

// take finds the work of a key, or begins it.
func (k *keyed) take(key, body string, malformed bool) (job work, mine bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	old, known := k.known[key]
	forgotten := old.done && time.Since(old.ended) > keptFor && k.bug != "never forgets"
	if known && !forgotten && (old.done || k.bug != "looks, and then works") {
		return old, false
	}
	if alike := k.asked[body]; alike.done && k.bug == "takes the body for the key" && time.Since(alike.ended) < keptFor {
		k.known[key] = alike
		return alike, false
	}
	job = work{body: body, status: http.StatusCreated}
	if malformed {
		job.status, job.done, job.ended = http.StatusBadRequest, true, time.Now()
	}
	k.known[key] = job
	return job, true
}

func (k *keyed) work(key string) work {
	time.Sleep(worksFor)
	k.mu.Lock()
	defer k.mu.Unlock()
	job, n := k.known[key], k.works.Add(1)
	if n == 1 && k.bug == "fails when it has just started" {
		job.status = http.StatusInternalServerError
	}
	job.answer, job.done, job.ended = fmt.Sprintf(`{"id":"work_%d"}`, n), true, time.Now()
	k.known[key], k.asked[job.body] = job, job
	return job
}

func (k *keyed) answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func (k *keyed) refuse(w http.ResponseWriter, status int) {
	switch k.bug {
	case "refuses in plain text":
		w.Header().Set("Content-Type", "text/plain")
	case "none, links to its description":
		w.Header().Set("Link", `<https://example.com/keys>; rel="describedby"`)
	default:
		w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
	}
	w.WriteHeader(status)
}

func TestIdempotencyCases_EachCanFail(t *testing.T) {
	t.Parallel()
	everyCaseCanFail(t, Idempotency, map[string][]string{
		"none": nil, "none, links to its description": nil, // other ways of being right
		"takes requests without a key":   {"key-required", "errors-are-problems"},
		"takes an empty key":             {"key-empty"},
		"takes any length":               {"key-over-long"},
		"fails when it has just started": {"first-time"},
		"answers with what is there now": {"replay-equal"},
		"takes the body for the key":     {"other-key-other-work"},
		"does not compare":               {"mismatch"},
		"looks, and then works":          {"concurrent"},
		"refuses in plain text":          {"errors-are-problems"},
		"records refusals":               {"refused-is-not-recorded"},
		"never forgets":                  {"expiry"},
	}, func(bug string) []string {
		server := httptest.NewServer(&keyed{bug: bug, known: map[string]work{}, asked: map[string]work{}})
		defer server.Close()
		return red(t, bug, &Target{URL: server.URL, Retention: keptFor * 3 / 2, Body: func(context.Context) ([]byte, error) {
			return []byte(`{"amount":{"currency":"GBP","minor":100}}`), nil
		}}, Idempotency)
	})
}

// What a service does not show cannot be judged; it must not be called wrong.
func TestIdempotencyCases_WhatIsNotShownIsNotJudged(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer server.Close()
	target := &Target{URL: server.URL, Retention: time.Millisecond, Body: func(context.Context) ([]byte, error) { return []byte(`{}`), nil }}
	for _, c := range Idempotency {
		if c.ID == "other-key-other-work" || c.ID == "expiry" {
			if err := c.Run(t.Context(), target); !isNotJudged(err) {
				t.Errorf("%s: %v", c.ID, err)
			}
		}
	}
	target.Retention = 0
	if err := expiry(t.Context(), target); !isNotJudged(err) {
		t.Errorf("expiry of a retention that is not known: %v", err)
	}
}

func TestChanged_MakesAWellFormedRequest(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"amount":{"currency":"GBP","minor":100},"b":7}`: `{"amount":{"currency":"GBP","minor":101},"b":7}`,
		`{"name":"tea"}`:                    `{"conform":"another request","name":"tea"}`,
		`{"n":9007199254740993,"tax":0.25}`: `{"n":9007199254740994,"tax":0.25}`,
	} {
		got, err := changed([]byte(body))
		if err != nil || string(got) != want {
			t.Errorf("%s became %s, %v", body, got, err)
		}
	}
	if _, err := changed([]byte(`amount=100`)); err == nil {
		t.Error("what is no JSON was changed")
	}
}
