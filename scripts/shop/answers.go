package shop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// Definite tells whether an answer to a request at url is the last word on it.
// Everything else means "ask again with the same key": the service is in trouble
// (5xx, 429), another request with the key is at work (409 with Retry-After), or
// the work was begun and is not finished (202, pending). The 202 of an order is
// definite: to accept it was all that was asked for.
func (a Answer) Definite(url string) bool {
	switch a.Status {
	case http.StatusTooManyRequests:
		return false
	case http.StatusConflict:
		return a.Header.Get("Retry-After") == ""
	case http.StatusAccepted:
		return strings.HasSuffix(url, "/v1/orders") || !a.pending()
	}
	return a.Status > 0 && a.Status < http.StatusInternalServerError
}

func (a Answer) pending() bool {
	var work struct {
		Status string `json:"status"`
	}
	return json.Unmarshal(a.Body, &work) == nil && work.Status == "pending"
}

// String shows what is compared.
func (a Answer) String() string {
	return fmt.Sprintf("%d %s %s", a.Status, a.Header.Get("Location"), bytes.TrimSpace(a.Body))
}

// Answers holds all answers to one key against each other. The first definite one
// counts: whatever is heard later, a refusal no less than another order, must be
// the same in status, body and Location. It may be used by many at once.
type Answers struct {
	URL, Key string

	mu        sync.Mutex
	first     *Answer
	compared  int
	differing []string
}

// Heard takes one answer into account.
func (s *Answers) Heard(a Answer) {
	if !a.Definite(s.URL) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compared++
	if s.first == nil {
		s.first = &a
		return
	}
	if f := s.first; f.Status != a.Status || !bytes.Equal(f.Body, a.Body) || f.Header.Get("Location") != a.Header.Get("Location") {
		s.differing = append(s.differing, fmt.Sprintf("%s, key %s: first %s, then %s", s.URL, s.Key, f, a))
	}
}

// First is the answer that counts; nil: there was none yet.
func (s *Answers) First() *Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

// Verdict is how many answers were compared, and which were not the first one.
func (s *Answers) Verdict() (compared int, differing []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.compared, s.differing
}
